/**
 * C0 and C1 controls, DEL, and the marks that reorder or hide text: what could rewrite a terminal or make a
 * line read as another. Newline and tab included.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Text of foreign origin made safe for a terminal: what is unsafe is shown as an escape, never dropped. */
export function escapeControls(text: string): string {
  return text.replace(UNSAFE, (char) => {
    if (char === "\n") return "\\n";
    if (char === "\t") return "\\t";
    if (char === "\r") return "\\r";
    const code = char.charCodeAt(0);
    return code < 0x100
      ? `\\x${code.toString(16).padStart(2, "0")}`
      : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** As {@link escapeControls} for text of several lines, which stay lines. */
export function escapeControlsInLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.split("\t").map(escapeControls).join("\t"))
    .join("\n");
}

/** JSON of a value in which what is unsafe for a terminal is written as JSON escapes. */
export function safeJson(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, undefined, indent) ?? "null";
  // What JSON.stringify leaves raw of the unsafe set stands inside strings; newlines of the layout are ours.
  return text.replace(UNSAFE, (char) =>
    char === "\n" ? char : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

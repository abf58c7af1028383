// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is taken out.
const CONTROL_CHARACTERS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** A guest's text made safe to print: control characters but tab and newline are replaced, the rest is kept. */
export function printable(text: string): string {
  return text.replace(CONTROL_CHARACTERS, "\ufffd");
}

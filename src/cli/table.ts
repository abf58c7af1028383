import { escapeControls } from "./sanitize.ts";

/** Lays rows out in columns, three spaces apart as docker does; the last column is not padded. */
export function renderTable(rows: readonly (readonly string[])[]): string {
  const safe = rows.map((row) => row.map(escapeControls));
  const widths: number[] = [];
  for (const row of safe) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, displayWidth(cell));
    });
  }
  return safe
    .map((row) => {
      const cells = row.map((cell, column) =>
        column === row.length - 1 ? cell : cell + " ".repeat((widths[column] ?? 0) - displayWidth(cell)),
      );
      return `${cells.join("   ").trimEnd()}\n`;
    })
    .join("");
}

/** Shortens `text` to `max` characters, the last of them an ellipsis. */
export function truncate(text: string, max: number): string {
  const chars = [...text];
  return chars.length <= max ? text : `${chars.slice(0, max - 1).join("")}…`;
}

/** Shortens `text` to its last `max` characters, the first of them an ellipsis. */
export function truncateStart(text: string, max: number): string {
  const chars = [...text];
  return chars.length <= max ? text : `…${chars.slice(chars.length - max + 1).join("")}`;
}

/** East Asian wide and fullwidth characters and emoji, which terminals draw two cells wide. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

function displayWidth(text: string): number {
  // Nearly all text is ASCII, and compiling the tables of the other expressions costs a millisecond.
  if (/^[ -~]*$/.test(text)) return text.length;
  let width = 0;
  for (const char of text) width += WIDE.test(char) ? 2 : /\p{Mn}/u.test(char) ? 0 : 1;
  return width;
}

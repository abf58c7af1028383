/** Narrower than this, wrapping makes a text no easier to read. */
const MIN_COLUMNS = 60;

/**
 * A help text for a terminal of that width: paragraphs are filled anew, and what hangs beside a flag or a name goes
 * on below itself. Lines to be copied (`  $ …`) stay whole.
 */
export function fitWidth(text: string, columns: number): string {
  if (columns < MIN_COLUMNS) return text;
  return paragraphsOf(text.split("\n"))
    .flatMap((line) => wrap(line, columns))
    .join("\n");
}

/** Lines without the breaks within paragraphs; what is indented or empty is a line of its own. */
function paragraphsOf(lines: readonly string[]): readonly string[] {
  const joined: string[] = [];
  let isOpen = false;
  for (const line of lines) {
    const isText = /^\S/.test(line);
    if (isText && isOpen) joined.push(`${joined.pop()} ${line}`);
    else joined.push(line);
    isOpen = isText;
  }
  return joined;
}

function wrap(line: string, columns: number): readonly string[] {
  if (line.length <= columns || /^ +\$ /.test(line)) return [line];
  // Where the text begins: behind the last gap of a flag's or a name's line.
  const indent =
    /^ +\S.*? {2,}(?=\S(?:(?! {2}).)*$)/.exec(line)?.[0].length ?? /^ */.exec(line)?.[0].length ?? 0;
  if (indent > columns / 2) return [line];
  const lines: string[] = [];
  let current = line.slice(0, indent);
  for (const word of line.slice(indent).split(" ")) {
    if (current.length > indent && current.length + 1 + word.length > columns) {
      lines.push(current);
      current = " ".repeat(indent);
    }
    current += current.length > indent ? ` ${word}` : word;
  }
  return [...lines, current];
}

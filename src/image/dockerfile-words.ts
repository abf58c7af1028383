import { FirectlError } from "../core/errors.ts";

/**
 * Words of a Dockerfile's instructions: quotes, backslashes and variables as Docker reads them.
 * https://docs.docker.com/reference/dockerfile/#environment-replacement
 */

type Variables = ReadonlyMap<string, string>;

/** Splits at blanks outside of quotes; quotes and backslashes stay, for {@link processWord}. */
export function splitWords(text: string): readonly string[] {
  const words: string[] = [];
  let word = "";
  let quote = "";
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (quote === "" && /\s/.test(char)) {
      if (word !== "") words.push(word);
      word = "";
      continue;
    }
    word += char;
    if (char === "\\" && quote !== "'") word += text.charAt(++at);
    else if (char === quote) quote = "";
    else if (quote === "" && (char === "'" || char === '"')) quote = char;
  }
  return word === "" ? words : [...words, word];
}

/**
 * A word without its quotes and backslashes, its variables replaced.
 * @throws FirectlError INVALID_ARGUMENT for a quote or brace that is not closed.
 */
export function processWord(text: string, variables: Variables): string {
  let result = "";
  let quote = "";
  for (let at = 0; at < text.length; ) {
    const char = text.charAt(at);
    if (quote === "'" && char !== "'") {
      result += char;
      at += 1;
    } else if (char === quote) {
      quote = "";
      at += 1;
    } else if (quote === "" && (char === "'" || char === '"')) {
      quote = char;
      at += 1;
    } else if (char === "\\") {
      const next = text.charAt(at + 1);
      // Within double quotes only what has a meaning there can be escaped.
      result += quote === '"' && !'"$\\'.includes(next) ? `\\${next}` : next;
      at += 2;
    } else if (char === "$") {
      const { value, end } = replaceVariable(text, { at, variables });
      result += value;
      at = end;
    } else {
      result += char;
      at += 1;
    }
  }
  if (quote !== "") throw invalid(text, `the quote ${quote} is not closed`);
  return result;
}

function replaceVariable(
  text: string,
  options: { at: number; variables: Variables },
): { value: string; end: number } {
  const { at, variables } = options;
  if (text.charAt(at + 1) !== "{") {
    const name = /^(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#])/.exec(text.slice(at + 1))?.[0];
    if (name === undefined) return { value: "$", end: at + 1 };
    return { value: variables.get(name) ?? "", end: at + 1 + name.length };
  }
  const close = closingBrace(text, at + 1);
  const inside = text.slice(at + 2, close);
  const [, name, colon, operator, rest = ""] =
    /^([A-Za-z_][A-Za-z0-9_]*)(?:(:?)([-+?])(.*))?$/s.exec(inside) ?? [];
  if (name === undefined) throw invalid(text, `\${${inside}} is not a variable`);
  const value = variables.get(name);
  const isSet = value !== undefined && (colon !== ":" || value !== "");
  const end = close + 1;
  switch (operator) {
    case "-":
      return { value: isSet ? value : processWord(rest, variables), end };
    case "+":
      return { value: isSet ? processWord(rest, variables) : "", end };
    case "?":
      if (isSet) return { value, end };
      throw invalid(text, `${name}: ${processWord(rest, variables) || "not set"}`);
    default:
      return { value: value ?? "", end };
  }
}

function closingBrace(text: string, open: number): number {
  let depth = 0;
  for (let at = open; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === "\\") at += 1;
    else if (char === "{") depth += 1;
    else if (char === "}" && --depth === 0) return at;
  }
  throw invalid(text, "a brace is not closed");
}

function invalid(text: string, why: string): FirectlError {
  return new FirectlError("INVALID_ARGUMENT", `${JSON.stringify(text.slice(0, 80))}: ${why}`);
}

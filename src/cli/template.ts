import { FirectlError } from "../core/errors.ts";

/**
 * The part of Go's templates that people use in `--format`: fields (`{{.Field}}`, `{{.Nested.Field}}`), functions
 * ({@link FUNCTIONS}, and `{{.Label "key"}}` of docker's), `{{range .List}}…{{else}}…{{end}}`,
 * `{{if .Field}}…{{else}}…{{end}}`, parentheses, and `\t`, `\n` in the text between. No pipes, no variables.
 * https://docs.docker.com/engine/cli/formatting/, https://pkg.go.dev/text/template
 */
export type TemplatePart =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "value"; readonly expression: Expression; readonly source: string }
  | {
      readonly kind: "range" | "if";
      readonly expression: Expression;
      readonly source: string;
      readonly body: readonly TemplatePart[];
      readonly otherwise: readonly TemplatePart[];
    };

export type Expression =
  /** Fields of another value, of the one that the template is about when absent. */
  | { readonly kind: "field"; readonly of: Expression | undefined; readonly path: readonly string[] }
  | { readonly kind: "literal"; readonly value: string | number }
  | { readonly kind: "call"; readonly name: FunctionName; readonly args: readonly Expression[] };

/** Least and largest number of arguments. */
const FUNCTIONS = {
  json: [1, 1],
  len: [1, 1],
  index: [2, 9],
  join: [2, 2],
  upper: [1, 1],
  lower: [1, 1],
  not: [1, 1],
  eq: [2, 9],
  ne: [2, 2],
} as const;

export type FunctionName = keyof typeof FUNCTIONS;

const HINT =
  'write {{.Field}}, {{json .Field}}, {{index .Map "key"}}, {{range .List}}…{{end}}, {{if .Field}}…{{else}}…{{end}}: see docs/templates.md';

/**
 * Reads a template.
 * @throws FirectlError INVALID_ARGUMENT for an expression outside the subset.
 */
export function parseTemplate(template: string): readonly TemplatePart[] {
  const tokens = tokensOf(template);
  const { parts, closer } = parseBody(tokens);
  if (closer !== undefined) throw badTemplate(`{{${closer}}} closes nothing`);
  return parts;
}

export function badTemplate(what: string, hint: string = HINT): FirectlError {
  return new FirectlError("INVALID_ARGUMENT", `--format: ${what}`, { hint });
}

type Token = { readonly text: string } | { readonly action: string };

/** Texts and actions by turns, in order, the last first. */
function tokensOf(template: string): Token[] {
  const tokens: Token[] = [];
  // Two braces in a string close nothing.
  const pattern = /\{\{((?:"(?:[^"\\]|\\.)*"|`[^`]*`|(?!\}\})[^"`])*)\}\}/gy;
  let at = 0;
  for (let open = template.indexOf("{{"); open >= 0; open = template.indexOf("{{", at)) {
    pattern.lastIndex = open;
    const action = pattern.exec(template)?.[1];
    if (action === undefined) throw badTemplate(`"${template.slice(open)}" has no closing "}}"`);
    if (open > at) tokens.push({ text: unescapeText(template.slice(at, open)) });
    tokens.push({ action: action.trim() });
    at = pattern.lastIndex;
  }
  if (at < template.length) tokens.push({ text: unescapeText(template.slice(at)) });
  return tokens.reverse();
}

/** Parts up to what closes them: `end`, `else`, or undefined for the end of the template. */
function parseBody(tokens: Token[]): { parts: readonly TemplatePart[]; closer: string | undefined } {
  const parts: TemplatePart[] = [];
  for (let token = tokens.pop(); token !== undefined; token = tokens.pop()) {
    if ("text" in token) {
      parts.push({ kind: "text", text: token.text });
      continue;
    }
    const source = token.action;
    if (source === "end" || source === "else") return { parts, closer: source };
    const [, kind, rest = source] = /^(range|if)\s+(.*)$/s.exec(source) ?? [];
    const expression = parseExpression(rest, source);
    parts.push(
      kind === "range" || kind === "if"
        ? { kind, expression, source, ...parseBranches(tokens, source) }
        : { kind: "value", expression, source },
    );
  }
  return { parts, closer: undefined };
}

function parseBranches(
  tokens: Token[],
  source: string,
): { body: readonly TemplatePart[]; otherwise: readonly TemplatePart[] } {
  const { parts: body, closer } = parseBody(tokens);
  if (closer === "end") return { body, otherwise: [] };
  const last = closer === "else" ? parseBody(tokens) : undefined;
  if (last?.closer === "end") return { body, otherwise: last.parts };
  throw badTemplate(`{{${source}}} has no {{end}}`);
}

const WORD = /\s*([()]|"(?:[^"\\]|\\.)*"|`[^`]*`|-?\d+(?![\w.])|[.\w-]+)/gy;

function parseExpression(text: string, source: string): Expression {
  const words: string[] = [];
  const body = text.trimEnd();
  for (WORD.lastIndex = 0; WORD.lastIndex < body.length; ) {
    const word = WORD.exec(body)?.[1];
    if (word === undefined) throw notUnderstood(source);
    words.push(word);
  }
  words.reverse();
  const expression = parseCall(words, source);
  if (words.length > 0) throw notUnderstood(source);
  return expression;
}

/** `words`, the last first: a function with its arguments, or one operand; up to a closing parenthesis. */
function parseCall(words: string[], source: string): Expression {
  const first = words.at(-1) ?? "";
  const name = Object.hasOwn(FUNCTIONS, first) ? (first as FunctionName) : undefined;
  if (name === undefined && first !== ".Label") return parseOperand(words, source);
  words.pop();
  const args: Expression[] = [];
  while (words.length > 0 && words.at(-1) !== ")") args.push(parseOperand(words, source));
  if (name === undefined) {
    const labels: Expression = { kind: "field", of: undefined, path: ["Labels"] };
    if (args.length !== 1) throw notUnderstood(source);
    return { kind: "call", name: "index", args: [labels, ...args] };
  }
  const [min, max] = FUNCTIONS[name];
  if (args.length >= min && args.length <= max) return { kind: "call", name, args };
  throw badTemplate(`{{${source}}}: ${name} takes ${min === max ? min : `at least ${min}`} of values`);
}

function parseOperand(words: string[], source: string): Expression {
  const word = words.pop() ?? "";
  if (word === "(") {
    const inner = parseCall(words, source);
    if (words.pop() !== ")") throw notUnderstood(source);
    if (!isPath(words.at(-1)) || words.at(-1) === ".") return inner;
    return { kind: "field", of: inner, path: namesIn(words.pop() ?? "") };
  }
  if (word.startsWith('"')) return { kind: "literal", value: unescapeText(word.slice(1, -1)) };
  if (word.startsWith("`")) return { kind: "literal", value: word.slice(1, -1) };
  if (/^-?\d+$/.test(word)) return { kind: "literal", value: Number(word) };
  if (isPath(word)) return { kind: "field", of: undefined, path: namesIn(word) };
  throw notUnderstood(source);
}

function isPath(word: string | undefined): boolean {
  return word !== undefined && /^\.(?:[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)?$/.test(word);
}

function namesIn(path: string): readonly string[] {
  return path.split(".").filter((name) => name !== "");
}

function notUnderstood(source: string): FirectlError {
  return badTemplate(`{{${source}}} is not understood`);
}

function unescapeText(text: string): string {
  return text.replace(/\\([tn"\\])/g, (_, char: string) =>
    char === "t" ? "\t" : char === "n" ? "\n" : char,
  );
}

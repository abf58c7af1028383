import { FirectlError } from "../core/errors.ts";
import { escapeControls, safeJson } from "./sanitize.ts";

/**
 * The part of Go's templates that people use in `--format`: `{{.Field}}`, `{{.Nested.Field}}`, `{{json .}}`,
 * `{{json .Field}}`, `{{index .Map "key"}}`, `{{.Label "key"}}`, and `\t`, `\n` in the text between.
 * https://docs.docker.com/engine/cli/formatting/
 */
export type TemplatePart =
  | { readonly kind: "text"; readonly text: string }
  | {
      readonly kind: "value";
      readonly path: readonly string[];
      readonly json: boolean;
      readonly source: string;
    };

export type TemplateObject = Readonly<Record<string, unknown>>;

/**
 * Reads a template.
 * @throws FirectlError INVALID_ARGUMENT for an expression outside the subset.
 */
export function parseTemplate(template: string): TemplatePart[] {
  const parts: TemplatePart[] = [];
  let rest = template;
  while (rest !== "") {
    const open = rest.indexOf("{{");
    const text = open < 0 ? rest : rest.slice(0, open);
    if (text !== "") parts.push({ kind: "text", text: unescapeText(text) });
    if (open < 0) break;
    const close = rest.indexOf("}}", open);
    if (close < 0) throw badTemplate(`"${rest.slice(open)}" has no closing "}}"`);
    parts.push(parseExpression(rest.slice(open + 2, close).trim()));
    rest = rest.slice(close + 2);
  }
  return parts;
}

const PATH = String.raw`\.(?:[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)?`;
const EXPRESSION = new RegExp(String.raw`^(json\s+)?(${PATH})$`);
const LABEL = /^\.Label\s+"([^"]*)"$/;
const INDEX = new RegExp(String.raw`^index\s+(${PATH})\s+"([^"]*)"$`);

function parseExpression(source: string): TemplatePart {
  const label = LABEL.exec(source);
  if (label !== null) return { kind: "value", path: ["Labels", label[1] ?? ""], json: false, source };
  const index = INDEX.exec(source);
  if (index !== null)
    return { kind: "value", path: [...names(index[1]), index[2] ?? ""], json: false, source };
  const field = EXPRESSION.exec(source);
  if (field !== null) return { kind: "value", path: names(field[2]), json: field[1] !== undefined, source };
  throw badTemplate(`{{${source}}} is not understood`);
}

function names(path: string | undefined): string[] {
  return (path ?? "").split(".").filter((name) => name !== "");
}

/** Fills a template in; text from values has its control characters escaped. */
export function renderTemplate(parts: readonly TemplatePart[], object: TemplateObject): string {
  return parts.map((part) => (part.kind === "text" ? part.text : renderValue(part, object))).join("");
}

function renderValue(part: Extract<TemplatePart, { kind: "value" }>, object: TemplateObject): string {
  const value = lookUp(part, object);
  if (part.json) return safeJson(value);
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return `[${value.map(renderPlain).join(" ")}]`;
  return renderPlain(value);
}

function renderPlain(value: unknown): string {
  return typeof value === "object" && value !== null ? safeJson(value) : escapeControls(String(value));
}

function lookUp(part: Extract<TemplatePart, { kind: "value" }>, object: TemplateObject): unknown {
  let value: unknown = object;
  let depth = 0;
  for (const name of part.path) {
    const last = depth > 0 && depth === part.path.length - 1;
    const isMap = last && /^(index|\.Label)\b/.test(part.source);
    if (!isRecord(value)) {
      throw badTemplate(`{{${part.source}}}: .${part.path.slice(0, depth).join(".")} has no fields`);
    }
    const key = keyOf(value, name);
    // A label that this VM lacks is empty; a field that does not exist is a mistake.
    if (key === undefined && isMap) return "";
    if (key === undefined) {
      throw badTemplate(`{{${part.source}}}: there is no field ${name}`, Object.keys(value));
    }
    value = value[key];
    depth++;
  }
  return value;
}

/** The key called `name`, or spelt so but for case: our records begin fields with small letters. */
function keyOf(object: TemplateObject, name: string): string | undefined {
  if (Object.hasOwn(object, name)) return name;
  const wanted = name.toLowerCase();
  return Object.keys(object).find((key) => key.toLowerCase() === wanted);
}

function isRecord(value: unknown): value is TemplateObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unescapeText(text: string): string {
  return text.replace(/\\([tn\\])/g, (_, char: string) => (char === "t" ? "\t" : char === "n" ? "\n" : "\\"));
}

function badTemplate(what: string, fields?: readonly string[]): FirectlError {
  const hint =
    fields === undefined
      ? 'write {{.Field}}, {{json .}}, {{json .Field}} or {{index .Map "key"}}'
      : `the fields are ${fields.map((field) => `.${field}`).join(" ")}`;
  return new FirectlError("INVALID_ARGUMENT", `--format: ${what}`, { hint });
}

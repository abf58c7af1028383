import { assertNever } from "../core/assert-never.ts";
import { dockerFieldHere } from "./docker-fields.ts";
import { escapeControls, safeJson } from "./sanitize.ts";
import { badTemplate, type Expression, type FunctionName, type TemplatePart } from "./template.ts";

export type TemplateObject = Readonly<Record<string, unknown>>;

export interface RenderOptions {
  /** How a map prints that is not asked for as JSON: as JSON all the same, or as docker's lists do (`a=b,c=d`). */
  readonly maps?: "json" | "pairs";
}

/**
 * Fills a template in; text from values has its control characters escaped.
 * @throws FirectlError INVALID_ARGUMENT for a field that is not there, with those that are.
 */
export function renderTemplate(
  parts: readonly TemplatePart[],
  object: unknown,
  options: RenderOptions = {},
): string {
  return parts.map((part) => renderPart(part, object, options)).join("");
}

/** The fields of the object itself that a template names, whatever the object. */
export function fieldsIn(parts: readonly TemplatePart[]): readonly string[] {
  return parts.flatMap((part) => {
    if (part.kind === "text") return [];
    const own = fieldsOf(part.expression);
    if (part.kind === "value") return own;
    // In a range the dot is an element.
    const inside = part.kind === "if" ? fieldsIn(part.body) : [];
    return [...own, ...inside, ...fieldsIn(part.otherwise)];
  });
}

function fieldsOf(expression: Expression): readonly string[] {
  switch (expression.kind) {
    case "literal":
      return [];
    case "field":
      return expression.of === undefined ? expression.path.slice(0, 1) : fieldsOf(expression.of);
    case "call":
      return expression.args.flatMap(fieldsOf);
    default:
      return assertNever(expression);
  }
}

/** What a column of these values is about: the last field of the first one, a map's key. */
export function subjectOf(expression: Expression): string {
  switch (expression.kind) {
    case "literal":
      return String(expression.value);
    case "field":
      return expression.path.at(-1) ?? "";
    case "call": {
      const subject = expression.name === "index" ? expression.args.at(-1) : expression.args[0];
      return subject === undefined ? "" : subjectOf(subject);
    }
    default:
      return assertNever(expression);
  }
}

function renderPart(part: TemplatePart, object: unknown, options: RenderOptions): string {
  switch (part.kind) {
    case "text":
      return part.text;
    case "value":
      if (part.expression.kind === "literal") return String(part.expression.value);
      return renderValue(evaluate(part.expression, { object, source: part.source }), options);
    case "if": {
      const isTrue = truth(evaluate(part.expression, { object, source: part.source }));
      return renderTemplate(isTrue ? part.body : part.otherwise, object, options);
    }
    case "range": {
      const elements = elementsOf(evaluate(part.expression, { object, source: part.source }), part.source);
      if (elements.length === 0) return renderTemplate(part.otherwise, object, options);
      return elements.map((element) => renderTemplate(part.body, element, options)).join("");
    }
    default:
      return assertNever(part);
  }
}

function renderValue(value: unknown, options: RenderOptions): string {
  if (value === undefined || value === null) return "";
  if (value instanceof SafeText) return value.text;
  if (Array.isArray(value)) return `[${value.map(renderPlain).join(" ")}]`;
  if (isRecord(value) && options.maps === "pairs") {
    return Object.entries(value)
      .map(([key, text]) => `${escapeControls(key)}=${renderPlain(text)}`)
      .join(",");
  }
  return renderPlain(value);
}

function renderPlain(value: unknown): string {
  return typeof value === "object" && value !== null ? safeJson(value) : escapeControls(String(value));
}

/** Made of values that are escaped already, and of what the template's author wrote between. */
class SafeText {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  toString(): string {
    return this.text;
  }
}

interface Scope {
  readonly object: unknown;
  /** The action, for messages. */
  readonly source: string;
}

function evaluate(expression: Expression, scope: Scope): unknown {
  switch (expression.kind) {
    case "literal":
      return expression.value;
    case "field": {
      const { of, path } = expression;
      return lookUp(of === undefined ? scope.object : evaluate(of, scope), path, scope);
    }
    case "call":
      return call(
        expression.name,
        expression.args.map((argument) => evaluate(argument, scope)),
        scope.source,
      );
    default:
      return assertNever(expression);
  }
}

function call(name: FunctionName, [first, ...rest]: readonly unknown[], source: string): unknown {
  switch (name) {
    case "json":
      return new SafeText(safeJson(first));
    case "len":
      return typeof first === "string" ? first.length : elementsOf(first, source).length;
    case "index":
      return rest.reduce((value, key) => elementAt(value, key, source), first);
    case "join":
      return new SafeText(elementsOf(first, source).map(renderPlain).join(String(rest[0])));
    case "upper":
      return String(first ?? "").toUpperCase();
    case "lower":
      return String(first ?? "").toLowerCase();
    case "not":
      return !truth(first);
    case "eq":
      return rest.some((value) => value === first);
    case "ne":
      return rest[0] !== first;
    default:
      return assertNever(name);
  }
}

/** As in Go: what is empty, zero or not there is false. */
function truth(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return isRecord(value) ? Object.keys(value).length > 0 : Boolean(value);
}

/** The elements of a list, or a map's values by key, as Go goes through them. */
function elementsOf(value: unknown, source: string): readonly unknown[] {
  if (value === null || value === undefined) return [];
  if (Array.isArray(value)) return value;
  if (isRecord(value))
    return Object.keys(value)
      .sort()
      .map((key) => value[key]);
  throw badTemplate(`{{${source}}}: ${described(value)} has no elements`);
}

/** A key that a map lacks is empty, as a label that a VM does not have; an element that a list lacks is a mistake. */
function elementAt(value: unknown, key: unknown, source: string): unknown {
  if (Array.isArray(value)) {
    if (typeof key === "number" && key >= 0 && key < value.length) return value[key];
    throw badTemplate(
      `{{${source}}}: the list has ${value.length} elements, and none ${JSON.stringify(key)}`,
    );
  }
  if (value === null || value === undefined) return undefined;
  if (isRecord(value)) return Object.hasOwn(value, String(key)) ? value[String(key)] : undefined;
  throw badTemplate(`{{${source}}}: ${described(value)} has no elements`);
}

function lookUp(object: unknown, path: readonly string[], scope: Scope): unknown {
  let value = object;
  for (const [depth, name] of path.entries()) {
    const key = isRecord(value) ? keyOf(value, name) : undefined;
    if (isRecord(value) && key !== undefined) {
      value = value[key];
      continue;
    }
    const before = depth === 0 ? "" : `.${path.slice(0, depth).join(".")} is `;
    const why = isRecord(value)
      ? `there is no field ${name}`
      : `${before}${described(value)}${before === "" ? " has" : ", and has"} no field ${name}`;
    throw badTemplate(`{{${scope.source}}}: ${why}`, hintFor(path, { root: scope.object, value }));
  }
  return value;
}

function hintFor(
  path: readonly string[],
  { root, value }: { root: unknown; value: unknown },
): string | undefined {
  const here = isRecord(root) ? dockerFieldHere(path, root) : undefined;
  if (here !== undefined) return `docker's .${path.join(".")} is ${here} here`;
  if (isRecord(value))
    return `the fields are ${Object.keys(value)
      .map((field) => `.${field}`)
      .join(" ")}`;
  return Array.isArray(value)
    ? "write {{index .List 0}} for its first, {{range .List}}…{{end}} for each"
    : undefined;
}

/** The key called `name`, or spelt so but for case: our records begin fields with small letters. */
function keyOf(object: TemplateObject, name: string): string | undefined {
  if (Object.hasOwn(object, name)) return name;
  const wanted = name.toLowerCase();
  return Object.keys(object).find((key) => key.toLowerCase() === wanted);
}

function described(value: unknown): string {
  if (value === null || value === undefined) return "not set";
  if (Array.isArray(value)) return "a list";
  return typeof value === "string"
    ? `the word ${JSON.stringify(escapeControls(value))}`
    : `a ${typeof value}`;
}

function isRecord(value: unknown): value is TemplateObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof SafeText);
}

import { FirectlError } from "../core/errors.ts";
import type { Flags } from "./command.ts";
import { fieldsIn, renderTemplate, subjectOf, type TemplateObject } from "./render-template.ts";
import { escapeControls, safeJson } from "./sanitize.ts";
import { renderTable } from "./table.ts";
import { parseTemplate, type TemplatePart } from "./template.ts";

/** How a list is to be shown. */
export type ListFormat =
  | { readonly kind: "table" }
  | { readonly kind: "json" }
  | { readonly kind: "template"; readonly parts: readonly TemplatePart[] }
  | { readonly kind: "table-template"; readonly parts: readonly TemplatePart[] };

/** Reads `--format`: `table`, `json`, a template, or `table TEMPLATE`. */
export function parseListFormat(text: string, flag: string): ListFormat {
  if (text === "table") return { kind: "table" };
  if (text === "json") return { kind: "json" };
  if (text.startsWith("table ")) {
    return { kind: "table-template", parts: parseTemplate(text.slice("table ".length).trim()) };
  }
  if (!text.includes("{{")) {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not a format`, {
      hint: "write table, json, or a template such as '{{.ID}}\\t{{.Name}}'",
    });
  }
  return { kind: "template", parts: parseTemplate(text) };
}

/** `--format` of the commands that list. */
export const LIST_FORMAT_FLAG = {
  format: {
    kind: "value",
    placeholder: "FORMAT",
    parse: parseListFormat,
    summary: "table, json or a template",
  },
} as const satisfies Flags;

/** A list of things as a table and for programs. */
export interface ListView<Item> {
  /** Heading and cell of each column of the plain table. */
  readonly columns: readonly { readonly heading: string; readonly cell: (item: Item) => string }[];
  /** The fields of `--format`, in docker's spelling. */
  readonly fields: Readonly<Record<string, (item: Item) => unknown>>;
  /** Headings of the fields in `table TEMPLATE`, where they are not the field's name in capitals. */
  readonly headings?: Readonly<Record<string, string>>;
}

/** Labels are `a=b,c=d` there. */
const AS_DOCKER = { maps: "pairs" } as const;

/** Renders a list; JSON is one object a line, as `docker ps --format json` prints. */
export function renderList<Item>(
  items: readonly Item[],
  options: { view: ListView<Item>; format: ListFormat },
): string {
  const { view, format } = options;
  switch (format.kind) {
    case "table":
      return renderTable([
        view.columns.map((column) => column.heading),
        ...items.map((item) => view.columns.map((column) => column.cell(item))),
      ]);
    case "json":
      return items.map((item) => `${safeJson(rowOf(item, view))}\n`).join("");
    case "template":
      checkFields(format.parts, view);
      return items.map((item) => `${renderTemplate(format.parts, rowOf(item, view), AS_DOCKER)}\n`).join("");
    case "table-template": {
      checkFields(format.parts, view);
      const lines = items.map((item) => renderTemplate(format.parts, rowOf(item, view), AS_DOCKER));
      return renderTable([headingLine(format.parts, view), ...lines].map((line) => line.split("\t")));
    }
  }
}

function rowOf<Item>(item: Item, view: ListView<Item>): TemplateObject {
  return Object.fromEntries(Object.entries(view.fields).map(([name, read]) => [name, read(item)]));
}

/** A wrong field is reported for an empty list too. */
function checkFields<Item>(parts: readonly TemplatePart[], view: ListView<Item>): void {
  const known = Object.keys(view.fields);
  for (const name of fieldsIn(parts)) {
    if (known.some((field) => field.toLowerCase() === name.toLowerCase())) continue;
    throw new FirectlError("INVALID_ARGUMENT", `--format: there is no field ${escapeControls(name)}`, {
      hint: `the fields are ${known.map((field) => `.${field}`).join(" ")}`,
    });
  }
}

function headingLine<Item>(parts: readonly TemplatePart[], view: ListView<Item>): string {
  return parts
    .map((part) => {
      if (part.kind === "text") return part.text;
      const name = subjectOf(part.expression);
      return view.headings?.[name] ?? name.toUpperCase();
    })
    .join("");
}

import type { CommandContext } from "./command.ts";
import type { ListFormat } from "./output.ts";
import { renderTemplate, type TemplateObject } from "./render-template.ts";
import { safeJson } from "./sanitize.ts";

/** Prints what `look` finds of each name, as `inspect` of docker does; returns the status of the first failure. */
export async function inspectEach(
  names: readonly string[],
  options: {
    readonly context: CommandContext;
    readonly format: ListFormat | undefined;
    readonly look: (name: string) => Promise<TemplateObject>;
  },
): Promise<number> {
  const { context, format, look } = options;
  const found: TemplateObject[] = [];
  let status = 0;
  for (const name of names) {
    try {
      found.push(await look(name));
    } catch (error) {
      const failure = context.reportFailure(error);
      if (status === 0) status = failure;
    }
  }
  context.io.stdout.write(textOf(found, format));
  return status;
}

function textOf(found: readonly TemplateObject[], format: ListFormat | undefined): string {
  switch (format?.kind) {
    case "template":
      return found.map((object) => `${renderTemplate(format.parts, object)}\n`).join("");
    case "json":
      return found.map((object) => `${safeJson(object)}\n`).join("");
    default:
      return `${safeJson(found, 4)}\n`;
  }
}

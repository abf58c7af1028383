import { type Command, defineCommand } from "../command.ts";
import { parseListFormat } from "../output.ts";
import { safeJson } from "../sanitize.ts";
import { renderTemplate, type TemplateObject } from "../template.ts";

export const inspect: Command = defineCommand({
  name: "inspect",
  summary: "Print everything that is on record about VMs, as JSON",
  arguments: "VM [VM...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    format: {
      kind: "value",
      short: "f",
      placeholder: "FORMAT",
      parse: parseListFormat,
      summary: "json (one line a VM), or a template such as '{{.exitCode}}'",
    },
  },
  examples: ["firectl inspect web", "firectl inspect -f '{{.state}} {{.exitCode}}' job"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    const found: TemplateObject[] = [];
    let status = 0;
    for (const vm of args) {
      try {
        found.push(await operations.inspect(vm));
      } catch (error) {
        const failure = context.reportFailure(error);
        if (status === 0) status = failure;
      }
    }
    const { format } = flags;
    const text =
      format?.kind === "template"
        ? found.map((record) => `${renderTemplate(format.parts, record)}\n`).join("")
        : format?.kind === "json"
          ? found.map((record) => `${safeJson(record)}\n`).join("")
          : `${safeJson(found, 4)}\n`;
    context.io.stdout.write(text);
    return status;
  },
});

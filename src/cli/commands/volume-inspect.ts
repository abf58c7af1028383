import { type Command, defineCommand } from "../command.ts";
import { parseListFormat } from "../output.ts";
import { safeJson } from "../sanitize.ts";
import { renderTemplate, type TemplateObject } from "../template.ts";
import { inspectedVolume } from "../volume-view.ts";

export const volumeInspect: Command = defineCommand({
  name: "volume inspect",
  summary: "Print everything that is known about volumes, as JSON",
  arguments: "VOLUME [VOLUME...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    format: {
      kind: "value",
      short: "f",
      placeholder: "FORMAT",
      parse: parseListFormat,
      summary: "json (one line each), or a template such as '{{.Mountpoint}}'",
    },
  },
  examples: ["firectl volume inspect data", "firectl volume inspect -f '{{.Mountpoint}}' data"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    const found: TemplateObject[] = [];
    let status = 0;
    for (const name of args) {
      try {
        found.push(inspectedVolume(await operations.inspectVolume(name)));
      } catch (error) {
        const failure = context.reportFailure(error);
        if (status === 0) status = failure;
      }
    }
    const { format } = flags;
    const text =
      format?.kind === "template"
        ? found.map((volume) => `${renderTemplate(format.parts, volume)}\n`).join("")
        : format?.kind === "json"
          ? found.map((volume) => `${safeJson(volume)}\n`).join("")
          : `${safeJson(found, 4)}\n`;
    context.io.stdout.write(text);
    return status;
  },
});

import { type Command, defineCommand } from "../command.ts";
import { inspectEach } from "../inspect-each.ts";
import { parseListFormat } from "../output.ts";
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
    return inspectEach(args, {
      context,
      format: flags.format,
      look: async (name) => inspectedVolume(await operations.inspectVolume(name)),
    });
  },
});

import { type Command, defineCommand } from "../command.ts";
import { safeJson } from "../sanitize.ts";
import { renderTable } from "../table.ts";
import { firectlVersion } from "../version.ts";

export const version: Command = defineCommand({
  name: "version",
  summary: "Print the versions of firectl and of what it runs on",
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {},
  examples: ["firectl version"],
  async handler(_input, context) {
    const versions = {
      firectl: firectlVersion(),
      node: process.versions.node,
      platform: `${process.platform}/${process.arch}`,
    };
    context.io.stdout.write(context.json ? `${safeJson(versions)}\n` : renderTable(Object.entries(versions)));
    return 0;
  },
});

import { type Command, defineCommand } from "../command.ts";
import { LIST_FORMAT_FLAG, renderList } from "../output.ts";
import { escapeControls } from "../sanitize.ts";
import { matchesVolumeFilters, VOLUME_VIEW, volumeFilter } from "../volume-view.ts";

const parseFilter = volumeFilter(["name", "label", "dangling", "driver"]);

export const volumeLs: Command = defineCommand({
  name: "volume ls",
  aliases: ["volume list"],
  summary: "List volumes",
  description: "DISK is what a volume takes on this machine's disk, SIZE what it may grow to.",
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    filter: {
      kind: "list",
      short: "f",
      placeholder: "KEY=VALUE",
      parse: parseFilter,
      summary: "Only with this name, label or driver, or dangling=true: those that no VM has",
    },
    ...LIST_FORMAT_FLAG,
    quiet: { kind: "boolean", short: "q", summary: "Print names only" },
  },
  examples: ["firectl volume ls -f dangling=true", "firectl volume ls --format '{{.Name}}\\t{{.Size}}'"],
  async handler({ flags, given }, context) {
    const all = await (await context.firectl()).listVolumes();
    const found = all.filter((volume) => matchesVolumeFilters(volume, flags.filter));
    const format = flags.format ?? { kind: context.json ? "json" : "table" };
    const text =
      flags.quiet && !given.has("format")
        ? found.map(({ name }) => `${escapeControls(name)}\n`).join("")
        : renderList(found, { view: VOLUME_VIEW, format });
    context.io.stdout.write(text);
    return 0;
  },
});

import { formatSize } from "../../core/units.ts";
import { type Command, defineCommand } from "../command.ts";
import { confirm } from "../confirm.ts";
import { escapeControls, safeJson } from "../sanitize.ts";
import { matchesVolumeFilters, volumeFilter } from "../volume-view.ts";

const parseFilter = volumeFilter(["label", "label!"]);

export const volumePrune: Command = defineCommand({
  name: "volume prune",
  summary: "Remove volumes that no VM has",
  description: "Removes anonymous volumes; with --all those with a name, too. Stopped VMs keep theirs.",
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    all: { kind: "boolean", short: "a", summary: "Remove volumes with a name, too" },
    filter: {
      kind: "list",
      placeholder: "KEY=VALUE",
      parse: parseFilter,
      summary: "Only volumes with (label=) or without (label!=) a label",
    },
    force: { kind: "boolean", short: "f", summary: "Do not ask" },
  },
  examples: ["firectl volume prune", "firectl volume prune -a -f --filter label!=keep"],
  async handler({ flags }, context) {
    const which = flags.all ? "volumes" : "anonymous volumes";
    if (!flags.force && !(await confirm(`This removes all ${which} that no VM has.\nGo on?`, context))) {
      context.io.stderr.write("Nothing was removed.\n");
      return 0;
    }
    const report = await (await context.firectl()).pruneVolumes({
      all: flags.all,
      filter: (volume) => matchesVolumeFilters(volume, flags.filter),
    });
    context.io.stdout.write(
      context.json
        ? `${safeJson(report)}\n`
        : [
            ...(report.volumes.length === 0
              ? []
              : ["Deleted Volumes:", ...report.volumes.map(({ name }) => name), ""]),
            `Total reclaimed space: ${formatSize(report.reclaimedBytes)}`,
          ]
            .map((line) => `${escapeControls(line)}\n`)
            .join(""),
    );
    for (const reason of report.postponed) context.io.stderr.write(`firectl: ${escapeControls(reason)}\n`);
    return 0;
  },
});

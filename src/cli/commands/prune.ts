import { FirectlError } from "../../core/errors.ts";
import { formatSize } from "../../core/units.ts";
import type { PruneReport } from "../../manager/api.ts";
import { type Command, defineCommand } from "../command.ts";
import { confirm } from "../confirm.ts";
import { defined } from "../defined.ts";
import { escapeControls, safeJson } from "../sanitize.ts";
import { parseMoment } from "../values.ts";
import { shortenDigests } from "../vm-view.ts";

/** Reads `until=TIME` of `--filter`; milliseconds since the Unix epoch. */
function parseUntil(text: string, flag: string): number {
  const value = /^until=(.+)$/.exec(text)?.[1];
  if (value === undefined) {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not a filter`, {
      hint: "write until=TIME, for example until=24h",
    });
  }
  return Number(parseMoment(value, `${flag} until`) / 1_000_000n);
}

const KINDS = {
  image: "image",
  blob: "blobs",
  filesystem: "filesystem",
  vm: "disk",
  volume: "volume",
  kernel: "kernel",
  cache: "cache",
  download: "interrupted downloads",
} as const satisfies Record<PruneReport["items"][number]["kind"], string>;

export const prune: Command = defineCommand({
  name: "prune",
  summary: "Remove what nobody can use any more",
  description: [
    "Removes images without a name, filesystems without an image, blobs, interrupted downloads and stale",
    "caches; with --all every image that no VM uses, too. What a VM uses stays, whether it runs or not;",
    "VMs themselves are removed with firectl rm.",
  ].join("\n"),
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    all: { kind: "boolean", short: "a", summary: "Remove all images that no VM uses, named ones too" },
    filter: {
      kind: "value",
      placeholder: "until=TIME",
      parse: parseUntil,
      summary: "Only images made before TIME, and files written before it",
    },
    force: { kind: "boolean", short: "f", summary: "Do not ask" },
    volumes: { kind: "boolean", summary: "Remove anonymous volumes that no VM has, too" },
  },
  examples: ["firectl prune", "firectl prune -a -f", "firectl prune -a --filter until=720h"],
  async handler({ flags }, context) {
    if (!flags.force && !(await confirm(question(flags), context))) {
      context.io.stderr.write("Nothing was removed.\n");
      return 0;
    }
    const report = await (await context.firectl()).prune({
      all: flags.all,
      volumes: flags.volumes,
      ...defined({ untilMs: flags.filter }),
    });
    context.io.stdout.write(context.json ? `${safeJson(report)}\n` : reportText(report));
    for (const reason of report.postponed) context.io.stderr.write(`firectl: ${escapeControls(reason)}\n`);
    return 0;
  },
});

function question({ all, volumes }: { all: boolean; volumes: boolean }): string {
  return [
    "This removes",
    `  - images ${all ? "" : "without a name "}that no VM uses`,
    "  - filesystems, blobs, interrupted downloads and caches that nothing needs",
    ...(volumes ? ["  - anonymous volumes that no VM has"] : []),
    "Go on?",
  ].join("\n");
}

function reportText({ images, items, reclaimedBytes }: PruneReport): string {
  const lines = images.flatMap(({ untagged, deleted }) => [
    ...untagged.map((name) => `Untagged: ${name}`),
    ...deleted.map((digest) => `Deleted: ${digest}`),
  ]);
  const others = items.map(
    ({ kind, name, bytes }) => `Deleted ${KINDS[kind]}: ${shortenDigests(name)} (${formatSize(bytes)})`,
  );
  return [...lines, ...others, `Total reclaimed space: ${formatSize(reclaimedBytes)}`]
    .map((line) => `${escapeControls(line)}\n`)
    .join("");
}

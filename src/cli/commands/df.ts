import { formatSize } from "../../core/units.ts";
import type { DiskUsageItem, DiskUsageKind } from "../../manager/api.ts";
import { type Command, defineCommand } from "../command.ts";
import { LIST_FORMAT_FLAG, type ListView, renderList } from "../output.ts";
import { shortenDigests } from "../vm-view.ts";

/** In the order of the table. */
const TYPES = [
  { kind: "image", type: "Images" },
  { kind: "filesystem", type: "Filesystems" },
  { kind: "vm", type: "VM disks" },
  { kind: "volume", type: "Volumes" },
  { kind: "kernel", type: "Kernels" },
  { kind: "cache", type: "Caches" },
  { kind: "blob", type: "Unnamed blobs" },
  { kind: "download", type: "Downloads" },
] as const satisfies readonly { kind: DiskUsageKind; type: string }[];

interface Row {
  readonly type: string;
  readonly total: number;
  readonly inUse: number;
  readonly bytes: number;
  readonly reclaimableBytes: number;
}

const SUMMARY: ListView<Row> = {
  columns: [
    { heading: "TYPE", cell: ({ type }) => type },
    { heading: "TOTAL", cell: ({ total }) => String(total) },
    { heading: "IN USE", cell: ({ inUse }) => String(inUse) },
    { heading: "SIZE", cell: ({ bytes }) => formatSize(bytes) },
    { heading: "RECLAIMABLE", cell: reclaimable },
  ],
  fields: {
    Type: ({ type }) => type,
    TotalCount: ({ total }) => total,
    Active: ({ inUse }) => inUse,
    Size: ({ bytes }) => formatSize(bytes),
    SizeBytes: ({ bytes }) => bytes,
    Reclaimable: reclaimable,
    ReclaimableBytes: ({ reclaimableBytes }) => reclaimableBytes,
  },
  headings: { TotalCount: "TOTAL", Active: "IN USE" },
};

const DETAILS: ListView<DiskUsageItem> = {
  columns: [
    { heading: "TYPE", cell: ({ kind }) => kind },
    { heading: "SIZE", cell: ({ bytes }) => formatSize(bytes) },
    { heading: "IN USE", cell: ({ inUse }) => (inUse ? "yes" : "no") },
    { heading: "NAME", cell: ({ name }) => shortenDigests(name) },
  ],
  fields: {
    Type: ({ kind }) => kind,
    Name: ({ name }) => name,
    Size: ({ bytes }) => formatSize(bytes),
    SizeBytes: ({ bytes }) => bytes,
    InUse: ({ inUse }) => inUse,
  },
  headings: { InUse: "IN USE" },
};

export const df: Command = defineCommand({
  name: "df",
  summary: "Show what takes space on this machine's disk",
  description: [
    "Sizes are real blocks: what is sparse counts with what is in it, and what images share counts once.",
    "RECLAIMABLE is what removing the unused gives back: firectl prune -a for images, filesystems, caches",
    "and downloads, firectl rm for the disks of VMs that have ended, firectl volume rm for volumes, firectl",
    "kernel rm for kernels.",
  ].join("\n"),
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    ...LIST_FORMAT_FLAG,
    verbose: { kind: "boolean", short: "v", summary: "List every image, filesystem, disk…" },
  },
  examples: ["firectl df", "firectl df -v", "firectl df --format '{{.Type}}\\t{{.Reclaimable}}'"],
  async handler({ flags }, context) {
    const items = await (await context.firectl()).diskUsage();
    const format = flags.format ?? { kind: context.json ? "json" : "table" };
    const text = flags.verbose
      ? renderList(inOrder(items), { view: DETAILS, format })
      : renderList(summaryOf(items), { view: SUMMARY, format });
    context.io.stdout.write(text);
    return 0;
  },
});

function summaryOf(items: readonly DiskUsageItem[]): readonly Row[] {
  return TYPES.map(({ kind, type }) => {
    const ofKind = items.filter((item) => item.kind === kind);
    return {
      type,
      total: ofKind.length,
      inUse: ofKind.filter(({ inUse }) => inUse).length,
      bytes: sum(ofKind),
      reclaimableBytes: sum(ofKind.filter(({ inUse }) => !inUse)),
    };
  });
}

function inOrder(items: readonly DiskUsageItem[]): readonly DiskUsageItem[] {
  return TYPES.flatMap(({ kind }) =>
    items.filter((item) => item.kind === kind).sort((a, b) => b.bytes - a.bytes),
  );
}

function reclaimable({ bytes, reclaimableBytes }: Row): string {
  const share = bytes === 0 ? 0 : Math.floor((reclaimableBytes / bytes) * 100);
  return reclaimableBytes === 0 ? "0B" : `${formatSize(reclaimableBytes)} (${share}%)`;
}

function sum(items: readonly DiskUsageItem[]): number {
  return items.reduce((total, { bytes }) => total + bytes, 0);
}

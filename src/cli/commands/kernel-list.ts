import { formatSize } from "../../core/units.ts";
import type { KernelSummary } from "../../manager/api.ts";
import { type Command, defineCommand } from "../command.ts";
import { LIST_FORMAT_FLAG, type ListView, renderList } from "../output.ts";
import { ago } from "../time-text.ts";

/** What firectl does differently where a kernel has it; all of them are in --format json. */
const NOTABLE = ["pmem", "dax", "virtiofs", "memory-hotplug", "vmgenid", "containers", "btf"];

function notableFeatures({ features }: KernelSummary): string {
  if (features === undefined) return "unknown";
  return NOTABLE.filter((name) => features.includes(name)).join(",");
}

const KERNEL_VIEW: ListView<KernelSummary> = {
  columns: [
    { heading: "NAME", cell: (kernel) => kernel.name },
    { heading: "VERSION", cell: (kernel) => kernel.version },
    { heading: "DEFAULT", cell: (kernel) => (kernel.isDefault ? "*" : "") },
    { heading: "ADDED", cell: (kernel) => ago(kernel.addedAt) },
    { heading: "SIZE", cell: (kernel) => formatSize(kernel.sizeBytes) },
    { heading: "MODULES", cell: (kernel) => String(kernel.modules.length) },
    { heading: "FEATURES", cell: notableFeatures },
  ],
  fields: {
    Name: (kernel) => kernel.name,
    Version: (kernel) => kernel.version,
    Default: (kernel) => kernel.isDefault,
    AddedAt: (kernel) => kernel.addedAt,
    SizeBytes: (kernel) => kernel.sizeBytes,
    Path: (kernel) => kernel.path,
    Modules: (kernel) => kernel.modules,
    Features: (kernel) => kernel.features ?? null,
  },
};

export const kernelList: Command = defineCommand({
  name: "kernel list",
  aliases: ["kernel ls"],
  summary: "List the guest kernels",
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    ...LIST_FORMAT_FLAG,
    quiet: { kind: "boolean", short: "q", summary: "Print names only" },
  },
  examples: ["firectl kernel list"],
  async handler({ flags }, context) {
    const kernels = await (await context.firectl()).listKernels();
    const format = flags.format ?? { kind: context.json ? "json" : "table" };
    context.io.stdout.write(
      flags.quiet
        ? kernels.map((kernel) => `${kernel.name}\n`).join("")
        : renderList(kernels, { view: KERNEL_VIEW, format }),
    );
    return 0;
  },
});

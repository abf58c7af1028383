import { assertNever } from "../core/assert-never.ts";
import { MIB } from "../core/units.ts";
import { familiarName } from "../image/image-names.ts";
import type { VmSummary } from "../manager/api.ts";
import type { ListView } from "./output.ts";
import { portsText } from "./ports-view.ts";
import { truncate, truncateStart } from "./table.ts";
import { ago, humanDuration } from "./time-text.ts";

/** Digits of an id in tables, as docker; a unique beginning of an id names its VM. */
const SHORT_ID = 12;
/** Longest command and image name in tables. */
const SHORT_TEXT = 40;
const SHORT_COMMAND = 20;

/** An id as tables show it. */
export function shortId(id: string, options: { truncated: boolean }): string {
  return options.truncated ? id.slice(0, SHORT_ID) : id;
}

/** A text with the digests and keys in it cut to as many digits. */
export function shortenDigests(text: string): string {
  return text.replace(/\b([0-9a-f]{12})[0-9a-f]{52}\b/g, "$1…");
}

/** "Up 3 minutes (healthy)", "Exited (0) 2 hours ago". */
function statusText(vm: VmSummary, now: number = Date.now()): string {
  switch (vm.state) {
    case "running":
      return `${uptime(vm, now)}${healthText(vm)}`;
    case "exited":
      return `Exited (${vm.exitCode ?? "?"}) ${ago(vm.finishedAt, now)}`.trimEnd();
    case "dead":
      return `Dead ${ago(vm.finishedAt, now)}`.trimEnd();
    case "creating":
      return "Creating";
    case "removing":
      return "Removing";
    default:
      return assertNever(vm.state);
  }
}

function uptime({ startedAt }: VmSummary, now: number): string {
  return startedAt === null ? "Up" : `Up ${humanDuration(Math.max(0, now - Date.parse(startedAt)))}`;
}

/** As docker shows it. */
function healthText({ health }: VmSummary): string {
  if (health === "none") return "";
  return health === "starting" ? " (health: starting)" : ` (${health})`;
}

/** An image's name cut for a table: a path says most at its end, other names at their beginning. */
function shortImage(name: string): string {
  const prefix = /^(?:oci|oci-archive|docker-archive|rootfs):/.exec(name)?.[0];
  if (prefix === undefined) return truncate(name, SHORT_TEXT);
  return prefix + truncateStart(name.slice(prefix.length), SHORT_TEXT - prefix.length);
}

/** How `list` shows VMs. */
export function vmView(options: { truncated: boolean }): ListView<VmSummary> {
  const cut = (text: string, max: number): string => (options.truncated ? truncate(text, max) : text);
  const id = (vm: VmSummary): string => shortId(vm.id, options);
  const image = (vm: VmSummary): string => {
    const name = familiarName(vm.imageName);
    return options.truncated ? shortImage(name) : name;
  };
  const command = (vm: VmSummary): string => `"${cut(vm.command.join(" "), SHORT_COMMAND)}"`;
  return {
    columns: [
      { heading: "VM ID", cell: id },
      { heading: "NAME", cell: (vm) => vm.name },
      { heading: "IMAGE", cell: image },
      { heading: "COMMAND", cell: command },
      { heading: "CREATED", cell: (vm) => ago(vm.createdAt) },
      { heading: "STATUS", cell: (vm) => statusText(vm) },
      { heading: "PORTS", cell: (vm) => portsText(vm.ports) },
      { heading: "VMM", cell: (vm) => vm.vmm ?? "" },
    ],
    fields: {
      ID: id,
      Name: (vm) => vm.name,
      // Docker's word for it, for templates that come from there.
      Names: (vm) => vm.name,
      Image: image,
      Command: command,
      CreatedAt: (vm) => vm.createdAt,
      RunningFor: (vm) => ago(vm.createdAt),
      StartedAt: (vm) => vm.startedAt,
      FinishedAt: (vm) => vm.finishedAt,
      State: (vm) => vm.state,
      Status: (vm) => statusText(vm),
      Health: (vm) => vm.health,
      Ports: (vm) => portsText(vm.ports),
      ExitCode: (vm) => vm.exitCode,
      VMM: (vm) => vm.vmm,
      PID: (vm) => vm.pid,
      CPUs: (vm) => vm.cpus,
      MemoryBytes: (vm) => vm.memoryMib * MIB,
      Labels: (vm) => vm.labels,
    },
    headings: {
      ID: "VM ID",
      CreatedAt: "CREATED AT",
      RunningFor: "CREATED",
      Names: "NAME",
      MemoryBytes: "MEMORY",
    },
  };
}

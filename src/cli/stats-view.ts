import { formatMemory, formatSize } from "../core/units.ts";
import type { VmStats } from "../manager/stats-api.ts";
import type { ListView } from "./output.ts";
import { shortId } from "./vm-view.ts";

/** What there is no figure of, as in docker. */
const NOTHING = "--";

/** How `stats` shows VMs: docker's columns, then what the VM costs this host. */
export function statsView(options: { truncated: boolean }): ListView<VmStats> {
  const id = (vm: VmStats): string => shortId(vm.id, options);
  return {
    columns: [
      { heading: "VM ID", cell: id },
      { heading: "NAME", cell: (vm) => vm.name },
      { heading: "CPU %", cell: (vm) => percentText(vm.guest?.cpuPercent) },
      { heading: "MEM USAGE / LIMIT", cell: memoryUsage },
      { heading: "MEM %", cell: (vm) => percentText(memoryPercent(vm)) },
      { heading: "NET I/O", cell: networkText },
      { heading: "BLOCK I/O", cell: blockText },
      { heading: "PIDS", cell: (vm) => String(vm.guest?.pids ?? NOTHING) },
      { heading: "HOST CPU %", cell: (vm) => percentText(vm.host?.cpuPercent) },
      { heading: "HOST MEM", cell: hostMemory },
      { heading: "DISK", cell: (vm) => formatSize(vm.diskBytes) },
    ],
    fields: {
      ID: id,
      Container: id,
      Name: (vm) => vm.name,
      CPUPerc: (vm) => percentText(vm.guest?.cpuPercent),
      MemUsage: memoryUsage,
      MemPerc: (vm) => percentText(memoryPercent(vm)),
      NetIO: networkText,
      BlockIO: blockText,
      PIDs: (vm) => String(vm.guest?.pids ?? NOTHING),
      HostCPUPerc: (vm) => percentText(vm.host?.cpuPercent),
      HostMem: hostMemory,
      Disk: (vm) => formatSize(vm.diskBytes),
      State: (vm) => vm.state,
      Guest: (vm) => vm.guest ?? null,
      Host: (vm) => vm.host ?? null,
      DiskBytes: (vm) => vm.diskBytes,
    },
    headings: {
      ID: "VM ID",
      CPUPerc: "CPU %",
      MemUsage: "MEM USAGE / LIMIT",
      MemPerc: "MEM %",
      NetIO: "NET I/O",
      BlockIO: "BLOCK I/O",
      HostCPUPerc: "HOST CPU %",
      HostMem: "HOST MEM",
    },
  };
}

function percentText(percent: number | undefined): string {
  return percent === undefined ? NOTHING : `${percent.toFixed(2)}%`;
}

function memoryUsage({ guest }: VmStats): string {
  if (guest === undefined) return `${NOTHING} / ${NOTHING}`;
  return `${formatMemory(guest.memoryBytes)} / ${formatMemory(guest.memoryLimitBytes)}`;
}

function memoryPercent({ guest }: VmStats): number | undefined {
  if (guest === undefined || guest.memoryLimitBytes === 0) return undefined;
  return (guest.memoryBytes / guest.memoryLimitBytes) * 100;
}

function networkText({ guest }: VmStats): string {
  if (guest === undefined) return `${NOTHING} / ${NOTHING}`;
  return `${formatSize(guest.network?.receivedBytes ?? 0)} / ${formatSize(guest.network?.sentBytes ?? 0)}`;
}

function blockText({ guest }: VmStats): string {
  if (guest === undefined) return `${NOTHING} / ${NOTHING}`;
  return `${formatSize(guest.readBytes)} / ${formatSize(guest.writtenBytes)}`;
}

function hostMemory({ host }: VmStats): string {
  return host === undefined ? NOTHING : formatMemory(host.memoryBytes);
}

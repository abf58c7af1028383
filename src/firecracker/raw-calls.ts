import type { RawConfiguration } from "../vmm/raw-configuration.ts";
import type { RawCall } from "./api/types.ts";

/**
 * The PUTs that a raw configuration stands for, each section as it was written, in an order that
 * Firecracker accepts: the logger first, MMDS after the interfaces that it names.
 */
export function rawCalls(raw: RawConfiguration): RawCall[] {
  const single = (path: string, body: unknown): RawCall[] =>
    body === undefined || body === null ? [] : [{ path, body }];
  return [
    ...single("/logger", raw.logger),
    ...single("/metrics", raw.metrics),
    ...single("/machine-config", raw["machine-config"]),
    ...single("/cpu-config", raw["cpu-config"]),
    ...single("/boot-source", raw["boot-source"]),
    ...raw.drives.map((body) => ({ path: `/drives/${body.drive_id}`, body })),
    ...raw.pmem.map((body) => ({ path: `/pmem/${body.id}`, body })),
    ...raw["network-interfaces"].map((body) => ({ path: `/network-interfaces/${body.iface_id}`, body })),
    ...single("/mmds/config", raw["mmds-config"]),
    ...single("/vsock", raw.vsock),
    ...single("/entropy", raw.entropy),
    ...single("/balloon", raw.balloon),
    ...single("/hotplug/memory", raw["memory-hotplug"]),
    ...single("/serial", raw.serial),
  ];
}

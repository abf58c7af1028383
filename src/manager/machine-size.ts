import type { ResourceRecord } from "../state/resource-record.ts";
import type { MachineConfiguration } from "../vmm/vmm.ts";
import { userNetworkDevice } from "./network/user-network.ts";

/** The disks of a machine that limits are about: what the guest says of itself is not held back. */
const UNLIMITED_DRIVES: ReadonlySet<string> = new Set(["control"]);

/** The machine with as many processors, as much memory and such limits as a VM is to have at its next boot. */
export function sizedMachine(
  machine: MachineConfiguration,
  size: {
    readonly cpus: number;
    readonly memoryMib: number;
    readonly limits: Pick<ResourceRecord, "diskLimit" | "networkLimit"> | undefined;
  },
): MachineConfiguration {
  const limited = new Set(limitedDrives(machine));
  const { diskLimit, networkLimit } = size.limits ?? {};
  return {
    ...machine,
    vcpuCount: Math.ceil(size.cpus),
    memoryMib: size.memoryMib,
    drives: machine.drives.map(({ limit: _, ...drive }) =>
      diskLimit === undefined || !limited.has(drive.id) ? drive : { ...drive, limit: diskLimit },
    ),
    ...(machine.network === undefined ? {} : { network: userNetworkDevice(networkLimit) }),
  };
}

/** Ids of the drives that limits apply to: an image that is attached as memory has no requests to count. */
export function limitedDrives({ drives }: Pick<MachineConfiguration, "drives">): string[] {
  return drives
    .filter(({ id, device }) => !UNLIMITED_DRIVES.has(id) && device !== "pmem")
    .map(({ id }) => id);
}

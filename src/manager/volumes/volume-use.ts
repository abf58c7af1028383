import { FirectlError } from "../../core/errors.ts";
import type { MountRecord, VolumeMountRecord } from "../../state/mount-record.ts";
import type { VmRecord } from "../../state/vm-record.ts";
import { isVmmAlive } from "../records.ts";

/** The volumes that a VM has, whether it runs or not. */
export function volumeMountsOf(record: Pick<VmRecord, "mounts">): readonly VolumeMountRecord[] {
  return (record.mounts ?? []).filter((mount) => mount.type === "volume");
}

/** The VMs on record that have the volume, which must not go as long as there are any. */
export function usersOfVolume(name: string, records: readonly VmRecord[]): readonly VmRecord[] {
  return records.filter((record) => volumeMountsOf(record).some((mount) => mount.name === name));
}

/** Whether a guest may be writing to the VM's disks, or is about to. */
function isActive(record: VmRecord): boolean {
  switch (record.state) {
    case "creating":
    case "removing":
      return true;
    case "running":
      return isVmmAlive(record);
    case "exited":
    case "dead":
      return false;
  }
}

/**
 * An ext4 disk may have one user that writes, or several that read. To be judged with the records locked.
 * @throws FirectlError VOLUME_IN_USE naming the VM that is in the way.
 */
export function refuseConflicts(
  mounts: readonly MountRecord[],
  options: { own: string; records: readonly VmRecord[] },
): void {
  const wanted = mounts.filter((mount) => mount.type === "volume");
  for (const record of options.records) {
    if (record.id === options.own || !isActive(record)) continue;
    for (const theirs of volumeMountsOf(record)) {
      const ours = wanted.filter(({ name }) => name === theirs.name);
      if (ours.length === 0) continue;
      const weWrite = ours.some(({ exclusive }) => exclusive);
      if (theirs.exclusive || weWrite) throw inUse(theirs, { record, weWrite });
    }
  }
}

function inUse(
  theirs: VolumeMountRecord,
  { record, weWrite }: { record: VmRecord; weWrite: boolean },
): FirectlError {
  const { name, destination } = theirs;
  const reason = theirs.exclusive ? "which can write to it" : "and this VM would write to it";
  const readOnly = `mount it read-only in both: -v ${name}:${destination}:ro`;
  return new FirectlError(
    "VOLUME_IN_USE",
    `the volume "${name}" is in use by VM ${record.name}, ${reason}: its ext4 disk can be shared only by VMs that all read`,
    { hint: `firectl stop ${record.name} first${theirs.exclusive && weWrite ? `, or ${readOnly}` : ""}` },
  );
}

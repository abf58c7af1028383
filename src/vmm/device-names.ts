import type { Drive } from "./vmm.ts";

/**
 * The name below /dev that a Linux guest gives to one of its drives: it counts disks (vda, vdb, …) and
 * persistent memory (pmem0, …) apart, each in the order of the configuration.
 * @throws Error when there is no drive of that id.
 */
export function guestDeviceName(drives: readonly Drive[], id: string): string {
  const drive = drives.find((each) => each.id === id);
  if (drive === undefined) throw new Error(`the machine has no drive "${id}"`);
  const device = drive.device ?? "block";
  const index = drives.filter((each) => (each.device ?? "block") === device).indexOf(drive);
  return device === "pmem" ? `pmem${index}` : `vd${diskLetters(index)}`;
}

/** a … z, aa, ab …, as the kernel's disk names go. */
function diskLetters(index: number): string {
  const last = String.fromCharCode("a".charCodeAt(0) + (index % 26));
  return index < 26 ? last : `${diskLetters(Math.floor(index / 26) - 1)}${last}`;
}

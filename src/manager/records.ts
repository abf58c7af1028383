import { readFileSync } from "node:fs";
import { parseVmId, type VmId } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";
import { isAlive, ownIdentity, type ProcessIdentity } from "../host/process-identity.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { VmsFile } from "../state/vms-file.ts";

/** What became of an attempt to make a record one's own for removal. */
export type Claim = "gone" | { readonly record: VmRecord } | { readonly heldBy: ProcessIdentity };

let bootId: string | undefined;

/** Identity of this boot of the host, proc_sys_kernel(5). It cannot change while we live. */
export function hostBootId(): string {
  bootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  return bootId;
}

/** The id of a record, which is a VM's by its schema. */
export function vmIdOf(record: VmRecord): VmId {
  const id = parseVmId(record.id);
  if (id === undefined) throw new Error(`a record's id is a UUID, got ${record.id}`);
  return id;
}

/** Whether a process of the record lives: never after a reboot of the host, whatever its pid. */
export function livesNow(record: VmRecord, identity: ProcessIdentity | null): boolean {
  return identity !== null && record.hostBootId === hostBootId() && isAlive(identity);
}

/** Whether the VMM of the record lives. */
export function isVmmAlive(record: VmRecord): boolean {
  return livesNow(record, record.process);
}

/**
 * Changes one record under the lock. `change` may return undefined to leave it.
 * Returns the record as it then stands, undefined when there is none of that id.
 */
export function changeRecord(
  vms: VmsFile,
  id: string,
  change: (record: VmRecord) => VmRecord | undefined,
): Promise<VmRecord | undefined> {
  return vms.update((records) => {
    const index = records.findIndex((record) => record.id === id);
    const old = records[index];
    if (old === undefined) return { result: undefined };
    const changed = change(old);
    if (changed === undefined) return { result: old };
    return { records: records.with(index, changed), result: changed };
  });
}

/**
 * Marks a record `removing`, owned by this process; exactly one process succeeds.
 * `when` may refuse, judged under the lock. With `keepVolumes` its anonymous volumes are to stay.
 */
export async function claimForRemoval(
  vms: VmsFile,
  id: string,
  when: (record: VmRecord) => boolean = () => true,
  options: { keepVolumes?: boolean } = {},
): Promise<Claim> {
  return vms.update<Claim>((records) => {
    const index = records.findIndex((record) => record.id === id);
    const record = records[index];
    if (record === undefined) return { result: "gone" };
    if (record.state === "removing" && record.owner !== null && livesNow(record, record.owner)) {
      return { result: { heldBy: record.owner } };
    }
    if (!when(record)) return { result: "gone" };
    const claimed: VmRecord = {
      ...record,
      state: "removing",
      owner: ownIdentity(),
      hostBootId: hostBootId(),
      // Whoever has to finish the removal knows it from here.
      ...(options.keepVolumes === true ? { keepVolumes: true } : {}),
    };
    return { records: records.with(index, claimed), result: { record: claimed } };
  });
}

/** Takes a record out of the list. */
export async function dropRecord(vms: VmsFile, id: string): Promise<void> {
  await vms.update((records) => {
    const kept = records.filter((record) => record.id !== id);
    return kept.length === records.length ? { result: undefined } : { records: kept, result: undefined };
  });
}

/** @throws FirectlError WRONG_STATE unless the record is in one of `states`, with the command that brings it there. */
export function requireState(
  record: VmRecord,
  operation: string,
  states: readonly VmRecord["state"][],
): void {
  if (states.includes(record.state)) return;
  throw new FirectlError(
    "WRONG_STATE",
    `cannot ${operation} ${record.name}: it is ${record.state}, and must be ${states.join(" or ")}`,
    { hint: wayOutOf(record) },
  );
}

function wayOutOf({ name, state }: VmRecord): string {
  switch (state) {
    case "creating":
      return `it is being made: firectl list -a shows when ${name} is up`;
    case "running":
      return `firectl attach ${name} joins it, firectl kill ${name} ends it`;
    case "exited":
    case "dead":
      return `firectl start ${name}`;
    case "removing":
      return `firectl rm ${name} finishes a removal that was cut off`;
  }
}

/** The command that removes these VMs, those that run included. */
export function removalOf(records: readonly Pick<VmRecord, "name" | "state">[]): string {
  const running = records.some(({ state }) => state === "running" || state === "creating");
  return `firectl rm ${running ? "-f " : ""}${records.map(({ name }) => name).join(" ")}`;
}

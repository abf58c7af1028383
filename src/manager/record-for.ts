import { FirectlError } from "../core/errors.ts";
import { ownIdentity } from "../host/process-identity.ts";
import { randomUuid } from "../host/random.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { hostBootId, removalOf } from "./records.ts";
import { inventName } from "./vm-names.ts";
import type { VmSize } from "./vm-options.ts";
import { vmPathsOf } from "./vm-paths.ts";

export interface NewVm {
  readonly name?: string | undefined;
  readonly imageName: string;
  readonly size: VmSize;
  readonly labels: Readonly<Record<string, string>>;
  readonly autoRemove: boolean;
  readonly attached: boolean;
  readonly configPath?: string | undefined;
}

/**
 * Puts a new VM on record as `creating`, owned by this process, before any file of it exists: whatever is
 * left of it when this process is killed can be found from the record.
 * @throws FirectlError NAME_IN_USE.
 */
export async function createRecord(context: Context, vm: NewVm): Promise<VmRecord> {
  const id = randomUuid();
  const paths = vmPathsOf(context.directories, id);
  return context.vms.update((records) => {
    const isTaken = (name: string): boolean => records.some((record) => record.name === name);
    const holder = records.find((record) => record.name === vm.name);
    if (holder !== undefined) {
      throw new FirectlError("NAME_IN_USE", `the name "${holder.name}" belongs to VM ${holder.id}`, {
        hint: `choose another name, or remove that VM: ${removalOf([holder])}`,
      });
    }
    const record: VmRecord = {
      id,
      name: vm.name ?? inventName(isTaken),
      imageName: vm.imageName,
      imageDigest: null,
      state: "creating",
      vmm: null,
      firecrackerPid: null,
      vmSocketPath: "",
      rootfsPath: paths.rootfs,
      kernelPath: "",
      createdAt: new Date().toISOString(),
      startedAt: null,
      finishedAt: null,
      exitCode: null,
      exitSignal: null,
      oomKilled: false,
      error: null,
      labels: { ...vm.labels },
      cpus: vm.size.cpus,
      memoryMib: vm.size.memoryMib,
      diskBytes: vm.size.diskBytes,
      stopTimeoutMs: vm.size.stopTimeoutMs,
      autoRemove: vm.autoRemove,
      attached: vm.attached,
      restarted: false,
      owner: ownIdentity(),
      process: null,
      companions: [],
      hostBootId: hostBootId(),
      machine: null,
      workload: null,
      configPath: vm.configPath ?? null,
      configSockets: [],
    };
    return { records: [...records, record], result: record };
  });
}

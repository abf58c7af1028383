import type { VmRecord } from "../../state/vm-record.ts";
import type { Context } from "../context.ts";
import { VolumeStore } from "./volume-store.ts";
import { usersOfVolume, volumeMountsOf } from "./volume-use.ts";

/** Removes the anonymous volumes of a VM that goes, but for those that another VM has too. */
export async function dropAnonymousVolumes(context: Context, record: VmRecord): Promise<void> {
  const names = new Set(
    volumeMountsOf(record)
      .filter(({ anonymous }) => anonymous)
      .map(({ name }) => name),
  );
  const store = new VolumeStore(context.directories.data);
  await context.vms.hold(async (records) => {
    for (const name of names) {
      if (usersOfVolume(name, records).every(({ id }) => id === record.id)) await store.remove(name);
    }
  });
}

import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { mendingOf } from "./mending.ts";

/**
 * Makes the records true: every command begins with it. Returns the records as they stand afterwards.
 * Costs one read of `vms.json` and of /proc when there is nothing to mend.
 */
export async function reconcile(context: Context): Promise<readonly VmRecord[]> {
  const records = await context.vms.read();
  const stale = records.filter((record) => mendingOf(record) !== "none");
  if (stale.length === 0) return records;
  const { mend } = await import("./mend.ts");
  await mend(context, stale);
  return context.vms.read();
}

import type { VmRecord } from "../../state/vm-record.ts";
import type { Context } from "../context.ts";
import type { MountPlan, PlanOptions } from "./mount-plan.ts";
import type { PreparedMounts } from "./prepare-mounts.ts";

/*
 * Most VMs have nothing mounted: the start of those loads none of what the others need.
 */

const NO_PLAN: MountPlan = { mounts: [], volumes: new Map() };
const NOTHING: PreparedMounts = { mounts: [], drives: [] };

/** See {@link planMounts}. */
export async function planMountsOf(
  context: Context,
  record: VmRecord,
  options: PlanOptions,
): Promise<MountPlan> {
  const { mounts = [], volumesFrom = [], shmBytes } = options;
  if (mounts.length + volumesFrom.length === 0 && shmBytes === undefined) return NO_PLAN;
  const { planMounts } = await import("./mount-plan.ts");
  return planMounts(context, record, options);
}

/** See {@link prepareMounts}. */
export async function prepareMountsOf(
  context: Context,
  input: Parameters<typeof import("./prepare-mounts.ts").prepareMounts>[1],
): Promise<PreparedMounts> {
  if (input.plan.mounts.length + input.imageVolumes.length === 0) return NOTHING;
  const { prepareMounts } = await import("./prepare-mounts.ts");
  return prepareMounts(context, input);
}

/** See {@link reclaimMounts}. */
export async function reclaimMountsOf(context: Context, record: VmRecord): Promise<PreparedMounts> {
  if ((record.mounts ?? []).length === 0) return NOTHING;
  const { reclaimMounts } = await import("./prepare-mounts.ts");
  return reclaimMounts(context, record);
}

import * as z from "zod/mini";
import { shareRecord } from "./share-record.ts";

/**
 * What is mounted into a VM's root, in the order of mounting. A volume is in use as long as a record names it,
 * whether the VM runs or not.
 */
const volumeMount = z.object({
  type: z.literal("volume"),
  name: z.string(),
  destination: z.string(),
  readOnly: z.boolean(),
  /** Whether the guest is to fill it from the image while it is empty. */
  copy: z.boolean(),
  /** The disk is attached for writing, be it only to fill or mend it: no other VM can have it meanwhile. */
  exclusive: z.boolean(),
  /** Made for this VM, and removed with it by `rm -v` and `--rm`. */
  anonymous: z.boolean(),
});

const snapshotMount = z.object({
  type: z.literal("snapshot"),
  /** Absolute path on the host. */
  source: z.string(),
  destination: z.string(),
  /** Name in the root of the disk that holds this VM's snapshots. */
  entry: z.string(),
  isDirectory: z.boolean(),
});

const tmpfsMount = z.object({
  type: z.literal("tmpfs"),
  destination: z.string(),
  readOnly: z.boolean(),
  /** As of mount(8). */
  options: z.array(z.string()),
});

export const mountRecord = z.discriminatedUnion("type", [
  volumeMount,
  snapshotMount,
  tmpfsMount,
  shareRecord,
]);

export type MountRecord = z.infer<typeof mountRecord>;
export type VolumeMountRecord = z.infer<typeof volumeMount>;

import * as z from "zod/mini";

/** A directory or file of the host that the guest has live. */
export const shareRecord = z.object({
  type: z.literal("share"),
  /** Absolute. */
  source: z.string(),
  /** Absolute, in the workload's root. */
  destination: z.string(),
  readOnly: z.boolean(),
  /** Who owns the user's files in the guest's eyes; the workload's user where it is absent. */
  owner: z.optional(z.object({ uid: z.int(), gid: z.int() })),
});

export type ShareRecord = z.infer<typeof shareRecord>;

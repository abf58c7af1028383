import * as z from "zod/mini";

/** A port of the host that leads to one of a guest's. */
const port = z.object({
  protocol: z.enum(["tcp", "udp"]),
  /** Dotted decimal; 0.0.0.0 is all. */
  hostAddress: z.string(),
  hostPort: z.int(),
  guestPort: z.int(),
  /** The host's port was whichever was free, and is another one at the next start. */
  ephemeral: z.optional(z.boolean()),
});

/** How a VM is connected; absent from the record of one that has no network. */
export const networkRecord: z.ZodMiniType<NetworkRecord> = z.object({
  mode: z.literal("user"),
  ports: z.array(port),
});

export interface NetworkRecord {
  readonly mode: "user";
  readonly ports: PortRecord[];
}

export type PortRecord = z.infer<typeof port>;

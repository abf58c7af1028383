import * as z from "zod/mini";

/** Rates of a disk or an interface, by the second. */
export const rateLimit: z.ZodMiniObject<{
  bytesPerSecond: z.ZodMiniOptional<z.ZodMiniNumber>;
  operationsPerSecond: z.ZodMiniOptional<z.ZodMiniNumber>;
}> = z.object({
  bytesPerSecond: z.optional(z.number()),
  operationsPerSecond: z.optional(z.number()),
});

/** Limits and privileges of a workload: what is absent is not limited, or as docker has it. */
export interface ResourceRecord {
  readonly cpuQuotaUs?: number | undefined;
  readonly swapBytes?: number | undefined;
  readonly pidsLimit?: number | undefined;
  readonly oomScoreAdj?: number | undefined;
  /** -1 is no limit. */
  readonly ulimits?: { type: string; soft: number; hard: number }[] | undefined;
  readonly sysctls?: Record<string, string> | undefined;
  readonly capabilities?: string[] | undefined;
  readonly allCapabilities?: boolean | undefined;
  readonly noNewPrivileges?: boolean | undefined;
  readonly unmasked?: boolean | undefined;
  readonly allDevices?: boolean | undefined;
  readonly groups?: string[] | undefined;
  readonly domain?: string | undefined;
  readonly hosts?: { name: string; address: string }[] | undefined;
  readonly dns?: string[] | undefined;
  readonly dnsSearch?: string[] | undefined;
  readonly dnsOptions?: string[] | undefined;
  readonly diskLimit?: z.infer<typeof rateLimit> | undefined;
  readonly networkLimit?: z.infer<typeof rateLimit> | undefined;
}

const strings = z.optional(z.array(z.string()));
const flag = z.optional(z.boolean());

/** The record's schema. */
export const resourceRecord: z.ZodMiniType<ResourceRecord> = z.object({
  cpuQuotaUs: z.optional(z.int()),
  swapBytes: z.optional(z.number()),
  pidsLimit: z.optional(z.int()),
  oomScoreAdj: z.optional(z.int()),
  ulimits: z.optional(z.array(z.object({ type: z.string(), soft: z.number(), hard: z.number() }))),
  sysctls: z.optional(z.record(z.string(), z.string())),
  capabilities: strings,
  allCapabilities: flag,
  noNewPrivileges: flag,
  unmasked: flag,
  allDevices: flag,
  groups: strings,
  domain: z.optional(z.string()),
  hosts: z.optional(z.array(z.object({ name: z.string(), address: z.string() }))),
  dns: strings,
  dnsSearch: strings,
  dnsOptions: strings,
  diskLimit: z.optional(rateLimit),
  networkLimit: z.optional(rateLimit),
});

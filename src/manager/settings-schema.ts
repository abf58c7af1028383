import * as z from "zod";
import type { Settings } from "./settings.ts";
import { MIN_MEMORY_MIB } from "./vm-options.ts";

const absolutePath = z.string().startsWith("/", "must be an absolute path");

const settings = z
  .strictObject({
    dataDirectory: absolutePath.optional(),
    runtimeDirectory: absolutePath.optional(),
    firecracker: absolutePath.optional(),
    qemu: absolutePath.optional(),
    vhostDeviceVsock: absolutePath.optional(),
    insecureRegistries: z.array(z.string()).optional(),
    registryMirrors: z.record(z.string(), z.array(z.string())).optional(),
    registryTokenServers: z.record(z.string(), z.array(z.string())).optional(),
    kernelUrl: z.url({ protocol: /^https?$/ }).optional(),
    kernelSha256: z
      .string()
      .regex(/^[0-9a-fA-F]{64}$/, "must be 64 hexadecimal digits")
      .optional(),
    cpus: z.int().min(1).max(32).optional(),
    memoryMib: z.int().min(MIN_MEMORY_MIB).optional(),
    detachKeys: z.string().min(1).optional(),
    imageDevice: z.enum(["auto", "block", "pmem"]).optional(),
    bootSnapshot: z.enum(["auto", "never"]).optional(),
    maxImageBytes: z.int().min(1).optional(),
    maxImageEntries: z.int().min(1).optional(),
  })
  .refine((value) => (value.kernelUrl === undefined) === (value.kernelSha256 === undefined), {
    error: "kernelUrl and kernelSha256 go together",
  });

/**
 * What `config.json` says.
 * @throws Error naming each field that is wrong.
 */
export function parseSettings(value: unknown): Settings {
  const result = settings.safeParse(value);
  if (result.success) return result.data;
  throw new Error(z.prettifyError(result.error));
}

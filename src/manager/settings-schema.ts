import * as z from "zod";
import type { Settings } from "./settings.ts";
import { MIN_MEMORY_MIB } from "./vm-options.ts";

const absolutePath = z.string().startsWith("/", "must be an absolute path");

const settings = z.strictObject({
  dataDirectory: absolutePath.optional(),
  runtimeDirectory: absolutePath.optional(),
  firecracker: absolutePath.optional(),
  qemu: absolutePath.optional(),
  vhostDeviceVsock: absolutePath.optional(),
  insecureRegistries: z.array(z.string()).optional(),
  cpus: z.int().min(1).max(32).optional(),
  memoryMib: z.int().min(MIN_MEMORY_MIB).optional(),
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

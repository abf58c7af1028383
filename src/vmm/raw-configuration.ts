import { stat } from "node:fs/promises";
import path from "node:path";
import * as z from "zod";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { ioError } from "../host/files.ts";

/**
 * A machine in the words of Firecracker's own configuration file. What firectl does not need to know stays as
 * it was written: Firecracker is its judge.
 * https://github.com/firecracker-microvm/firecracker/blob/main/docs/getting-started.md
 */
export type RawConfiguration = z.infer<typeof rawConfiguration>;

const section = z.looseObject({});
const file = z.string().min(1);

const rawConfiguration = z.strictObject({
  "boot-source": z.looseObject({
    kernel_image_path: file,
    initrd_path: file.nullish(),
    boot_args: z.string().nullish(),
  }),
  drives: z
    .array(
      z.looseObject({
        drive_id: z.string().regex(/^\w+$/),
        is_root_device: z.boolean(),
        path_on_host: file.nullish(),
        is_read_only: z.boolean().nullish(),
        cache_type: z.enum(["Unsafe", "Writeback"]).nullish(),
        socket: file.nullish(),
      }),
    )
    .default([]),
  "machine-config": z
    .looseObject({ vcpu_count: z.int().min(1).max(32), mem_size_mib: z.int().min(1) })
    .default({ vcpu_count: 1, mem_size_mib: 128 }),
  "network-interfaces": z.array(z.looseObject({ iface_id: z.string().regex(/^\w+$/) })).default([]),
  vsock: z.looseObject({ guest_cid: z.int().min(3), uds_path: file }).nullish(),
  pmem: z.array(z.looseObject({ id: z.string().regex(/^\w+$/), path_on_host: file })).default([]),
  entropy: section.nullish(),
  balloon: section.nullish(),
  serial: z.looseObject({ serial_out_path: file.nullish() }).nullish(),
  logger: z.looseObject({ log_path: file.nullish() }).nullish(),
  metrics: z.looseObject({ metrics_path: file.nullish() }).nullish(),
  "mmds-config": section.nullish(),
  "cpu-config": section.nullish(),
  "memory-hotplug": section.nullish(),
});

/**
 * Validates a configuration; relative paths in it are taken from `directory`.
 * @throws FirectlError INVALID_CONFIGURATION naming every field that is wrong, FILE_NOT_FOUND naming the file that is
 *   missing.
 */
export async function parseRawConfiguration(
  value: unknown,
  options: { readonly directory: string },
): Promise<RawConfiguration> {
  const parsed = rawConfiguration.safeParse(value);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => {
      const place = issue.path.map(String).join(".");
      return place === "" ? issue.message : `${place}: ${issue.message}`;
    });
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      `not a Firecracker configuration: ${problems.join("; ")}`,
    );
  }
  const configuration = resolvePaths(parsed.data, options.directory);
  for (const needed of neededFiles(configuration)) await requireFile(needed);
  return configuration;
}

const PATH_FIELDS: ReadonlySet<string> = new Set([
  "kernel_image_path",
  "initrd_path",
  "path_on_host",
  "socket",
  "uds_path",
  "serial_out_path",
  "log_path",
  "metrics_path",
]);

/** Makes the paths of each section absolute: Firecracker is started in another directory than firectl. */
function resolvePaths(configuration: RawConfiguration, directory: string): RawConfiguration {
  const resolve = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(resolve);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [
        key,
        PATH_FIELDS.has(key) && typeof inner === "string" ? path.resolve(directory, inner) : inner,
      ]),
    );
  };
  const entries = Object.entries(configuration).map(([key, value]) => [key, resolve(value)]);
  return rawConfiguration.parse(Object.fromEntries(entries));
}

function neededFiles(configuration: RawConfiguration): string[] {
  const { kernel_image_path, initrd_path } = configuration["boot-source"];
  const devices = [...configuration.drives, ...configuration.pmem];
  return [kernel_image_path, initrd_path, ...devices.map(({ path_on_host }) => path_on_host)].filter(
    (needed) => typeof needed === "string",
  );
}

async function requireFile(needed: string): Promise<void> {
  try {
    await stat(needed);
  } catch (error) {
    if (errnoOf(error) !== "ENOENT") throw ioError(`cannot look at ${needed}`, error);
    throw new FirectlError("FILE_NOT_FOUND", `the configuration names ${needed}, which does not exist`);
  }
}

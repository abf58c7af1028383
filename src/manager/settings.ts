import path from "node:path";
import { readTextIfPresent } from "../host/files.ts";
import { configDirectoryOf } from "../state/directories.ts";
import type { BootSnapshotUse, ImageDevice, ImageLimits, NetworkMode } from "./api.ts";

/** What `config.json` in the configuration directory may hold; environment variables win over it. */
export interface Settings {
  readonly dataDirectory?: string | undefined;
  readonly runtimeDirectory?: string | undefined;
  /**
   * Paths of programs, FIRECTL_FIRECRACKER, FIRECTL_QEMU, FIRECTL_VHOST_DEVICE_VSOCK and FIRECTL_PASST in
   * the environment.
   */
  readonly firecracker?: string | undefined;
  readonly qemu?: string | undefined;
  readonly vhostDeviceVsock?: string | undefined;
  readonly passt?: string | undefined;
  /** Registries reached over plain HTTP or with any certificate, `host[:port]` or a network of addresses. */
  readonly insecureRegistries?: readonly string[] | undefined;
  /** URLs to ask first, in order, by the registry that they mirror. */
  readonly registryMirrors?: Readonly<Record<string, readonly string[]>> | undefined;
  /** Token servers of other sites that may see a registry's login, `host[:port]` by registry. */
  readonly registryTokenServers?: Readonly<Record<string, readonly string[]>> | undefined;
  /** Guest kernel that a first run or `setup` downloads, before the distribution's is thought of. */
  readonly kernelUrl?: string | undefined;
  /** Its SHA-256, without which it is not downloaded. */
  readonly kernelSha256?: string | undefined;
  /** Defaults of `run`. */
  readonly cpus?: number | undefined;
  readonly memoryMib?: number | undefined;
  /** Keys that leave a terminal, in docker's notation. */
  readonly detachKeys?: string | undefined;
  readonly imageDevice?: ImageDevice | undefined;
  readonly bootSnapshot?: BootSnapshotUse | undefined;
  readonly network?: NetworkMode | undefined;
  /** What images may take, uncompressed: bytes and entries of all layers together. */
  readonly maxImageBytes?: number | undefined;
  readonly maxImageEntries?: number | undefined;
}

/** The limits for images that the settings name, with those of an operation's own before them. */
export function limitsOf(settings: Settings, own: ImageLimits = {}): ImageLimits {
  const maxBytes = own.maxBytes ?? settings.maxImageBytes;
  const maxEntries = own.maxEntries ?? settings.maxImageEntries;
  return {
    ...(maxBytes === undefined ? {} : { maxBytes }),
    ...(maxEntries === undefined ? {} : { maxEntries }),
  };
}

/**
 * Reads `config.json`.
 * @throws FirectlError INVALID_CONFIGURATION naming the file and the field.
 */
export async function readSettings(env: NodeJS.ProcessEnv): Promise<Settings> {
  const file = path.join(configDirectoryOf(env), "config.json");
  const text = await readTextIfPresent(file);
  if (text === undefined) return {};
  const { parseSettings } = await import("./settings-schema.ts");
  return parseSettings(text, file);
}

import path from "node:path";
import { packageRoot } from "../host/package-root.ts";
import { checkPrerequisites } from "../host/prerequisites.ts";
import { directoriesOf } from "../state/directories.ts";
import { VmsFile } from "../state/vms-file.ts";
import type { Context } from "./context.ts";
import { readSettings } from "./settings.ts";

export interface OpenOptions {
  /** Environment that directories, programs and credentials are looked up in; the process's own when absent. */
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * Reads the configuration and finds the directories; creates nothing.
 * @throws FirectlError INVALID_CONFIGURATION; HOST_UNSUPPORTED where firectl cannot work at all.
 */
export async function openContext(options: OpenOptions = {}): Promise<Context> {
  checkPrerequisites();
  const env = options.env ?? process.env;
  const settings = await readSettings(env);
  const directories = directoriesOf(env, { uid: process.getuid?.() ?? 0, overrides: settings });
  const root = packageRoot();
  const programs = path.join(root, "dist", "agent", agentArchitecture());
  return {
    env,
    settings,
    directories,
    vms: new VmsFile(directories.config),
    selfCommand: [process.execPath, path.join(root, "bin", "firectl")],
    agentPath: env["FIRECTL_AGENT"] || path.join(programs, "firectl-agent"),
    shareServerPath: path.join(programs, "firectl-share"),
    networkLauncherPath: path.join(programs, "firectl-network"),
    images: once(async () => {
      const { Images } = await import("../image/images.ts");
      return new Images({
        root: path.join(directories.data, "images"),
        env,
        insecureRegistries: settings.insecureRegistries,
        registryMirrors: settings.registryMirrors,
        registryTokenServers: settings.registryTokenServers,
      });
    }),
    kernels: once(async () => {
      const { Kernels } = await import("../kernel/kernel-store.ts");
      return new Kernels({
        root: path.join(directories.data, "kernels"),
        cacheDir: path.join(directories.data, "kernel-files"),
      });
    }),
  };
}

function agentArchitecture(): string {
  return process.arch === "arm64" ? "aarch64" : "x86_64";
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

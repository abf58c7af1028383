import path from "node:path";
import * as z from "zod";
import { readTextIfPresent } from "../../../host/files.ts";

/** What Docker's daemon has been told of registries. */
export interface DockerDaemonSettings {
  /** Mirrors of Docker Hub, in order. */
  readonly mirrors: readonly string[];
  readonly insecureRegistries: readonly string[];
}

const schema = z.object({
  "registry-mirrors": z.array(z.string()).nullish(),
  "insecure-registries": z.array(z.string()).nullish(),
});

/**
 * Reads `daemon.json`, the machine's or that of a daemon which runs without root. What cannot be read counts
 * as empty: it is another program's.
 * https://docs.docker.com/reference/cli/dockerd/#daemon-configuration-file
 */
export async function readDockerDaemonSettings(options: {
  env: NodeJS.ProcessEnv;
  etcDirectory: string;
}): Promise<DockerDaemonSettings> {
  const { env, etcDirectory } = options;
  const home = env["HOME"];
  const configHome = env["XDG_CONFIG_HOME"] || (home ? path.join(home, ".config") : undefined);
  const files = [
    path.join(etcDirectory, "docker/daemon.json"),
    ...(configHome === undefined ? [] : [path.join(configHome, "docker/daemon.json")]),
  ];
  const all = await Promise.all(files.map(read));
  return {
    mirrors: all.flatMap((settings) => settings?.["registry-mirrors"] ?? []),
    insecureRegistries: all.flatMap((settings) => settings?.["insecure-registries"] ?? []),
  };
}

async function read(file: string): Promise<z.infer<typeof schema> | undefined> {
  try {
    return schema.parse(JSON.parse((await readTextIfPresent(file)) ?? "{}"));
  } catch {
    return undefined;
  }
}

import type { TemporaryDirectory } from "../../image.test-helper.ts";
import { Images, type PullProgress, type WhileLayersCome } from "../../images.ts";

/** Pulls into a store of the directory, whose `home` and `etc` are the user's and the machine's. */
export async function pull(
  directory: TemporaryDirectory,
  reference: string,
  options: {
    env?: NodeJS.ProcessEnv;
    insecure?: string[];
    mirrors?: Record<string, string[]>;
    tokenServers?: Record<string, string[]>;
    whileLayersCome?: WhileLayersCome;
  } = {},
): Promise<PullProgress[]> {
  const events: PullProgress[] = [];
  const images = new Images({
    root: directory.join("store"),
    env: { HOME: directory.join("home"), PATH: process.env["PATH"], ...options.env },
    etcDirectory: directory.join("etc"),
    insecureRegistries: options.insecure ?? [],
    registryMirrors: options.mirrors ?? {},
    registryTokenServers: options.tokenServers ?? {},
    firstRetryDelayMs: 1,
    idleTimeoutMs: 2000,
  });
  await images.obtain(reference, {
    pull: "always",
    onProgress: (event) => void events.push(event),
    whileLayersCome: options.whileLayersCome,
  });
  return events;
}

/** What the user is told on the way. */
export function notices(events: readonly PullProgress[]): string[] {
  return events.flatMap((event) => (event.type === "notice" ? [event.message] : []));
}

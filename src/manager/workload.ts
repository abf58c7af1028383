import { FirectlError } from "../core/errors.ts";
import type { HealthCheck } from "../image/local-image.ts";
import type { ResourceRecord } from "../state/resource-record.ts";
import type { WorkloadRecord } from "../state/vm-record.ts";
import type { RunOptions } from "./api.ts";
import { healthCheckOf } from "./health-check.ts";
import { SYSTEMD_STOP_SIGNAL, sessionOf } from "./session.ts";

/** Tells systemd that it runs in a container: https://systemd.io/CONTAINER_INTERFACE. */
const CONTAINER = "container=firectl";

/** SIGTERM, when neither the flags nor the image name another. */
const DEFAULT_STOP_SIGNAL = 15;

/** The fields of an OCI image configuration that say what runs. */
export interface WorkloadDefaults {
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: readonly string[];
  readonly user: string;
  readonly workingDir: string;
  readonly healthcheck?: HealthCheck;
}

/**
 * Merges an image's configuration with the flags of `run`, by Docker's rules: a command replaces Cmd, an
 * entrypoint replaces Entrypoint and drops Cmd, `-e` wins over the image's variable of that name.
 * @throws FirectlError INVALID_ARGUMENT when nothing is left to run or the working directory is relative.
 */
export function workloadOf(
  image: WorkloadDefaults,
  options: {
    run: RunOptions;
    hostname: string;
    stopSignal: number | undefined;
    resources?: ResourceRecord | undefined;
  },
): WorkloadRecord {
  const { run } = options;
  const args = argumentsOf(image, run);
  const session = sessionOf(args, run);
  const healthCheck = healthCheckOf(image.healthcheck, run.healthCheck);
  return {
    args,
    env: mergeEnvironment(session.systemd ? [CONTAINER, ...image.env] : image.env, run.env ?? []),
    cwd: workingDirectoryOf(image, run),
    user: run.user ?? image.user,
    hostname: options.hostname,
    stopSignal: options.stopSignal ?? (session.systemd ? SYSTEMD_STOP_SIGNAL : DEFAULT_STOP_SIGNAL),
    readOnly: run.readOnly ?? false,
    storage: run.storage ?? "overlay",
    session,
    ...(healthCheck === undefined ? {} : { healthCheck }),
    ...(options.resources === undefined ? {} : { resources: options.resources }),
  };
}

function argumentsOf(image: WorkloadDefaults, run: RunOptions): string[] {
  const command = run.command ?? [];
  const entrypoint = run.entrypoint ?? image.entrypoint;
  const imageCommand = run.entrypoint === undefined ? image.cmd : [];
  const args = [...entrypoint, ...(command.length > 0 ? command : imageCommand)];
  if (args.length === 0) {
    throw new FirectlError("INVALID_ARGUMENT", `${run.image} names no command to run, and none was given`, {
      hint: `give one: firectl run ${run.image} COMMAND`,
    });
  }
  return args;
}

function workingDirectoryOf(image: WorkloadDefaults, run: RunOptions): string {
  if (run.workingDir !== undefined && !run.workingDir.startsWith("/")) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `the working directory "${run.workingDir}" is not an absolute path`,
    );
  }
  const directory = run.workingDir ?? image.workingDir;
  // Docker takes an image's relative WorkingDir from the root.
  return directory.startsWith("/") ? directory : `/${directory}`;
}

/** `base` with the variables of `added` put in place of those of the same name, or behind. */
export function mergeEnvironment(base: readonly string[], added: readonly string[]): string[] {
  const merged = new Map<string, string>();
  for (const entry of [...base, ...added]) merged.set(entry.split("=", 1)[0] ?? entry, entry);
  return [...merged.values()];
}

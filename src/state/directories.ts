import os from "node:os";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";

/** Where everything lies on this host; all absolute. */
export interface Directories {
  /** Configuration and `vms.json`. */
  readonly config: string;
  /** Images, base and VM disks, kernels, and the locks of what lies here. */
  readonly data: string;
  /** Sockets and pid files: gone after a reboot, and another one in each kind of session. */
  readonly runtime: string;
}

export interface DirectoryOverrides {
  readonly dataDirectory?: string | undefined;
  readonly runtimeDirectory?: string | undefined;
}

/**
 * Longest path that fits sockaddr_un.sun_path (108 bytes with its NUL), unix(7), after the VM's id and the
 * longest socket name below the runtime directory.
 */
const MAX_RUNTIME_DIRECTORY_BYTES = 107 - "/01234567-0123-4123-8123-0123456789ab/vhost.sock".length;

/**
 * The directories for this user and environment: `FIRECTL_CONFIG_DIR`, `FIRECTL_DATA_DIR` and
 * `FIRECTL_RUNTIME_DIR` first, then `overrides` (the configuration file), then root's system directories or
 * the XDG base directories, https://specifications.freedesktop.org/basedir-spec/latest/.
 * @throws FirectlError INVALID_CONFIGURATION when one is relative or the runtime directory is too long.
 */
export function directoriesOf(
  env: NodeJS.ProcessEnv,
  options: { uid: number; overrides?: DirectoryOverrides },
): Directories {
  const isRoot = options.uid === 0;
  const runtimeBase = env["XDG_RUNTIME_DIR"] || undefined;
  const directories = {
    config: configDirectoryOf(env),
    data:
      env["FIRECTL_DATA_DIR"] ||
      options.overrides?.dataDirectory ||
      (isRoot
        ? "/var/lib/firectl"
        : path.join(env["XDG_DATA_HOME"] || path.join(homeOf(env), ".local/share"), "firectl")),
    runtime:
      env["FIRECTL_RUNTIME_DIR"] ||
      options.overrides?.runtimeDirectory ||
      (isRoot
        ? "/run/firectl"
        : path.join(
            runtimeBase ?? os.tmpdir(),
            runtimeBase === undefined ? `firectl-${options.uid}` : "firectl",
          )),
  };
  for (const [what, directory] of Object.entries(directories)) {
    if (!path.isAbsolute(directory)) {
      throw new FirectlError(
        "INVALID_CONFIGURATION",
        `the ${what} directory "${directory}" is not an absolute path`,
      );
    }
  }
  if (Buffer.byteLength(directories.runtime) > MAX_RUNTIME_DIRECTORY_BYTES) {
    throw new FirectlError(
      "INVALID_CONFIGURATION",
      `the runtime directory "${directories.runtime}" is longer than ${MAX_RUNTIME_DIRECTORY_BYTES} bytes: sockets in it would not fit a unix socket address`,
      { hint: "set FIRECTL_RUNTIME_DIR to a shorter path" },
    );
  }
  return directories;
}

/** The configuration directory, which must be known before the configuration file can be read. */
export function configDirectoryOf(env: NodeJS.ProcessEnv): string {
  return (
    env["FIRECTL_CONFIG_DIR"] ||
    path.join(env["XDG_CONFIG_HOME"] || path.join(homeOf(env), ".config"), "firectl")
  );
}

function homeOf(env: NodeJS.ProcessEnv): string {
  return env["HOME"] || os.homedir();
}

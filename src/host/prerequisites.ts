import { existsSync } from "node:fs";
import { FirectlError } from "../core/errors.ts";

/** The oldest Node that has what firectl uses. */
const OLDEST_NODE = [20, 11] as const;

/** What is looked at; a test says other things. */
export interface Host {
  readonly platform: string;
  readonly architecture: string;
  /** `20.11.0`. */
  readonly nodeVersion: string;
  readonly hasProc: boolean;
}

/**
 * Checks that this is a host on which firectl can work at all.
 * @throws FirectlError HOST_UNSUPPORTED saying what is wrong and what to do.
 */
export function checkPrerequisites(host: Host = thisHost()): void {
  if (host.platform !== "linux") {
    throw unsupported(
      `firectl runs on Linux only, and this is ${host.platform}`,
      "use a Linux machine or a Linux virtual machine",
    );
  }
  const [major = 0, minor = 0] = host.nodeVersion.split(".").map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  if (major < oldestMajor || (major === oldestMajor && minor < oldestMinor)) {
    throw unsupported(
      `firectl needs Node ${oldestMajor}.${oldestMinor} or newer, and this is ${host.nodeVersion}`,
      "install a current Node: https://nodejs.org/en/download",
    );
  }
  if (host.architecture !== "x64" && host.architecture !== "arm64") {
    throw unsupported(
      `firectl runs on x86_64 and arm64, and this Node is built for ${host.architecture}`,
      "use a 64-bit x86 or Arm machine, with a Node built for it",
    );
  }
  if (!host.hasProc) {
    throw unsupported("firectl needs /proc, which is not mounted", "mount -t proc proc /proc");
  }
}

function thisHost(): Host {
  return {
    platform: process.platform,
    architecture: process.arch,
    nodeVersion: process.versions.node,
    hasProc: existsSync("/proc/self/stat"),
  };
}

function unsupported(message: string, hint: string): FirectlError {
  return new FirectlError("HOST_UNSUPPORTED", message, { hint });
}

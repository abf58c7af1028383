import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe } from "vitest";
import { SHARED_DATA } from "./firectl.ts";

export type Backend = "firecracker" | "qemu";

/** What the global set-up found out about this machine. */
export interface Machine {
  /** Why Firecracker cannot run here, or undefined where it can. */
  readonly firecrackerMissing?: string;
  readonly dockerHost?: string;
  readonly dockerMissing?: string;
}

export const MACHINE_FILE: string = path.join(SHARED_DATA, "..", "machine.json");

/** What the global set-up wrote down. */
export function machine(): Machine {
  return existsSync(MACHINE_FILE) ? (JSON.parse(readFileSync(MACHINE_FILE, "utf8")) as Machine) : {};
}

/** FIRECTL_E2E_VMM limits the suites to one backend: in a nested machine QEMU would emulate within emulation. */
const only = process.env["FIRECTL_E2E_VMM"];

/** Runs the same suite on every backend; one that cannot run here is skipped by name. */
export function onEveryBackend(suite: string, define: (backend: Backend) => void): void {
  for (const backend of ["qemu", "firecracker"] as const) {
    const reason = only !== undefined && only !== backend ? `only ${only} was asked for` : missing(backend);
    const name =
      reason === undefined ? `${suite}, on ${backend}` : `${suite}, on ${backend} (skipped: ${reason})`;
    describe.skipIf(reason !== undefined)(name, () => define(backend));
  }
}

function missing(backend: Backend): string | undefined {
  return backend === "firecracker" ? machine().firecrackerMissing : undefined;
}

/** The backend for suites that need one guest and do not care which. */
export function anyBackend(): Backend {
  if (only === "firecracker" || only === "qemu") return only;
  return machine().firecrackerMissing === undefined ? "firecracker" : "qemu";
}

/** Absolute path of a program on PATH, or undefined. */
export function findOnPath(name: string): string | undefined {
  for (const directory of (process.env["PATH"] ?? "").split(":")) {
    const file = path.join(directory, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not in this directory.
    }
  }
  return undefined;
}

import { FirectlError } from "../core/errors.ts";
import { runProgram } from "../host/process.ts";

/** Major, minor and patch level. */
export type FirecrackerVersion = readonly [number, number, number];

/**
 * Asks a Firecracker binary for its version.
 * @throws FirectlError TOOL_MISSING, PROCESS_FAILED; HOST_UNSUPPORTED when it does not say a version.
 */
export async function readFirecrackerVersion(executable: string): Promise<FirecrackerVersion> {
  const output = await runProgram(executable, ["--version"], { timeoutMs: 60_000 });
  const version = parseFirecrackerVersion(output);
  if (version !== undefined) return version;
  throw new FirectlError(
    "HOST_UNSUPPORTED",
    `${executable} does not say which version of Firecracker it is`,
    {
      hint: "install Firecracker from https://github.com/firecracker-microvm/firecracker/releases",
    },
  );
}

/** Reads what `firecracker --version` prints; undefined when it is something else. */
export function parseFirecrackerVersion(output: string): FirecrackerVersion | undefined {
  const match = /^Firecracker v(\d+)\.(\d+)\.(\d+)/m.exec(output);
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3])];
}

/** Whether PUT /serial takes a rate limiter: since 1.16. */
export function canBoundConsole(version: FirecrackerVersion): boolean {
  return isAtLeast(version, 1, 16);
}

/** Whether a compressed x86 kernel (bzImage) is loaded as it is: since 1.17. */
export function loadsCompressedKernel(version: FirecrackerVersion): boolean {
  return isAtLeast(version, 1, 17);
}

/** Why a Firecracker has no virtio-pmem, which came with 1.14; undefined when it has. */
export function pmemLackOf(version: FirecrackerVersion): string | undefined {
  if (isAtLeast(version, 1, 14)) return undefined;
  return `Firecracker ${version.join(".")} has no virtio-pmem, 1.14 has`;
}

/** Whether a balloon passes on what the guest's kernel says is free: since 1.14. */
export function reclaimsFreePages(version: FirecrackerVersion): boolean {
  return isAtLeast(version, 1, 14);
}

/** Whether guests can go on from a snapshot: since 1.16.1, with which vsock works in all of them. */
export function canUseBootSnapshots(version: FirecrackerVersion): boolean {
  return isAtLeast(version, 1, 17) || (isAtLeast(version, 1, 16) && version[2] >= 1);
}

function isAtLeast([major, minor]: FirecrackerVersion, wantedMajor: number, wantedMinor: number): boolean {
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}

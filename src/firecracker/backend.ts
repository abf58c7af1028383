import { FirectlError } from "../core/errors.ts";
import type { Vmm } from "../vmm/vmm.ts";
import { configurationCalls } from "./configuration.ts";
import { type FirecrackerProgram, launchFirecracker } from "./launch.ts";
import { rawCalls } from "./raw-calls.ts";
import { loadsCompressedKernel, pmemLackOf } from "./version.ts";

/** Firecracker, driven over its API. */
export function firecrackerVmm(program: FirecrackerProgram): Vmm {
  return {
    name: "firecracker",
    executable: program.executable,
    loadsCompressedKernel: loadsCompressedKernel(program.version),
    pmemLack: pmemLackOf(program.version),
    launch: async (machine, options) => {
      const calls = configurationCalls(machine, {
        architecture: architecture(),
        version: program.version,
      });
      return launchFirecracker(program, { calls, sockets: [machine.vsock.socketPath] }, options);
    },
    launchRaw: (raw, options) => {
      const sockets = raw.vsock ? [raw.vsock.uds_path] : [];
      return launchFirecracker(program, { calls: rawCalls(raw), sockets }, options);
    },
  };
}

function architecture(): "x64" | "arm64" {
  if (process.arch === "x64" || process.arch === "arm64") return process.arch;
  throw new FirectlError(
    "HOST_UNSUPPORTED",
    `no guest can run on ${process.arch}: x86_64 or arm64 is needed`,
  );
}

import { FirectlError } from "../core/errors.ts";
import type { Vmm } from "../vmm/vmm.ts";
import { BootSnapshot, localName, snapshotSocketOf, withLocalNames } from "./boot-snapshot.ts";
import { configurationCalls } from "./configuration.ts";
import { type BootPlan, type FirecrackerProgram, launchFirecracker } from "./launch.ts";
import { rawCalls } from "./raw-calls.ts";
import { canUseBootSnapshots, loadsCompressedKernel, pmemLackOf } from "./version.ts";

/** Firecracker, driven over its API. */
export function firecrackerVmm(program: FirecrackerProgram): Vmm {
  return {
    name: "firecracker",
    executable: program.executable,
    loadsCompressedKernel: loadsCompressedKernel(program.version),
    pmemLack: pmemLackOf(program.version),
    launch: async (machine, options) => {
      const target = { architecture: architecture(), version: program.version };
      const sockets = [machine.vsock.socketPath];
      const root = options.bootSnapshots;
      if (root === undefined || machine.bootSnapshot === "never" || !canUseBootSnapshots(program.version)) {
        return launchFirecracker(program, { calls: configurationCalls(machine, target), sockets }, options);
      }
      const calls = configurationCalls(withLocalNames(machine), target);
      const boot: BootPlan = {
        links: machine.drives.map((drive) => ({ name: localName(drive), path: drive.path })),
        readySocketPath: snapshotSocketOf(machine),
        snapshot: () => new BootSnapshot(root, { executable: program.executable, machine, calls }),
      };
      return launchFirecracker(program, { calls, sockets, boot }, options);
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

import { firecrackerVmm } from "../firecracker/backend.ts";
import type { FirecrackerProgram } from "../firecracker/launch.ts";
import {
  checkKvmDevice,
  describeFirecracker,
  type ProbeGuest,
  probeFirecracker,
} from "../firecracker/probe.ts";
import { loadsCompressedKernel } from "../firecracker/version.ts";
import { qemuVmm } from "../qemu/backend.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { fallbackNotice, noVmmError, type Unusable, unusableError } from "../vmm/choose.ts";
import type { Vmm } from "../vmm/vmm.ts";
import type { VmmChoice } from "./api.ts";
import type { Context } from "./context.ts";
import { secondsIn } from "./environment.ts";
import { findProgram, type ProgramField } from "./find-program.ts";
import type { Settings } from "./settings.ts";
import { inStage } from "./stage.ts";

export interface VmmSelection {
  readonly requested: VmmChoice;
  readonly env: NodeJS.ProcessEnv;
  readonly settings: Pick<Settings, ProgramField>;
  readonly directories: { readonly data: string; readonly runtime: string };
  /** Kernel and initramfs of the VM; asked for only when KVM has to be tried. */
  readonly guest: (options: { readonly compressed: boolean }) => Promise<ProbeGuest>;
  readonly signal?: AbortSignal | undefined;
}

/** As docs/troubleshooting.md has them. */
const INSTALL_QEMU = `sudo apt-get install ${process.arch === "arm64" ? "qemu-system-arm" : "qemu-system-x86"}`;
const INSTALL_VSOCK = "cargo install --locked vhost-device-vsock";

/** A guest that only reboots takes 0.2 s on hardware and 6 s in a nested machine. */
const PROBE_TIMEOUT_MS = 20_000;

/**
 * The VMM that a VM of this host is to run in: the one asked for, else Firecracker where it works and QEMU
 * where it does not. `notice` is the line to show to the user in that last case.
 * @throws FirectlError KVM_UNUSABLE, PERMISSION_DENIED or TOOL_MISSING with the reason.
 */
export async function selectVmm(selection: VmmSelection): Promise<{ vmm: Vmm; notice?: string }> {
  switch (selection.requested) {
    case "firecracker":
      return { vmm: firecrackerVmm(usableOrThrow(await findFirecracker(selection))) };
    case "qemu":
      return { vmm: usableOrThrow(await findQemu(selection)) };
    case "auto": {
      const firecracker = await provenFirecracker(selection);
      if (firecracker.found !== undefined) return { vmm: firecrackerVmm(firecracker.found) };
      const qemu = await findQemu(selection);
      if (qemu.found === undefined) throw noVmmError(firecracker.unusable, qemu.unusable);
      return { vmm: qemu.found, notice: fallbackNotice(firecracker.unusable) };
    }
  }
}

/** The VMM for a VM that ran before, on the kernel that it had. @throws FirectlError as {@link selectVmm}. */
export async function selectVmmAgain(
  context: Pick<Context, "env" | "settings" | "directories">,
  record: Pick<VmRecord, "vmm">,
  options: { readonly bootSource: ProbeGuest; readonly signal?: AbortSignal | undefined },
): Promise<Vmm> {
  const { vmm } = await inStage("choosing the VMM", () =>
    selectVmm({
      requested: record.vmm ?? "auto",
      env: context.env,
      settings: context.settings,
      directories: context.directories,
      guest: async () => options.bootSource,
      signal: options.signal,
    }),
  );
  return vmm;
}

type Finding<T> = { readonly found: T } | { readonly found?: undefined; readonly unusable: Unusable };

function usableOrThrow<T>(finding: Finding<T>): T {
  if (finding.found !== undefined) return finding.found;
  throw "unusable" in finding ? unusableError(finding.unusable) : new Error("a finding is one or the other");
}

async function findFirecracker(selection: VmmSelection): Promise<Finding<FirecrackerProgram>> {
  const executable = await findProgram(selection, "firecracker", {
    variable: "FIRECTL_FIRECRACKER",
    field: "firecracker",
  });
  if (executable === undefined) {
    return {
      unusable: {
        code: "TOOL_MISSING",
        reason: "Firecracker is not installed",
        hint: "put firecracker on PATH or its path into FIRECTL_FIRECRACKER",
      },
    };
  }
  const unusable = await checkKvmDevice();
  if (unusable !== undefined) return { unusable };
  return { found: await describeFirecracker(executable, probeOptions(selection)) };
}

async function provenFirecracker(selection: VmmSelection): Promise<Finding<FirecrackerProgram>> {
  const finding = await findFirecracker(selection);
  if (finding.found === undefined) return finding;
  const guest = await selection.guest({ compressed: loadsCompressedKernel(finding.found.version) });
  const unusable = await probeFirecracker(finding.found, guest, probeOptions(selection));
  return unusable === undefined ? finding : { unusable };
}

async function findQemu(selection: VmmSelection): Promise<Finding<Vmm>> {
  const name = process.arch === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64";
  const executable = await findProgram(selection, name, {
    variable: "FIRECTL_QEMU",
    field: "qemu",
  });
  const vhostDeviceVsock = await findProgram(selection, "vhost-device-vsock", {
    variable: "FIRECTL_VHOST_DEVICE_VSOCK",
    field: "vhostDeviceVsock",
  });
  if (executable !== undefined && vhostDeviceVsock !== undefined) {
    return { found: qemuVmm({ executable, vhostDeviceVsock }) };
  }
  const missing = [
    ...(executable === undefined ? [{ name, command: INSTALL_QEMU }] : []),
    ...(vhostDeviceVsock === undefined ? [{ name: "vhost-device-vsock", command: INSTALL_VSOCK }] : []),
  ];
  const names = missing.map((program) => program.name).join(" and ");
  return {
    unusable: {
      code: "TOOL_MISSING",
      reason: `${names} ${missing.length === 1 ? "is" : "are"} not installed`,
      hint: missing.map(({ command }) => command).join(" && "),
    },
  };
}

function probeOptions(selection: VmmSelection): Parameters<typeof describeFirecracker>[1] {
  return {
    directory: selection.directories.runtime,
    timeoutMs: secondsIn(selection.env, "FIRECTL_PROBE_TIMEOUT") ?? PROBE_TIMEOUT_MS,
    signal: selection.signal,
  };
}

import { accessSync, closeSync, constants, existsSync, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError, messageOf } from "../core/errors.ts";
import { tryFileLock, withFileLock } from "../host/file-lock.ts";
import { makePrivateDirectory } from "../host/files.ts";
import { killSupervised, readLogTail, readVmmStatus } from "../host/supervise.ts";
import { watchUntil } from "../host/watch-directory.ts";
import type { Unusable } from "../vmm/choose.ts";
import { answerKey, recall, remember } from "./answers.ts";
import { firecrackerVmm } from "./backend.ts";
import type { FirecrackerProgram } from "./launch.ts";
import { type FirecrackerVersion, readFirecrackerVersion } from "./version.ts";

export interface ProbeOptions {
  /** firectl's runtime directory: the answer is kept there, and a probing VM while it runs. */
  readonly directory: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly device?: string;
}

/** What the probing guest boots. */
export interface ProbeGuest {
  readonly kernelImagePath: string;
  readonly initrdPath: string;
}

const ANSWERS_FILE = "vmm-answers.json";
const LOCK_FILE = "vmm-answers.lock";
const PROBE_DIRECTORY = "probe";
const KVM = "/dev/kvm";

/** How much longer than a probe another firectl waits for its answer. */
const PATIENCE_MS = 30_000;

/** Why /dev/kvm cannot even be opened; undefined when it can. */
export async function checkKvmDevice(device: string = KVM): Promise<Unusable | undefined> {
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    closeSync(openSync(device, "r+"));
    return undefined;
  } catch (error) {
    return kvmProblem(device, error);
  }
}

function kvmProblem(device: string, error: unknown): Unusable {
  switch (errnoOf(error)) {
    case "ENOENT":
    case "ENODEV":
    case "ENXIO":
      return {
        code: "KVM_UNUSABLE",
        reason: `this host has no ${device}`,
        hint: "enable virtualization in its firmware, or nested virtualization if it is a virtual machine itself",
      };
    case "EACCES":
    case "EPERM":
      return {
        code: "PERMISSION_DENIED",
        reason: `you may not use ${device}`,
        hint: `sudo usermod -aG kvm $USER and log in again, or sudo setfacl -m u:$USER:rw ${device}`,
      };
    default:
      return {
        code: "KVM_UNUSABLE",
        reason: `${device} cannot be opened: ${messageOf(error)}`,
        hint: "see the host's kernel log: sudo dmesg",
      };
  }
}

/** The version of a Firecracker binary, remembered until the binary or the boot of the host changes. */
export async function describeFirecracker(
  executable: string,
  options: ProbeOptions,
): Promise<FirecrackerProgram> {
  const file = path.join(options.directory, ANSWERS_FILE);
  const key = answerKey("version", [executable]);
  const known = await recall(file, key);
  if (isVersion(known)) return { executable, version: known };
  const version = await readFirecrackerVersion(executable);
  await locked(options, () => remember(file, key, version));
  return { executable, version };
}

function isVersion(value: unknown): value is FirecrackerVersion {
  return Array.isArray(value) && value.length === 3 && value.every((part) => typeof part === "number");
}

/**
 * Whether Firecracker runs a guest on this host's KVM, found out by running one: there are hosts whose
 * /dev/kvm opens and then hangs. The answer is remembered until the host boots again or Firecracker or the
 * kernel change; several firectls ask once.
 * @returns undefined when it does.
 */
export async function probeFirecracker(
  program: FirecrackerProgram,
  guest: ProbeGuest,
  options: ProbeOptions,
): Promise<Unusable | undefined> {
  const file = path.join(options.directory, ANSWERS_FILE);
  const key = answerKey("probe", [program.executable, guest.kernelImagePath]);
  const known = parseAnswer(await recall(file, key));
  if (known !== undefined) return known.unusable;
  return locked(options, async () => {
    const meanwhile = parseAnswer(await recall(file, key));
    if (meanwhile !== undefined) return meanwhile.unusable;
    const unusable = await bootProbe(program, guest, options);
    await remember(
      file,
      key,
      unusable === undefined ? { usable: true } : { usable: false, reason: unusable.reason },
    );
    return unusable;
  });
}

/**
 * Ends and removes a probing VM whose firectl was killed; does nothing while one is at work.
 */
export async function removeStaleProbe(directory: string): Promise<void> {
  const probe = path.join(directory, PROBE_DIRECTORY);
  if (!existsSync(probe)) return;
  await tryFileLock(path.join(directory, LOCK_FILE), () => removeProbe(probe));
}

async function locked<T>(options: ProbeOptions, work: () => Promise<T>): Promise<T> {
  await makePrivateDirectory(options.directory);
  return withFileLock(
    path.join(options.directory, LOCK_FILE),
    { timeoutMs: options.timeoutMs + PATIENCE_MS, signal: options.signal },
    work,
  );
}

async function bootProbe(
  program: FirecrackerProgram,
  guest: ProbeGuest,
  options: ProbeOptions,
): Promise<Unusable | undefined> {
  const directory = path.join(options.directory, PROBE_DIRECTORY);
  await removeProbe(directory);
  await makePrivateDirectory(directory);
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal]);
  try {
    await firecrackerVmm(program).launch(
      {
        vcpuCount: 1,
        memoryMib: 128,
        bootSource: { ...guest, kernelArguments: ["firectl.probe"] },
        drives: [],
        vsock: { guestCid: 3, socketPath: path.join(directory, "vm.vsock") },
      },
      {
        runtimeDirectory: directory,
        consolePath: path.join(directory, "console.log"),
        logPath: path.join(directory, "vmm.log"),
        afterExit: [],
        signal,
      },
    );
    await watchUntil(
      { directory, timeoutMs: options.timeoutMs, waitingFor: "the probing guest to end", signal },
      () => readVmmStatus(directory),
    );
    return await verdictOf(directory);
  } catch (error) {
    options.signal?.throwIfAborted();
    if (deadline.aborted || (error instanceof FirectlError && error.code === "TIMEOUT")) {
      return unusable(`a guest started on ${KVM} did not run within ${options.timeoutMs / 1000} s`);
    }
    if (!(error instanceof FirectlError)) throw error;
    return unusable(`Firecracker cannot run a guest on ${KVM}: ${error.message}`);
  } finally {
    await removeProbe(directory);
  }
}

const QUOTED_CONSOLE_BYTES = 4096;

/** The guest's reset is Firecracker's good end; but a kernel that panics resets the machine, too. */
async function verdictOf(directory: string): Promise<Unusable | undefined> {
  const status = readVmmStatus(directory);
  const console = await readLogTail(path.join(directory, "console.log"), QUOTED_CONSOLE_BYTES);
  const panic = /Kernel panic[^\n]*/.exec(console)?.[0];
  if (panic !== undefined) return unusable(`a guest started on ${KVM} did not boot: ${panic}`);
  if (status === 0) return undefined;
  return unusable(`Firecracker ended with status ${status} when it ran a guest on ${KVM}`);
}

function unusable(reason: string): Unusable {
  return {
    code: "KVM_UNUSABLE",
    reason: reason.replaceAll(/\s+/g, " "),
    hint: "--vmm firecracker tries it all the same",
  };
}

async function removeProbe(directory: string): Promise<void> {
  await killSupervised(directory);
  await rm(directory, { recursive: true, force: true });
}

function parseAnswer(value: unknown): { unusable: Unusable | undefined } | undefined {
  if (typeof value !== "object" || value === null || !("usable" in value)) return undefined;
  if (value.usable === true) return { unusable: undefined };
  return "reason" in value && typeof value.reason === "string"
    ? { unusable: unusable(value.reason) }
    : undefined;
}

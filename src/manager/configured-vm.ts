import { readFile } from "node:fs/promises";
import path from "node:path";
import type { VmId } from "../core/brands.ts";
import { FirectlError, messageOf } from "../core/errors.ts";
import { FirecrackerApi } from "../firecracker/api/client.ts";
import { CleanupStack } from "../host/cleanup.ts";
import { ioError, makePrivateDirectory } from "../host/files.ts";
import { runQmp } from "../qemu/qmp.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { parseRawConfiguration, type RawConfiguration } from "../vmm/raw-configuration.ts";
import type { Vmm, VmmName } from "../vmm/vmm.ts";
import type { ExitReport, OutputChunk, RunConfigurationOptions, StartedVm, StartTimings } from "./api.ts";
import { launchOptionsFor, recordAsRunning } from "./boot-vm.ts";
import type { Context } from "./context.ts";
import { destroyVm } from "./destroy-vm.ts";
import { detachVm } from "./detach-vm.ts";
import { noAgent } from "./guest-access.ts";
import { killVm } from "./kill-vm.ts";
import { readConsole } from "./logs.ts";
import { chooseVmmAlone } from "./platform.ts";
import { createRecord } from "./record-for.ts";
import { changeRecord, vmIdOf } from "./records.ts";
import { inStage } from "./stage.ts";
import { checkRunOptions } from "./vm-options.ts";
import { vmPathsOf } from "./vm-paths.ts";
import { waitForVm } from "./wait-vm.ts";

const ASK_TIMEOUT_MS = 5_000;

/**
 * Starts a microVM from a hand-written Firecracker configuration, on record like any other. No agent of
 * firectl's runs in it: its output is its console, and its end the end of its VMM.
 * @throws FirectlError INVALID_CONFIGURATION, FILE_NOT_FOUND, UNSUPPORTED (QEMU lacks a section), VMM_REFUSED.
 */
export async function runConfiguredVm(
  context: Context,
  options: RunConfigurationOptions,
): Promise<StartedVm> {
  const startedAt = performance.now();
  const configPath = path.resolve(options.configPath);
  const raw = await readConfiguration(configPath);
  const size = checkRunOptions(options.name === undefined ? {} : { name: options.name }, context.settings);
  await using undo = new CleanupStack();
  const record = await createRecord(context, {
    name: options.name,
    imageName: configPath,
    size: {
      ...size,
      cpus: raw["machine-config"].vcpu_count,
      memoryMib: raw["machine-config"].mem_size_mib,
    },
    labels: options.labels ?? {},
    autoRemove: options.autoRemove ?? false,
    attached: !(options.detach ?? false),
    configPath,
  });
  undo.defer(() => destroyVm(context, record.id));
  const vmm = await inStage("choosing the VMM", () => chooseVmmAlone(context, options));
  const prepareMs = performance.now() - startedAt;
  const running = await inStage(`starting the microVM with ${vmm.name}`, () =>
    launch(context, { record, raw, vmm, signal: options.signal }),
  );
  undo.move();
  const totalMs = performance.now() - startedAt;
  return new ConfiguredVm(context, running, { prepareMs, vmmMs: totalMs - prepareMs, totalMs });
}

async function readConfiguration(configPath: string): Promise<RawConfiguration> {
  let text: string;
  try {
    text = await readFile(configPath, "utf8");
  } catch (error) {
    throw ioError(`cannot read the configuration ${configPath}`, error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new FirectlError("INVALID_CONFIGURATION", `${configPath} is not JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
  return parseRawConfiguration(value, { directory: path.dirname(configPath) });
}

async function launch(
  context: Context,
  options: { record: VmRecord; raw: RawConfiguration; vmm: Vmm; signal: AbortSignal | undefined },
): Promise<VmRecord> {
  const { record, raw, vmm } = options;
  const paths = vmPathsOf(context.directories, record.id);
  await makePrivateDirectory(paths.directory);
  await makePrivateDirectory(paths.runtimeDirectory);
  // On record before the VMM makes them: they lie where no sweep would look.
  await changeRecord(context.vms, record.id, (current) => ({
    ...current,
    kernelPath: raw["boot-source"].kernel_image_path,
    rootfsPath: rootDriveOf(raw) ?? current.rootfsPath,
    configSockets: raw.vsock == null ? [] : [raw.vsock.uds_path],
  }));
  const started = await vmm.launchRaw(
    raw,
    launchOptionsFor(context, { record, paths, signal: options.signal }),
  );
  return recordAsRunning(context, { id: record.id, vmm, booted: { vmm: started }, machine: null });
}

function rootDriveOf(raw: RawConfiguration): string | undefined {
  return raw.drives.find((drive) => drive.is_root_device)?.path_on_host ?? undefined;
}

/** Asks the guest to shut down by itself, as a keyboard or a power button would; returns whether it could. */
export async function askConfiguredVmToStop(record: VmRecord): Promise<boolean> {
  try {
    if (record.vmm === "firecracker") {
      using api = new FirecrackerApi(record.vmSocketPath, { timeoutMs: ASK_TIMEOUT_MS });
      await api.act("SendCtrlAltDel");
    } else {
      await runQmp(record.vmSocketPath, ["system_powerdown"], { timeoutMs: ASK_TIMEOUT_MS });
    }
    return true;
  } catch {
    // It has no such device, or its VMM hangs: the kill that follows needs neither.
    return false;
  }
}

class ConfiguredVm implements StartedVm {
  readonly id: VmId;
  readonly name: string;
  readonly vmm: VmmName;
  readonly tty = false;
  readonly openStdin = false;
  readonly exit: Promise<ExitReport>;
  readonly #context: Context;
  readonly #record: VmRecord;
  #belongsToUs: boolean;
  readonly #timings: StartTimings;
  readonly #stop = new AbortController();

  constructor(context: Context, record: VmRecord, timings: StartTimings) {
    if (record.vmm === null) throw new Error(`${record.id} is not a running VM's record`);
    this.id = vmIdOf(record);
    this.name = record.name;
    this.vmm = record.vmm;
    this.#context = context;
    this.#record = record;
    this.#belongsToUs = record.attached;
    this.#timings = timings;
    this.exit = waitForVm(context, record, { signal: this.#stop.signal });
    this.exit.catch(() => {});
  }

  timings(): StartTimings {
    return this.#timings;
  }

  async *output(): AsyncIterable<OutputChunk> {
    const console = readConsole(this.#context, this.#record, { follow: true, signal: this.#stop.signal });
    for await (const data of console) yield { stream: "stdout", data };
  }

  async sendInput(): Promise<void> {
    throw noAgent(this.name, "input");
  }

  async resize(): Promise<void> {
    throw noAgent(this.name, "a terminal");
  }

  async detach(): Promise<void> {
    if (!this.#belongsToUs) return;
    await detachVm(this.#context, this.#record);
    this.#belongsToUs = false;
  }

  async signal(signal: string): Promise<void> {
    if (signal === "SIGTERM" || signal === "SIGINT") await askConfiguredVmToStop(this.#record);
    else await killVm(this.#context, this.#record, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.exit.catch(() => {});
    if (!this.#belongsToUs) return;
    await destroyVm(this.#context, this.#record.id, (current) => current.state === "running");
  }
}

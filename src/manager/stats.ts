import { stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { errnoOf } from "../core/errors.ts";
import type { GuestClient } from "../guest/client.ts";
import type { InterfaceStats, StatsResponse } from "../guest/gen/firectl/agent/v1/stats_pb.ts";
import { costOfProcess } from "../host/process-cost.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { Context } from "./context.ts";
import { connectGuest } from "./guest-access.ts";
import { reconcile } from "./reconcile.ts";
import { isVmmAlive, vmIdOf } from "./records.ts";
import type { GuestUse, HostCost, InterfaceUse, StatsOptions, VmStats } from "./stats-api.ts";
import { findByReference } from "./vm-names.ts";
import { vmPathsOf } from "./vm-paths.ts";

const INTERVAL_MS = 1000;
/** A guest that takes longer is shown without its own figures, until it answers. */
const ANSWER_MS = 2000;
/** For one that has not answered before: it holds up the others no more. */
const LATE_ANSWER_MS = 100;

/**
 * What VMs use, again and again until the signal aborts; rates are there from the second time on. A guest that does
 * not answer holds up nobody.
 * @throws FirectlError VM_NOT_FOUND, AMBIGUOUS_NAME.
 */
export async function* watchStats(
  context: Context,
  options: StatsOptions,
): AsyncGenerator<readonly VmStats[]> {
  const watched = new Map<string, WatchedVm>();
  try {
    for (;;) {
      const records = await chosenRecords(context, options);
      for (const [id, vm] of watched) {
        if (records.some((record) => record.id === id)) continue;
        vm.close();
        watched.delete(id);
      }
      const stats = records.map((record) => {
        const vm = watched.get(record.id) ?? new WatchedVm(context);
        watched.set(record.id, vm);
        return vm.look(record);
      });
      yield await Promise.all(stats);
      await sleep(options.intervalMs ?? INTERVAL_MS, undefined, { signal: options.signal });
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    for (const vm of watched.values()) vm.close();
  }
}

async function chosenRecords(context: Context, options: StatsOptions): Promise<VmRecord[]> {
  const records = await reconcile(context);
  if (options.vms !== undefined && options.vms.length > 0) {
    return options.vms.map((vm) => findByReference(records, vm));
  }
  return records.filter(({ state }) => (options.all ?? false) || state === "running");
}

/** One VM from look to look. */
class WatchedVm {
  readonly #context: Context;
  #guest: { readonly client: GuestClient; readonly startedAt: string | null } | undefined;
  #question: Promise<StatsResponse | undefined> | undefined;
  #isLate = false;
  #lastGuest: StatsResponse | undefined;
  #lastHost: { readonly atMs: number; readonly cpuMs: number } | undefined;

  constructor(context: Context) {
    this.#context = context;
  }

  async look(record: VmRecord): Promise<VmStats> {
    const isRunning = record.state === "running" && isVmmAlive(record);
    const [guest, diskBytes] = await Promise.all([
      isRunning ? this.#askGuest(record) : undefined,
      diskBytesOf(this.#context, record),
    ]);
    return {
      id: vmIdOf(record),
      name: record.name,
      state: record.state,
      guest,
      host: isRunning ? this.#hostCost(record) : undefined,
      diskBytes,
    };
  }

  async #askGuest(record: VmRecord): Promise<GuestUse | undefined> {
    // A VM made from a Firecracker configuration has no agent.
    if (record.workload === null) return undefined;
    if (this.#guest !== undefined && this.#guest.startedAt !== record.startedAt) this.close();
    this.#guest ??= {
      client: connectGuest(record, { dialMs: ANSWER_MS }),
      startedAt: record.startedAt,
    };
    const { client } = this.#guest;
    this.#question ??= client.stats({ timeoutMs: ANSWER_MS }).catch(() => undefined);
    const question = this.#question;
    const answer = await Promise.race([
      question,
      sleep(this.#isLate ? LATE_ANSWER_MS : ANSWER_MS, "late" as const),
    ]);
    if (answer === "late") {
      this.#isLate = true;
      return undefined;
    }
    this.#question = undefined;
    if (answer === undefined) {
      // Whatever is wrong with it, its row says so; the next look begins anew.
      this.#isLate = true;
      this.close();
      return undefined;
    }
    this.#isLate = false;
    const last = this.#lastGuest;
    this.#lastGuest = answer;
    return guestUse(answer, last);
  }

  #hostCost(record: VmRecord): HostCost {
    const processes = [...(record.process === null ? [] : [record.process]), ...record.companions];
    const costs = processes.flatMap(({ pid }) => costOfProcess(pid) ?? []);
    const cpuMs = costs.reduce((sum, cost) => sum + cost.cpuMs, 0);
    const memoryBytes = costs.reduce((sum, cost) => sum + cost.memoryBytes, 0);
    const atMs = performance.now();
    const last = this.#lastHost;
    this.#lastHost = { atMs, cpuMs };
    const cpuPercent =
      last === undefined || cpuMs < last.cpuMs ? undefined : percent(cpuMs - last.cpuMs, atMs - last.atMs);
    return { cpuPercent, cpuMs, memoryBytes };
  }

  close(): void {
    this.#guest?.client.close();
    this.#guest = undefined;
    this.#question = undefined;
    this.#lastGuest = undefined;
  }
}

/** Figures of a hostile guest: whatever they are, they are numbers. */
function guestUse(now: StatsResponse, last: StatsResponse | undefined): GuestUse {
  const passedNs = last === undefined ? 0n : now.sinceBootNs - last.sinceBootNs;
  const usedUs = last === undefined ? 0n : now.cpuUsageUs - last.cpuUsageUs;
  return {
    cpuPercent: passedNs <= 0n || usedUs < 0n ? undefined : percent(Number(usedUs) * 1000, Number(passedNs)),
    cpuMs: Number(now.cpuUsageUs) / 1000,
    throttledMs: Number(now.cpuThrottledUs) / 1000,
    processors: now.processors,
    memoryBytes: Number(now.memoryBytes),
    memoryLimitBytes: Number(now.memoryLimitBytes),
    pageCacheBytes: Number(now.pageCacheBytes),
    swapBytes: Number(now.swapBytes),
    guestMemoryBytes: Number(now.guestMemoryBytes),
    guestAvailableBytes: Number(now.guestAvailableBytes),
    pids: now.pids,
    pidsLimit: now.pidsLimit,
    readBytes: Number(now.readBytes),
    writtenBytes: Number(now.writtenBytes),
    reads: Number(now.reads),
    writes: Number(now.writes),
    oomKills: Number(now.oomKills),
    network: now.eth0 && interfaceUse(now.eth0),
  };
}

function interfaceUse(eth0: InterfaceStats): InterfaceUse {
  return {
    receivedBytes: Number(eth0.rxBytes),
    receivedPackets: Number(eth0.rxPackets),
    receiveErrors: Number(eth0.rxErrors),
    receiveDrops: Number(eth0.rxDropped),
    sentBytes: Number(eth0.txBytes),
    sentPackets: Number(eth0.txPackets),
    sendErrors: Number(eth0.txErrors),
    sendDrops: Number(eth0.txDropped),
  };
}

function percent(part: number, whole: number): number {
  return whole > 0 ? (part / whole) * 100 : 0;
}

async function diskBytesOf(context: Context, record: VmRecord): Promise<number> {
  const { rootfs, controlDrive } = vmPathsOf(context.directories, record.id);
  const sizes = [rootfs, controlDrive].map(async (file) => {
    try {
      return (await stat(file)).blocks * 512;
    } catch (error) {
      // A VM that is being made or removed may not have it.
      if (errnoOf(error) === "ENOENT") return 0;
      throw error;
    }
  });
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

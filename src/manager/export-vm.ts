import { rm } from "node:fs/promises";
import { setImmediate } from "node:timers/promises";
import { FirectlError } from "../core/errors.ts";
import { openFilesystem } from "../rootfs/ext4-reader/filesystem.ts";
import type { Volume } from "../rootfs/ext4-reader/volume.ts";
import { type RootView, walkView } from "../rootfs/overlay/walk.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { type TarContent, writeTar } from "../tar/writer.ts";
import type { ExportOptions } from "./api.ts";
import type { Context } from "./context.ts";
import { copyOfRunning } from "./frozen-copy.ts";
import { gatherChunks } from "./gather-chunks.ts";
import { requireState } from "./records.ts";

/** Where the agent has the overlay's upper directory on the VM's disk: agent/src/mounts.rs. */
const UPPER_PATH = "upper";
/** How long reading may keep everything else waiting. */
const SLICE_MS = 20;

/** The disks that make up a VM's root filesystem. */
export interface RootDisks {
  readonly isOverlay: boolean;
  readonly base: string;
  /** What the guest writes to: the same as `base` without an overlay. */
  readonly own: string;
}

/**
 * A VM's filesystem as a tar, read from its disks without a mount. A running guest's disk is copied while its
 * writes are held back.
 * @throws FirectlError WRONG_STATE, UNSUPPORTED, DISK_INVALID, TIMEOUT, NO_SPACE.
 */
export async function* exportVm(
  context: Context,
  record: VmRecord,
  options: ExportOptions,
): AsyncGenerator<Uint8Array, void> {
  requireState(record, "export", ["running", "exited", "dead"]);
  const disks = rootDisksOf(record);
  const copy = await copyOfRunning(context, record, { from: disks.own, signal: options.signal });
  let view: RootView;
  try {
    view = openView(disks, copy ?? disks.own);
  } finally {
    // What is open stays readable; a firectl that is killed now leaves nothing behind.
    if (copy !== undefined) await rm(copy, { force: true });
  }
  try {
    const unchanged = copy === undefined ? () => refuseStarted(context, record) : async () => {};
    yield* gatherChunks(writeTar(inSlices(walkView(view), { signal: options.signal, atEnd: unchanged })));
  } finally {
    for (const volume of volumesOf(view)) volume[Symbol.dispose]();
  }
}

export function rootDisksOf(record: VmRecord): RootDisks {
  const { machine, workload } = record;
  const driveOf = (id: string) => machine?.drives.find((drive) => drive.id === id)?.path;
  const base = driveOf("rootfs");
  const isOverlay = workload?.storage === "overlay";
  const own = isOverlay ? driveOf("upper") : base;
  if (workload !== null && base !== undefined && own !== undefined) return { isOverlay, base, own };
  throw new FirectlError(
    "UNSUPPORTED",
    `${record.name} was made from a Firecracker configuration: firectl does not know what is on its disks`,
  );
}

export function openView(disks: RootDisks, own: string): RootView {
  if (!disks.isOverlay) return { kind: "plain", volume: openFilesystem(own, disks.own) };
  const lower = openFilesystem(disks.base);
  try {
    return { kind: "overlay", lower, upper: openFilesystem(own, disks.own), upperPath: UPPER_PATH };
  } catch (error) {
    lower[Symbol.dispose]();
    throw error;
  }
}

export function volumesOf(view: RootView): readonly Volume[] {
  return view.kind === "plain" ? [view.volume] : [view.lower, view.upper];
}

/** The entries of a view, giving way to signals and other work now and then. */
export async function* inSlices(
  contents: Iterable<TarContent>,
  options: { readonly signal: AbortSignal | undefined; readonly atEnd: () => Promise<void> },
): AsyncGenerator<TarContent, void> {
  const pause = pauseAfterSlices(options.signal);
  for (const { entry, data } of contents) {
    await pause();
    yield data === undefined ? { entry } : { entry, data: withPauses(data, pause) };
  }
  await options.atEnd();
}

/** To be called again and again by what takes long: gives way when a slice is over. */
export function pauseAfterSlices(signal: AbortSignal | undefined): () => Promise<void> {
  let sliceEnd = performance.now() + SLICE_MS;
  return async () => {
    if (performance.now() < sliceEnd) return;
    await setImmediate();
    signal?.throwIfAborted();
    sliceEnd = performance.now() + SLICE_MS;
  };
}

async function* withPauses(
  data: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  pause: () => Promise<void>,
): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of data) {
    await pause();
    yield chunk;
  }
}

/** A disk that a guest writes to while it is read makes an archive of nothing that ever was. */
export async function refuseStarted(context: Context, record: VmRecord, doing = "exported"): Promise<void> {
  const now = (await context.vms.read()).find(({ id }) => id === record.id);
  // Removed meanwhile: its disks were open, and nobody wrote to them.
  if (now === undefined || (now.state !== "creating" && now.startedAt === record.startedAt)) return;
  throw new FirectlError("WRONG_STATE", `${record.name} was started while it was being ${doing}`, {
    hint: "try once more",
  });
}

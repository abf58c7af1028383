import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { MIB } from "../core/units.ts";
import { ioError } from "../host/files.ts";
import {
  BLOCK_BYTES,
  decodeStatusRegion,
  encodeDriveHead,
  MIN_RING_BYTES,
  type NumberedStatus,
  RING_OFFSET,
  type SpecInit,
  STATUS_BYTES,
  STATUS_OFFSET,
} from "./control-drive-format.ts";
import { FileChanges } from "./file-changes.ts";
import type { VmStatus } from "./gen/firectl/agent/v1/control_pb.ts";

/** How much of a workload's output is kept unless told otherwise, in bytes, record headers included. */
export const DEFAULT_OUTPUT_BYTES: number = 16 * MIB;

export interface ControlDriveOptions {
  readonly spec: SpecInit;
  /** Bytes of output to keep; rounded up to whole blocks, at least 64 KiB. */
  readonly outputBytes?: number | undefined;
}

/**
 * Creates the control drive of a VM, a sparse file that must not exist yet, readable by its owner only: it
 * holds the environment.
 * @throws FirectlError INVALID_ARGUMENT when the spec does not fit, IO_FAILED.
 */
export async function createControlDrive(path: string, options: ControlDriveOptions): Promise<void> {
  const wanted = Math.max(options.outputBytes ?? DEFAULT_OUTPUT_BYTES, MIN_RING_BYTES);
  const ringBytes = Math.ceil(wanted / BLOCK_BYTES) * BLOCK_BYTES;
  const head = encodeDriveHead(options.spec, ringBytes);
  try {
    const descriptor = openSync(path, "wx", 0o600);
    try {
      ftruncateSync(descriptor, RING_OFFSET + ringBytes);
      writeSync(descriptor, head, 0, head.length, 0);
    } catch (error) {
      rmSync(path, { force: true });
      throw error;
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    throw ioError(`cannot create the control drive ${path}`, error);
  }
}

/**
 * Gives the control drive of a VM that is to start again a new spec, without a status and with the output of
 * its earlier lives.
 * @throws FirectlError INVALID_ARGUMENT when the spec does not fit, FILE_NOT_FOUND, IO_FAILED.
 */
export async function renewControlDrive(path: string, spec: SpecInit): Promise<void> {
  try {
    await using handle = await open(path, "r+");
    const { size } = await handle.stat();
    const head = encodeDriveHead(spec, size - RING_OFFSET);
    await handle.write(head, 0, head.length, 0);
  } catch (error) {
    throw ioError(`cannot renew the control drive ${path}`, error);
  }
}

/** What the guest last said of itself; undefined before its first word. A claim of hostile origin. */
export async function readStatus(handle: FileHandle): Promise<VmStatus | undefined> {
  return (await readNumberedStatus(handle))?.status;
}

async function readNumberedStatus(handle: FileHandle): Promise<NumberedStatus | undefined> {
  const region = Buffer.alloc(STATUS_BYTES);
  const { bytesRead } = await handle.read(region, 0, STATUS_BYTES, STATUS_OFFSET);
  return decodeStatusRegion(region.subarray(0, bytesRead));
}

/** Between two looks at a status that did not change: the file changes with every piece of output too. */
const MIN_PAUSE_MS = 2;

/**
 * The guest's status, if any, and then each new one (of several in quick succession the last). Ends only by
 * `signal`, with its reason, or with the loop around it.
 */
export async function* watchStatus(
  handle: FileHandle,
  options: { readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<VmStatus, never> {
  const signal = options.signal ?? new AbortController().signal;
  using changes = new FileChanges(handle);
  let sequence = 0n;
  for (;;) {
    signal.throwIfAborted();
    const current = await readNumberedStatus(handle);
    if (current !== undefined && current.sequence > sequence) {
      sequence = current.sequence;
      yield current.status;
    } else {
      await new Promise((resolve) => setTimeout(resolve, MIN_PAUSE_MS));
    }
    await changes.next(signal);
  }
}

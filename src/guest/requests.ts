import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { mergeAsync } from "../core/merge-async.ts";
import { KIB } from "../core/units.ts";
import {
  type AttachRequest,
  AttachRequestSchema,
  type ExecRequest,
  ExecRequestSchema,
  type InputRequest,
  InputRequestSchema,
} from "./gen/firectl/agent/v1/agent_pb.ts";
import type { ConsoleSizeSchema, ProcessSchema } from "./gen/firectl/agent/v1/control_pb.ts";

const STDIN_PIECE_BYTES = 64 * KIB;

/** In characters. */
export type ConsoleSize = MessageInitShape<typeof ConsoleSizeSchema>;

/** What goes from the caller to a process. */
export interface ExecStreams {
  readonly process: MessageInitShape<typeof ProcessSchema>;
  /** What the process reads; undefined is an empty input. */
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
  /** Later sizes of the process's terminal. */
  readonly resizes?: AsyncIterable<ConsoleSize> | undefined;
  /** Leaves the process to itself when it aborts, and the call without a result. */
  readonly detachSignal?: AbortSignal | undefined;
}

/** What an Exec call sends: the process, then input and sizes until `ended`, then that the caller leaves. */
export async function* execRequests(options: ExecStreams, ended: AbortSignal): AsyncGenerator<ExecRequest> {
  yield create(ExecRequestSchema, { request: { case: "start", value: options.process } });
  const { detachSignal } = options;
  const stop = detachSignal === undefined ? ended : AbortSignal.any([ended, detachSignal]);
  yield* mergeAsync(stdinRequests(options.stdin, stop), resizeRequests(options.resizes, stop));
  if (detachSignal === undefined || ended.aborted) return;
  // What has been said is all there is to say, unless the caller leaves.
  await abortOf(stop);
  if (detachSignal.aborted) yield create(ExecRequestSchema, { request: { case: "detach", value: {} } });
}

async function* stdinRequests(
  source: AsyncIterable<Uint8Array> | undefined,
  stop: AbortSignal,
): AsyncGenerator<ExecRequest> {
  if (source !== undefined) {
    for await (const value of pieces(untilAborted(source, stop))) {
      yield create(ExecRequestSchema, { request: { case: "stdin", value } });
    }
  }
  if (!stop.aborted) yield create(ExecRequestSchema, { request: { case: "closeStdin", value: {} } });
}

async function* resizeRequests(
  sizes: AsyncIterable<ConsoleSize> | undefined,
  stop: AbortSignal,
): AsyncGenerator<ExecRequest> {
  if (sizes === undefined) return;
  for await (const value of untilAborted(sizes, stop)) {
    yield create(ExecRequestSchema, { request: { case: "resize", value } });
  }
}

/** What an Input call sends. */
export async function* inputRequests(source: AsyncIterable<Uint8Array>): AsyncGenerator<InputRequest> {
  for await (const data of pieces(source)) yield create(InputRequestSchema, { data });
}

/** What an Attach call sends: where the caller begins, then how far it has come. */
export async function* attachRequests(options: {
  readonly position: number;
  readonly taken: AsyncIterable<number>;
}): AsyncGenerator<AttachRequest> {
  const value = { position: BigInt(options.position) };
  yield create(AttachRequestSchema, { request: { case: "start", value } });
  for await (const taken of options.taken) {
    yield create(AttachRequestSchema, { request: { case: "taken", value: BigInt(taken) } });
  }
}

/** One item as a stream. */
export async function* only<T>(item: T): AsyncGenerator<T> {
  yield item;
}

/** Input cut into messages of a size that the agent takes. */
async function* pieces(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    for (let at = 0; at < chunk.length; at += STDIN_PIECE_BYTES) {
      yield chunk.subarray(at, at + STDIN_PIECE_BYTES);
    }
  }
}

function abortOf(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
}

/** The items of `source` until the signal aborts, even while it has none: a terminal may never say more. */
export async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  const aborted = abortOf(signal);
  for (;;) {
    const next = await Promise.race([iterator.next(), aborted]);
    if (next === undefined || next.done === true) return;
    yield next.value;
  }
}

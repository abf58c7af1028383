import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { CallOptions } from "@connectrpc/connect";
import { assertNever } from "../core/assert-never.ts";
import { type ErrorCode, FirectlError, messageOf } from "../core/errors.ts";
import { redactForeign } from "../core/redact.ts";
import { type AgentClient, type Dial, GuestConnection } from "./connection.ts";
import { type ExecExited, ExecRequestSchema } from "./gen/firectl/agent/v1/agent_pb.ts";
import type { ProcessSchema, VmStatus } from "./gen/firectl/agent/v1/control_pb.ts";
import {
  type CopyInRequest,
  CopyInRequestSchema,
  type StatPathResponse,
} from "./gen/firectl/agent/v1/copy_pb.ts";
import type { ResourceChangeSchema } from "./gen/firectl/agent/v1/resources_pb.ts";
import type { ProcessesResponse, StatsResponse } from "./gen/firectl/agent/v1/stats_pb.ts";
import { printable } from "./printable.ts";
import {
  attachRequests,
  type ConsoleSize,
  type ExecStreams,
  execRequests,
  inputRequests,
  only,
  untilAborted,
} from "./requests.ts";

/** Long for a healthy guest, short for someone who waits for a dead one. */
const CALL_TIMEOUT_MS = 10_000;
/** Metadata of each call, our clock in nanoseconds since the Unix epoch: agent/src/clock_sync.rs. */
const TIME_KEY = "firectl-time";

export interface WaitingOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until the call gives up; 10 s unless told otherwise. */
  readonly timeoutMs?: number | undefined;
}

export interface ExecOptions extends ExecStreams {
  /** Kills the process when it aborts. */
  readonly signal?: AbortSignal | undefined;
  /** Called in order, each after the last has resolved: a slow consumer slows the process. */
  readonly onStdout: (data: Uint8Array) => unknown;
  readonly onStderr: (data: Uint8Array) => unknown;
  /** Called once the process runs, with its pid in the workload's PID namespace. */
  readonly onStarted?: (pid: number) => unknown;
}

export interface ExecResult {
  /** 0–255; 128 + signal when a signal ended the process; 125–127 when it did not start. */
  readonly exitCode: number;
  /** The signal that ended the process, or 0. */
  readonly signal: number;
  /** Why the process did not start; undefined when it did. */
  readonly error: string | undefined;
}

/** Talks to the agent of one guest. Connects at the first call and again after the connection was lost. */
export class GuestClient implements Disposable {
  readonly #connection: GuestConnection;

  constructor(dial: Dial) {
    this.#connection = new GuestConnection(dial);
  }

  /** @throws FirectlError AGENT_UNREACHABLE, AGENT_FAILED, TIMEOUT; so do all the others. */
  async ping(options: WaitingOptions = {}): Promise<{ agentVersion: string; status: VmStatus | undefined }> {
    const { agentVersion, status } = await this.#call("ping", options, (client, call) =>
      client.ping({}, call),
    );
    return { agentVersion, status };
  }

  /** Resolves when the workload has ended. Without a timeout unless one is given. */
  async wait(options: WaitingOptions = {}): Promise<VmStatus> {
    const { status } = await this.#call("wait", { timeoutMs: 0, ...options }, (client, call) =>
      client.wait({}, call),
    );
    if (status === undefined)
      throw new FirectlError("AGENT_FAILED", "the guest's agent answered wait without a status");
    return status;
  }

  /** Sends a signal, by number, to the workload's first process. @throws FirectlError WRONG_STATE when it has ended. */
  async signal(number: number, options: WaitingOptions = {}): Promise<void> {
    await this.#call("signal", options, (client, call) => client.signal({ signal: number }, call));
  }

  /**
   * Orders the guest to end: `signal` (0: the workload's stop signal), after `graceMs` SIGKILL. Resolves when
   * the order is accepted; the end shows on the control drive and in the VMM's exit.
   */
  async shutdown(
    order: { readonly signal: number; readonly graceMs: number },
    options: WaitingOptions = {},
  ): Promise<void> {
    await this.#call("shutdown", options, (client, call) =>
      client.shutdown({ signal: order.signal, graceMs: BigInt(order.graceMs) }, call),
    );
  }

  /**
   * Writes everything to the VM's disk and holds back further writes to it, for at most `limitMs`.
   * @throws FirectlError WRONG_STATE when it is frozen already or the guest is ending, TIMEOUT when a write does not
   * end.
   */
  async freeze(limitMs: number, options: WaitingOptions = {}): Promise<void> {
    await this.#call("freeze", { timeoutMs: limitMs + CALL_TIMEOUT_MS, ...options }, (client, call) =>
      client.freeze({ limitMs: BigInt(limitMs) }, call),
    );
  }

  /** What the workload uses. */
  stats(options: WaitingOptions = {}): Promise<StatsResponse> {
    return this.#call("tell what it uses", options, (client, call) => client.stats({}, call));
  }

  /** The workload's processes. */
  processes(options: WaitingOptions = {}): Promise<ProcessesResponse> {
    return this.#call("list its processes", options, (client, call) => client.processes({}, call));
  }

  /**
   * Changes the workload's limits.
   * @throws FirectlError WRONG_STATE when it uses more memory than it would be left with.
   */
  async update(
    change: MessageInitShape<typeof ResourceChangeSchema>,
    options: WaitingOptions = {},
  ): Promise<void> {
    await this.#call("change the limits", options, (client, call) => client.update({ change }, call));
  }

  /** Lets writes go on, or gives up the freeze under way. Returns whether they were held back until now. */
  async thaw(options: WaitingOptions = {}): Promise<boolean> {
    const { expired } = await this.#call("thaw", options, (client, call) => client.thaw({}, call));
    return !expired;
  }

  /** What a path of the workload's filesystem is. @throws FirectlError FILE_NOT_FOUND. */
  async statPath(request: PathRequest, options: WaitingOptions = {}): Promise<StatPathResponse> {
    return this.#call("look", options, (client, call) => client.statPath(request, call));
  }

  /** The records of what is at a path. @throws FirectlError FILE_NOT_FOUND. */
  async *copyOut(request: PathRequest, options: WaitingOptions = {}): AsyncGenerator<Uint8Array, void> {
    const ended = new AbortController();
    const signals = options.signal === undefined ? [ended.signal] : [options.signal, ended.signal];
    const answers = await this.#call(
      "copy",
      { timeoutMs: 0, ...options },
      async (client, { signal, ...call }) =>
        client.copyOut(request, {
          ...call,
          signal: AbortSignal.any([...signals, ...(signal ? [signal] : [])]),
        }),
    );
    try {
      for await (const { piece } of answers) yield piece;
    } catch (error) {
      options.signal?.throwIfAborted();
      throw await agentError("copy", error);
    } finally {
      ended.abort();
    }
  }

  /** Writes what the records say into a directory of the workload's filesystem. */
  async copyIn(
    directory: Uint8Array,
    pieces: AsyncIterable<Uint8Array>,
    options: WaitingOptions = {},
  ): Promise<void> {
    await this.#call("copy", { timeoutMs: 0, ...options }, async (client, call) => {
      await client.copyIn(copyInRequests(directory, pieces), call);
    });
  }

  /**
   * Runs a process beside the workload to its end.
   * @throws FirectlError WRONG_STATE when the workload has ended; the reason of `detachSignal`.
   */
  async exec(options: ExecOptions): Promise<ExecResult> {
    const ended = new AbortController();
    try {
      return await this.#call("exec", { signal: options.signal, timeoutMs: 0 }, async (client, call) => {
        const answers = client.exec(execRequests(options, ended.signal), call);
        for await (const { response } of answers) {
          switch (response.case) {
            case "stdout":
              await options.onStdout(response.value);
              break;
            case "stderr":
              await options.onStderr(response.value);
              break;
            case "started":
              await options.onStarted?.(response.value.pid);
              break;
            case "exited": {
              return execResultOf(response.value);
            }
            case undefined:
              break;
            default:
              assertNever(response);
          }
        }
        options.detachSignal?.throwIfAborted();
        throw new FirectlError("AGENT_FAILED", "the guest's agent ended exec without an exit status");
      });
    } finally {
      ended.abort();
    }
  }

  /**
   * Starts a process beside the workload that nobody attends to. Returns how it failed to start, or undefined.
   * @throws FirectlError WRONG_STATE when the workload has ended.
   */
  async execDetached(
    process: MessageInitShape<typeof ProcessSchema>,
    options: WaitingOptions = {},
  ): Promise<ExecResult | undefined> {
    const request = create(ExecRequestSchema, { request: { case: "startDetached", value: process } });
    return this.#call("exec", options, async (client, call) => {
      let failure: ExecResult | undefined;
      for await (const { response } of client.exec(only(request), call)) {
        if (response.case === "exited") failure = execResultOf(response.value);
      }
      return failure;
    });
  }

  /**
   * Says how far the workload's output has been taken, from `position` on, until `taken` ends or the workload
   * does: while half of what the drive holds has not been taken, the workload is held back.
   * @throws FirectlError WRONG_STATE when the workload has ended.
   */
  async attach(options: {
    readonly position: number;
    readonly taken: AsyncIterable<number>;
    readonly signal?: AbortSignal | undefined;
  }): Promise<void> {
    const { signal } = options;
    await this.#call("attach", { signal, timeoutMs: 0 }, async (client, call) => {
      for await (const _ of client.attach(attachRequests(options), call));
    });
  }

  /**
   * Sends what the workload reads, until it ends or the workload takes no more.
   * @throws FirectlError WRONG_STATE when the workload has ended or has no input.
   */
  async input(source: AsyncIterable<Uint8Array>, options: WaitingOptions = {}): Promise<void> {
    const ended = new AbortController();
    try {
      await this.#call("input", { timeoutMs: 0, ...options }, (client, call) =>
        client.input(inputRequests(untilAborted(source, ended.signal)), call),
      );
    } finally {
      ended.abort();
    }
  }

  /** Sets the size of the workload's terminal. @throws FirectlError WRONG_STATE when it has none. */
  async resize(size: ConsoleSize, options: WaitingOptions = {}): Promise<void> {
    await this.#call("resize", options, (client, call) => client.resize({ size }, call));
  }

  async #call<T>(
    name: string,
    options: WaitingOptions,
    work: (client: AgentClient, call: CallOptions) => Promise<T>,
  ): Promise<T> {
    const { signal, timeoutMs = CALL_TIMEOUT_MS } = options;
    signal?.throwIfAborted();
    const { client, lost } = await this.#connection.client();
    try {
      return await work(client, {
        // A signal of its own each time: Connect leaves its listeners on the one it is given.
        signal: AbortSignal.any(signal === undefined ? [lost] : [signal, lost]),
        // A guest that was stopped, or whose host slept, has the right time again before the call is served.
        headers: { [TIME_KEY]: `${BigInt(Date.now()) * 1_000_000n}` },
        ...(timeoutMs > 0 ? { timeoutMs } : {}),
      });
    } catch (error) {
      signal?.throwIfAborted();
      if (lost.aborted) throw connectionLost(name, error);
      throw await agentError(name, error);
    }
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** A path, as bytes, and whether the link that it may name is followed. */
export interface PathRequest {
  readonly path: Uint8Array;
  readonly follow: boolean;
}

async function* copyInRequests(
  directory: Uint8Array,
  pieces: AsyncIterable<Uint8Array>,
): AsyncGenerator<CopyInRequest> {
  yield create(CopyInRequestSchema, { request: { case: "start", value: { directory } } });
  for await (const piece of pieces) {
    yield create(CopyInRequestSchema, { request: { case: "piece", value: piece } });
  }
}

function execResultOf({ exit, error }: ExecExited): ExecResult {
  return {
    exitCode: Math.min(exit?.code ?? 125, 255),
    signal: exit?.signal ?? 0,
    error: error === "" ? undefined : printable(error),
  };
}

function connectionLost(call: string, cause: unknown): FirectlError {
  return new FirectlError("AGENT_UNREACHABLE", `the connection to the guest was lost during ${call}`, {
    cause,
  });
}

const PATHS_IN_A_VM =
  "the path is one in the VM, from its root, whatever its working directory: check its spelling";

/** What the agent's refusals and the connection's failures mean to a user. */
async function agentError(call: string, error: unknown): Promise<unknown> {
  const { Code, ConnectError } = await import("@connectrpc/connect");
  if (!(error instanceof ConnectError)) return error;
  if (error.cause instanceof FirectlError) return error.cause;
  const codes: Partial<Record<number, ErrorCode>> = {
    [Code.InvalidArgument]: "INVALID_ARGUMENT",
    [Code.FailedPrecondition]: "WRONG_STATE",
    [Code.NotFound]: "FILE_NOT_FOUND",
    // The guest's disk is full.
    [Code.OutOfRange]: "NO_SPACE",
    [Code.Unimplemented]: "UNSUPPORTED",
    [Code.DeadlineExceeded]: "TIMEOUT",
    // The connection was lost, or never came about.
    [Code.Unavailable]: "AGENT_UNREACHABLE",
    [Code.Aborted]: "AGENT_UNREACHABLE",
    [Code.Canceled]: "AGENT_UNREACHABLE",
  };
  const code = codes[error.code] ?? "AGENT_FAILED";
  const cause = error.rawMessage === "" ? messageOf(error.cause) : error.rawMessage;
  const text = redactForeign(printable(cause).slice(0, 1024));
  const hint = code === "FILE_NOT_FOUND" ? { hint: PATHS_IN_A_VM } : {};
  return new FirectlError(code, `the guest's agent could not ${call}: ${text}`, { ...hint, cause: error });
}

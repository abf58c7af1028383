import { connect, type Socket } from "node:net";
import { FirectlError, messageOf } from "../core/errors.ts";
import { withDeadline } from "../host/deadline.ts";

/** A command without arguments is its name. */
export type QmpCommand =
  | string
  | { readonly execute: string; readonly arguments: Readonly<Record<string, unknown>> };

export interface QmpOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** QEMU has gone away, as it does when its guest ends. */
export class QmpClosedError extends FirectlError {
  constructor(message: string, options: { readonly cause?: unknown } = {}) {
    super("VMM_FAILED", message, options);
  }
}

/** A reply is one line of JSON; what we ask for is answered in less. */
const MAX_LINE_BYTES = 64 * 1024;

/**
 * Connects to a QMP socket, leaves its negotiation mode, runs `commands` in order and returns their results.
 * https://www.qemu.org/docs/master/interop/qmp-spec.html
 * @throws FirectlError VMM_REFUSED naming the command that QEMU refuses, VMM_FAILED when it does not speak
 *   QMP, as a {@link QmpClosedError} when it goes away, TIMEOUT. A connection that cannot be made rejects with
 *   the system's error.
 */
export async function runQmp(
  socketPath: string,
  commands: readonly QmpCommand[],
  options: QmpOptions,
): Promise<unknown[]> {
  return withDeadline({ ...options, waitingFor: `QEMU to answer on ${socketPath}` }, async (signal) => {
    const socket = await connectSocket(socketPath);
    const abort = (): void => {
      socket.destroy();
    };
    signal.addEventListener("abort", abort, { once: true });
    try {
      const lines = readLines(socket);
      const greeting = await nextMessage(lines);
      if (!("QMP" in greeting)) throw new FirectlError("VMM_FAILED", "QEMU did not greet on its QMP socket");
      const results: unknown[] = [];
      for (const command of ["qmp_capabilities", ...commands]) {
        const message = typeof command === "string" ? { execute: command } : command;
        socket.write(`${JSON.stringify(message)}\n`);
        results.push(await replyTo(message.execute, lines));
      }
      return results.slice(1);
    } finally {
      signal.removeEventListener("abort", abort);
      socket.destroy();
    }
  });
}

function connectSocket(socketPath: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}

async function* readLines(socket: Socket): AsyncGenerator<string> {
  let pending = "";
  for await (const chunk of socket.setEncoding("utf8")) {
    pending += String(chunk);
    const lines = pending.split("\n");
    pending = lines.pop() ?? "";
    if (pending.length > MAX_LINE_BYTES) throw new FirectlError("VMM_FAILED", "a QMP reply is not a line");
    yield* lines;
  }
}

async function nextMessage(lines: AsyncGenerator<string>): Promise<Record<string, unknown>> {
  let line: IteratorResult<string>;
  try {
    line = await lines.next();
  } catch (error) {
    if (error instanceof FirectlError) throw error;
    throw new QmpClosedError(`the QMP connection broke: ${messageOf(error)}`, { cause: error });
  }
  if (line.done === true) throw new QmpClosedError("QEMU closed its QMP socket");
  let message: unknown;
  try {
    message = JSON.parse(line.value);
  } catch {
    message = undefined;
  }
  if (typeof message !== "object" || message === null) {
    throw new FirectlError("VMM_FAILED", `not a QMP message: ${line.value.slice(0, 200)}`);
  }
  return { ...message };
}

async function replyTo(command: string, lines: AsyncGenerator<string>): Promise<unknown> {
  for (;;) {
    const message = await nextMessage(lines);
    if ("return" in message) return message["return"];
    const error = message["error"];
    if (typeof error === "object" && error !== null) {
      const description = "desc" in error ? String(error.desc) : JSON.stringify(error);
      throw new FirectlError("VMM_REFUSED", `QEMU refused ${command}: ${description}`);
    }
    // Anything else is an event.
  }
}

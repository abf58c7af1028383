import { setTimeout as sleep } from "node:timers/promises";
import { FirectlError, messageOf } from "../core/errors.ts";
import type { ExitReport, WorkloadSession } from "../manager/api.ts";
import type { CommandContext } from "./command.ts";
import { interruptedStatus } from "./interrupts.ts";
import type { CliSignal } from "./io.ts";
import type { Attached } from "./session-flags.ts";
import { type TypedInput, takeInput } from "./typed-input.ts";

/** What a workload may take to end after its terminal has been closed. */
const HANGUP_GRACE_MS = 10_000;
/** A guest that ends takes its connections with it: how long to wait for the word that it did. */
const END_GRACE_MS = 3_000;

export interface AttachOptions extends Attached {
  readonly detachKeys: Uint8Array;
  /** Whether signals go to the workload; else the first one leaves it. */
  readonly signalsPass: boolean;
  /** Leaves the workload running, and returns the exit status of that. */
  readonly leave: () => Promise<number>;
}

type Outcome = { readonly ended: ExitReport } | { readonly gaveUp: CliSignal } | "left";

/**
 * Copies the workload's output to ours, our input to it, and passes signals on, until the workload ends: the
 * first signal goes to the workload, the second ends the wait. Returns the exit status; `vm` is disposed of in
 * every case.
 */
export async function attachToWorkload(
  vm: WorkloadSession,
  context: CommandContext,
  options: AttachOptions,
): Promise<number> {
  await using attached = vm;
  context.interrupts.signal().throwIfAborted();
  const outcome = await untilEnd(attached, context, options);
  // Awaited, or else the VM would be disposed of meanwhile.
  if (outcome === "left") return await options.leave();
  if ("ended" in outcome) return statusOf(outcome.ended, context);
  if (!options.signalsPass) await options.leave();
  return interruptedStatus(outcome.gaveUp);
}

async function untilEnd(
  vm: WorkloadSession,
  context: CommandContext,
  options: AttachOptions,
): Promise<Outcome> {
  const { promise: gaveUp, stop } = passSignals(vm, context, options);
  try {
    using input = await takeInput(context, {
      tty: vm.tty,
      stdin: options.stdin && vm.openStdin,
      detachKeys: options.detachKeys,
    });
    void passSizes(vm, input);
    const ended = copyOutput(vm, { context, ...options }).then(async () => ({ ended: await vm.exit }));
    // Only the first of these is waited for.
    ended.catch(() => {});
    const failed = passInput(vm, input);
    failed.catch(() => {});
    return await Promise.race([ended, gaveUp, left(input.detached), failed]);
  } finally {
    stop();
  }
}

/** The exit status of a workload; a reason why it has none of its own goes to stderr. */
export function statusOf(report: ExitReport, context: CommandContext): number {
  if (report.error !== undefined) context.reportFailure(new FirectlError("GUEST_FAILED", report.error));
  if (report.oomKilled) {
    context.reportFailure(
      new FirectlError("GUEST_FAILED", "the workload was killed: the virtual machine ran out of memory", {
        hint: "give it more with --memory",
      }),
    );
  }
  return report.exitCode;
}

async function copyOutput(
  vm: WorkloadSession,
  options: Attached & { readonly context: CommandContext },
): Promise<void> {
  const { stdout, stderr } = options.context.io;
  for await (const chunk of vm.output()) {
    if (!options.outputs.has(chunk.stream)) continue;
    await (chunk.stream === "stdout" ? stdout : stderr).stream(chunk.data);
  }
}

/** Sends our input. Never resolves: its end is not the session's. */
async function passInput(vm: WorkloadSession, input: TypedInput): Promise<never> {
  try {
    if (input.stdin !== undefined) await vm.sendInput(input.stdin);
  } catch (error) {
    await sleep(END_GRACE_MS, undefined, { ref: false });
    throw error;
  }
  return new Promise(() => {});
}

async function passSizes(vm: WorkloadSession, input: TypedInput): Promise<void> {
  for await (const size of input.resizes) {
    // The workload may have ended; a terminal of the wrong size is no reason to end the session.
    await vm.resize(size).catch(() => {});
  }
}

function left(detached: AbortSignal): Promise<"left"> {
  return new Promise((resolve) => {
    detached.addEventListener("abort", () => resolve("left"), { once: true });
  });
}

/** Passes signals on to the workload; resolves with the one that ends the wait. */
function passSignals(
  vm: WorkloadSession,
  context: CommandContext,
  options: Pick<AttachOptions, "signalsPass">,
): { promise: Promise<Outcome>; stop: () => void } {
  let giveUp: (signal: CliSignal) => void = () => {};
  const promise = new Promise<Outcome>((resolve) => {
    giveUp = (gaveUp) => resolve({ gaveUp });
  });
  let seen = 0;
  const handBack = context.interrupts.takeOver((signal) => {
    seen++;
    if (seen > 1 || !options.signalsPass) {
      giveUp(signal);
      return;
    }
    void passSignalOn(vm, { signal, context });
    // The terminal is gone, and with it whoever could send a second signal.
    if (signal === "SIGHUP") setTimeout(() => giveUp(signal), HANGUP_GRACE_MS).unref();
  });
  const others = context.io.onSignal(
    (signal) => (options.signalsPass ? void passSignalOn(vm, { signal, context }) : giveUp(signal)),
    { passedOn: true },
  );
  return {
    promise,
    stop() {
      handBack();
      others();
    },
  };
}

async function passSignalOn(
  vm: WorkloadSession,
  options: { signal: CliSignal; context: CommandContext },
): Promise<void> {
  try {
    await vm.signal(options.signal);
  } catch (error) {
    options.context.reportFailure(
      new FirectlError(
        "AGENT_FAILED",
        `cannot pass ${options.signal} on to the workload: ${messageOf(error)}`,
        {
          hint: "send it again to end the wait",
          cause: error,
        },
      ),
    );
  }
}

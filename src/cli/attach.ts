import { FirectlError, messageOf } from "../core/errors.ts";
import type { ExitReport, StartedVm } from "../manager/api.ts";
import type { CommandContext } from "./command.ts";
import { interruptedStatus } from "./interrupts.ts";
import type { CliSignal } from "./io.ts";

/** What a workload may take to end after its terminal has been closed. */
const HANGUP_GRACE_MS = 10_000;

/**
 * Copies the workload's output to ours and passes signals on, until the workload ends: the first signal goes
 * to the workload, the second ends the wait. Returns the exit status; `vm` is disposed of in every case.
 */
export async function attachToWorkload(vm: StartedVm, context: CommandContext): Promise<number> {
  await using attached = vm;
  context.interrupts.signal().throwIfAborted();
  const { promise: gaveUp, giveUp } = untilSecondSignal();
  let signalsSeen = 0;
  const handBack = context.interrupts.takeOver((signal) => {
    signalsSeen++;
    if (signalsSeen > 1) {
      giveUp(signal);
      return;
    }
    void passSignalOn(attached, { signal, context });
    // The terminal is gone, and with it whoever could send a second signal.
    if (signal === "SIGHUP") setTimeout(() => giveUp(signal), HANGUP_GRACE_MS).unref();
  });
  try {
    const ended = copyOutput(attached, context).then(() => attached.exit);
    const outcome = await Promise.race([ended, gaveUp]);
    if (typeof outcome === "string") {
      ended.catch(() => {});
      return interruptedStatus(outcome);
    }
    return statusOf(outcome, context);
  } finally {
    handBack();
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

async function copyOutput(vm: StartedVm, context: CommandContext): Promise<void> {
  const { stdout, stderr } = context.io;
  for await (const chunk of vm.output()) {
    await (chunk.stream === "stdout" ? stdout : stderr).stream(chunk.data);
  }
}

async function passSignalOn(
  vm: StartedVm,
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

function untilSecondSignal(): { promise: Promise<CliSignal>; giveUp: (signal: CliSignal) => void } {
  let giveUp: (signal: CliSignal) => void = () => {};
  const promise = new Promise<CliSignal>((resolve) => {
    giveUp = resolve;
  });
  return { promise, giveUp };
}

import type { MessageInitShape } from "@bufbuild/protobuf";
import { FirectlError } from "../core/errors.ts";
import type { ExecResult } from "../guest/client.ts";
import type { ProcessSchema } from "../guest/gen/firectl/agent/v1/control_pb.ts";
import { signalName } from "../guest/signals.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { DetachedExecOptions, ExecOptions, ExitReport, TerminalSize } from "./api.ts";
import { connectGuest } from "./guest-access.ts";
import { requireState } from "./records.ts";
import { consoleSizeOf, environmentFor, terminalFor } from "./session.ts";
import { mergeEnvironment } from "./workload.ts";

/** Runs one more process beside the workload, with the workload's environment, directory and user as defaults. */
export async function execInVm(record: VmRecord, options: ExecOptions): Promise<ExitReport> {
  const process = processFor(record, options);
  using guest = connectGuest(record);
  const result = await guest.exec({
    process,
    stdin: options.stdin,
    ...(options.resizes === undefined ? {} : { resizes: consoleSizes(options.resizes) }),
    signal: options.signal,
    detachSignal: options.detachSignal,
    onStdout: (data) => options.onOutput({ stream: "stdout", data }),
    onStderr: (data) => options.onOutput({ stream: "stderr", data }),
  });
  return reportOf(result);
}

/** Starts one more process and leaves it; reports how it failed to start. */
export async function execDetachedInVm(
  record: VmRecord,
  options: DetachedExecOptions,
): Promise<ExitReport | undefined> {
  const process = processFor(record, options);
  using guest = connectGuest(record);
  const failure = await guest.execDetached(process, { signal: options.signal });
  return failure === undefined ? undefined : reportOf(failure);
}

function processFor(record: VmRecord, options: DetachedExecOptions): MessageInitShape<typeof ProcessSchema> {
  requireState(record, "exec in", ["running"]);
  if (options.command.length === 0) throw new FirectlError("INVALID_ARGUMENT", "exec needs a command");
  if (options.workingDir !== undefined && !options.workingDir.startsWith("/")) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `the working directory "${options.workingDir}" is not an absolute path`,
    );
  }
  const { workload } = record;
  const { tty = false } = options;
  const env = mergeEnvironment(workload?.env ?? [], options.env ?? []);
  return {
    args: [...options.command],
    env: environmentFor(env, { tty }),
    cwd: options.workingDir ?? workload?.cwd ?? "/",
    user: options.user ?? workload?.user ?? "",
    ...terminalFor({ tty, size: options.terminalSize }),
  };
}

async function* consoleSizes(
  sizes: AsyncIterable<TerminalSize>,
): AsyncGenerator<ReturnType<typeof consoleSizeOf>> {
  for await (const size of sizes) yield consoleSizeOf(size);
}

function reportOf(result: ExecResult): ExitReport {
  return {
    exitCode: result.exitCode,
    ...(result.signal === 0 ? {} : { signal: signalName(result.signal) }),
    oomKilled: false,
    ...(result.error === undefined ? {} : { error: result.error }),
  };
}

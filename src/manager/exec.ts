import { FirectlError } from "../core/errors.ts";
import { signalName } from "../guest/signals.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { ExecOptions, ExitReport } from "./api.ts";
import { connectGuest } from "./guest-access.ts";
import { requireState } from "./records.ts";
import { mergeEnvironment } from "./workload.ts";

/** Runs one more process beside the workload, with the workload's environment, directory and user as defaults. */
export async function execInVm(record: VmRecord, options: ExecOptions): Promise<ExitReport> {
  requireState(record, "exec in", ["running"]);
  if (options.command.length === 0) throw new FirectlError("INVALID_ARGUMENT", "exec needs a command");
  if (options.workingDir !== undefined && !options.workingDir.startsWith("/")) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `the working directory "${options.workingDir}" is not an absolute path`,
    );
  }
  using guest = connectGuest(record);
  const { workload } = record;
  const result = await guest.exec({
    process: {
      args: [...options.command],
      env: mergeEnvironment(workload?.env ?? [], options.env ?? []),
      cwd: options.workingDir ?? workload?.cwd ?? "/",
      user: options.user ?? workload?.user ?? "",
    },
    stdin: options.stdin,
    signal: options.signal,
    onStdout: (data) => options.onOutput({ stream: "stdout", data }),
    onStderr: (data) => options.onOutput({ stream: "stderr", data }),
  });
  return {
    exitCode: result.exitCode,
    ...(result.signal === 0 ? {} : { signal: signalName(result.signal) }),
    oomKilled: false,
    ...(result.error === undefined ? {} : { error: result.error }),
  };
}

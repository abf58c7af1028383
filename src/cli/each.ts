import type { CommandContext } from "./command.ts";

/**
 * Does the same to several VMs (or kernels, or images) side by side; prints what `act` returns for each, if anything, in
 * the order given, and reports each failure. Returns the exit status of the first that failed.
 */
export async function forEach(
  names: readonly string[],
  options: { context: CommandContext; act: (name: string) => Promise<string | undefined> },
): Promise<number> {
  const { context, act } = options;
  const results = await Promise.allSettled([...new Set(names)].map(act));
  let status = 0;
  for (const result of results) {
    if (result.status === "fulfilled") {
      if (result.value !== undefined) context.io.stdout.write(`${result.value}\n`);
    } else {
      const failure = context.reportFailure(result.reason);
      if (status === 0) status = failure;
    }
  }
  return status;
}

import { readdir } from "node:fs/promises";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { closest } from "../core/spelling.ts";
import { streamProgram } from "../host/process.ts";

export interface BuildScriptOptions {
  /** Path of `kernel/build.sh`. */
  readonly script: string;
  /** kernel.org's archive or where it is, instead of the distribution's source package. */
  readonly source?: string | undefined;
  /** Hexadecimal SHA-256 of `source`. */
  readonly sha256?: string | undefined;
  /** Optional parts: names of files in `kernel/config/optional`. */
  readonly parts?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a build would make, found out without building. */
export interface BuildPlan {
  /** The same for the same kernel. */
  readonly key: string;
  readonly name: string;
}

/** @throws FirectlError INVALID_ARGUMENT for a part that there is not; as {@link buildKernelInto}. */
export async function planBuild(options: BuildScriptOptions): Promise<BuildPlan> {
  await checkParts(options);
  const [key, name] = (await runScript(options, ["--plan"])).trim().split(" ");
  if (key !== undefined && name !== undefined) return { key, name };
  throw new Error(`${options.script} --plan printed no plan`);
}

/** Said here rather than by the script, whose failures are those of a build. */
async function checkParts({ script, parts = [] }: BuildScriptOptions): Promise<void> {
  const files = await readdir(path.join(path.dirname(script), "config/optional"));
  const known = files.flatMap((file) => /^(.+)\.config$/.exec(file)?.[1] ?? []).sort();
  const unknown = parts.find((part) => !known.includes(part));
  if (unknown === undefined) return;
  const like = closest(unknown, known);
  throw new FirectlError("INVALID_ARGUMENT", `kernel build: there is no optional part "${unknown}"`, {
    hint: `${like === undefined ? "" : `did you mean --with ${like}? `}the parts are ${known.join(", ")}`,
  });
}

/**
 * Builds a kernel into the new directory `output`. What a failure or an interrupt leaves in `work` is what the
 * next build goes on from. Nothing runs any more when it returns.
 * @param options.onStage Told what goes on, in words.
 * @throws FirectlError TOOL_MISSING with the packages to install, PROCESS_FAILED with the build's last words.
 */
export async function buildKernelInto(
  output: string,
  options: BuildScriptOptions & {
    readonly work: string;
    readonly jobs?: number | undefined;
    readonly onStage?: (stage: string) => void;
  },
): Promise<void> {
  const jobs = options.jobs === undefined ? [] : ["--jobs", String(options.jobs)];
  await runScript(options, ["--output", output, "--work", options.work, ...jobs], options.onStage);
}

async function runScript(
  { script, source, sha256, parts = [], signal }: BuildScriptOptions,
  args: readonly string[],
  onStage?: (stage: string) => void,
): Promise<string> {
  const all = [
    ...args,
    ...(source === undefined ? [] : ["--source", source]),
    ...(sha256 === undefined ? [] : ["--sha256", sha256]),
    ...parts.flatMap((part) => ["--with", part]),
  ];
  const program = streamProgram(script, all, {
    signal,
    onMessages: (text) => {
      const stage = /(?:^|\n)kernel: stage: ([^\n]+)\n[^\n]*$/.exec(text)?.[1];
      if (stage !== undefined) onStage?.(stage);
    },
  });
  let printed = "";
  // To its end even after an abort: until then compilers may be at work in the directory.
  for await (const chunk of program.stdout) printed += String(chunk);
  try {
    await program.finished;
  } catch (error) {
    signal?.throwIfAborted();
    throw missingTools(program.messages()) ?? error;
  }
  return printed;
}

function missingTools(messages: string): FirectlError | undefined {
  const packages = /^kernel: missing: (.+)$/m.exec(messages)?.[1];
  if (packages === undefined) return undefined;
  return new FirectlError("TOOL_MISSING", `cannot build a kernel without: ${packages}`, {
    hint: `sudo apt-get install ${packages}`,
  });
}

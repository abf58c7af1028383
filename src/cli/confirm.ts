import { FirectlError } from "../core/errors.ts";
import type { CommandContext } from "./command.ts";

/**
 * Asks the user to answer y or n, no being the default. What is typed, or piped in, is read up to the end of
 * the line.
 * @throws FirectlError INVALID_ARGUMENT when nobody answers; INTERRUPTED.
 */
export async function confirm(question: string, context: CommandContext): Promise<boolean> {
  const { io, interrupts } = context;
  io.stderr.write(`${question} [y/N] `);
  const answer = await firstLine(io.stdin, interrupts.signal()).catch((error: unknown) => {
    // The terminal has shown ^C behind the question.
    io.stderr.write("\n");
    throw error;
  });
  if (answer === undefined) {
    io.stderr.write("\n");
    throw new FirectlError("INVALID_ARGUMENT", "nobody answered the question", {
      hint: "write --force to go ahead without asking",
    });
  }
  return /^\s*y(es)?\s*$/i.test(answer);
}

async function firstLine(stdin: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<string | undefined> {
  const interrupted = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  let text = "";
  const reader = stdin[Symbol.asyncIterator]();
  while (!text.includes("\n")) {
    const next = await Promise.race([reader.next(), interrupted]);
    if (next.done === true) return text === "" ? undefined : text;
    text += Buffer.from(next.value).toString("utf8");
  }
  return text.slice(0, text.indexOf("\n"));
}

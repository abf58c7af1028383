import { StringDecoder } from "node:string_decoder";
import type { ReadStream } from "node:tty";
import { FirectlError } from "../core/errors.ts";

const MAX_LENGTH = 4096;
const CTRL_C = "\x03";
const CTRL_D = "\x04";
const CTRL_U = "\x15";

export interface PromptOptions {
  /** Show nothing of what is typed. */
  readonly hidden: boolean;
  /** Shows the question, once nothing that is typed shows by itself any more. */
  readonly ask: () => void;
  readonly signal: AbortSignal;
}

/**
 * Reads one line from a terminal. A hidden one is read in raw mode, where the keys that edit it are ours to
 * obey: backspace, Ctrl-U, Ctrl-C, Ctrl-D.
 * @throws FirectlError INTERRUPTED, also for an end without a line; the signal's reason.
 */
export async function readLine(terminal: ReadStream, options: PromptOptions): Promise<string> {
  options.signal.throwIfAborted();
  const decoder = new StringDecoder("utf8");
  if (options.hidden) terminal.setRawMode(true);
  let line = "";
  let stop: () => void = () => {};
  try {
    return await new Promise<string>((resolve, reject) => {
      const onData = (bytes: Buffer): void => {
        for (const key of decoder.write(bytes)) {
          if (key === "\n" || key === "\r") {
            resolve(line);
            return;
          }
          if (key === CTRL_C || (key === CTRL_D && line === "")) {
            reject(interrupted());
            return;
          }
          if (key === "\x7f" || key === "\b") line = Array.from(line).slice(0, -1).join("");
          else if (key === CTRL_U) line = "";
          else if (line.length < MAX_LENGTH && key !== CTRL_D) line += key;
        }
      };
      const onEnd = (): void => reject(interrupted());
      const onAbort = (): void => reject(options.signal.reason);
      terminal.on("data", onData).on("end", onEnd);
      options.signal.addEventListener("abort", onAbort, { once: true });
      stop = () => {
        terminal.off("data", onData).off("end", onEnd);
        options.signal.removeEventListener("abort", onAbort);
      };
      terminal.resume();
      options.ask();
    });
  } finally {
    stop();
    terminal.pause();
    if (options.hidden) terminal.setRawMode(false);
  }
}

function interrupted(): FirectlError {
  return new FirectlError("INTERRUPTED", "interrupted while asking for a login");
}

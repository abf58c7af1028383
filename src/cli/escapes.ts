import type { Sink } from "./io.ts";

/** Whether the sink is a terminal that clears and moves as it is told: one of `TERM=dumb` shows the sequences. */
export function takesEscapes(sink: Sink, env: NodeJS.ProcessEnv): boolean {
  return sink.isTerminal && env["TERM"] !== "dumb";
}

import type { IncomingMessage } from "node:http";

/** So much is gathered before the connection is made to wait for the reader. */
const BATCH_BYTES = 512 * 1024;

/** Pieces smaller than this on average are joined; joining larger ones costs more memory than it saves steps. */
const SMALL_BYTES = 32 * 1024;

/**
 * The bytes of a body in large pieces. Node gives 16 KiB at a time in TLS and 64 KiB otherwise; each small piece
 * would pass through every stage of a pull on its own. What came in one turn of the event loop, and what came
 * while the reader was busy, is joined instead.
 * @throws the error of a connection that breaks before the end.
 */
export async function* bodyChunks(body: IncomingMessage): AsyncGenerator<Uint8Array> {
  let gathered: Uint8Array[] = [];
  let size = 0;
  const end: { isReached: boolean; error: Error | undefined } = { isReached: false, error: undefined };
  let wake: (() => void) | undefined;
  let turn: NodeJS.Immediate | undefined;
  const wakeAfterTurn = (): void => {
    turn ??= setImmediate(() => {
      turn = undefined;
      wake?.();
    });
  };
  const onData = (chunk: Uint8Array): void => {
    gathered.push(chunk);
    size += chunk.byteLength;
    if (size >= BATCH_BYTES) body.pause();
    wakeAfterTurn();
  };
  const onEnd = (): void => {
    end.isReached = true;
    wakeAfterTurn();
  };
  const onError = (error: Error): void => {
    end.error ??= error;
    wakeAfterTurn();
  };
  const onClose = (): void => onError(endsEarly());
  body.on("data", onData).on("end", onEnd).on("error", onError).on("close", onClose);
  if (body.destroyed) onError(body.errored ?? endsEarly());
  try {
    for (;;) {
      if (size > 0) {
        const isSmall = gathered.length > 1 && size / gathered.length < SMALL_BYTES;
        const pieces = isSmall ? [Buffer.concat(gathered, size)] : gathered;
        gathered = [];
        size = 0;
        body.resume();
        yield* pieces;
      } else if (end.isReached) {
        return;
      } else if (end.error !== undefined) {
        throw end.error;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
        wake = undefined;
      }
    }
  } finally {
    clearImmediate(turn);
    body.off("data", onData).off("end", onEnd).off("close", onClose);
  }
}

function endsEarly(): Error {
  return Object.assign(new Error("the connection ended in the middle"), { code: "ECONNRESET" });
}

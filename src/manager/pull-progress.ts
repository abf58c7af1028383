import { assertNever } from "../core/assert-never.ts";
import type { PullProgress } from "../image/images.ts";
import type { ProgressEvent } from "./api.ts";

/** Says what happens to an image in the words of the library's progress events. */
export function reportPull(
  onProgress: ((event: ProgressEvent) => void) | undefined,
): (event: PullProgress) => void {
  if (onProgress === undefined) return () => {};
  return (event) => {
    for (const translated of translate(event)) onProgress(translated);
  };
}

function translate(event: PullProgress): readonly ProgressEvent[] {
  switch (event.type) {
    case "resolving":
      return [{ kind: "resolving", reference: event.reference }];
    case "resolved":
      return event.layers.map(({ digest, size }) => layer(digest, { received: 0, total: size, done: false }));
    case "layer":
      return [layer(event.digest, { ...event, done: false })];
    case "layer-done":
    case "layer-exists":
      return [layer(event.digest, { received: event.total, total: event.total, done: true })];
    case "retrying": {
      const seconds = (event.delayMs / 1000).toFixed(1);
      return [
        { kind: "notice", message: `a transfer broke (${event.reason}), trying again in ${seconds} s` },
      ];
    }
    case "docker-pulling":
      return [{ kind: "resolving", reference: event.reference }];
    case "exporting":
      return [{ kind: "exporting", reference: event.reference, receivedBytes: event.received }];
    case "reading":
      return [{ kind: "reading", reference: event.reference, receivedBytes: event.received }];
    case "notice":
      return [{ kind: "notice", message: event.message }];
    default:
      return assertNever(event);
  }
}

function layer(digest: string, state: { received: number; total: number; done: boolean }): ProgressEvent {
  return {
    kind: "layer",
    digest,
    receivedBytes: state.received,
    totalBytes: state.total,
    done: state.done,
  };
}

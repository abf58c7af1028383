import { assertNever } from "../core/assert-never.ts";
import { formatSize } from "../core/units.ts";
import type { ProgressEvent } from "../manager/api.ts";
import type { Sink } from "./io.ts";
import { escapeControls } from "./sanitize.ts";
import { truncate } from "./table.ts";

/** One line on stderr that says what is going on; it is gone when the work is done. */
export interface ProgressDisplay {
  readonly update: (event: ProgressEvent) => void;
  /** Clears the line; later events are not drawn. May be called twice. */
  stop(): void;
}

export interface ProgressOptions {
  /** Show nothing at all, notices included. */
  readonly quiet: boolean;
  readonly now?: () => number;
}

/** More often would cost more than it shows. */
const REDRAW_MS = 80;
const CLEAR_LINE = "\r\x1b[K";

/** A display for `stderr`: a live line on a terminal, only notices elsewhere, nothing when quiet. */
export function createProgress(stderr: Sink, options: ProgressOptions): ProgressDisplay {
  if (options.quiet) return { update() {}, stop() {} };
  const live = stderr.isTerminal;
  const now = options.now ?? (() => performance.now());
  const layers = new Map<string, LayerProgress>();
  let reference = "";
  let drawnAt = Number.NEGATIVE_INFINITY;
  let drawn = "";
  let stopped = false;

  const clear = (): void => {
    if (drawn !== "") stderr.write(CLEAR_LINE);
    drawn = "";
  };
  return {
    update(event) {
      if (stopped) return;
      if (event.kind === "notice") {
        clear();
        stderr.write(`firectl: ${escapeControls(event.message)}\n`);
        return;
      }
      if (!live) return;
      if (event.kind === "resolving" || event.kind === "exporting") reference = event.reference;
      if (event.kind === "layer") layers.set(event.digest, event);
      const text = truncate(escapeControls(lineOf(event, { reference, layers })), stderr.columns - 1);
      const newStage = event.kind === "resolving" || event.kind === "booting";
      if (text === drawn || (!newStage && now() - drawnAt < REDRAW_MS)) return;
      stderr.write(CLEAR_LINE + text);
      [drawn, drawnAt] = [text, now()];
    },
    stop() {
      clear();
      stopped = true;
    },
  };
}

interface LayerProgress {
  readonly receivedBytes: number;
  readonly totalBytes: number;
  readonly done: boolean;
}

function lineOf(
  event: Exclude<ProgressEvent, { kind: "notice" }>,
  state: { reference: string; layers: ReadonlyMap<string, LayerProgress> },
): string {
  switch (event.kind) {
    case "resolving":
      return `Looking for ${event.reference}`;
    case "layer":
      return layersLine(state.reference, [...state.layers.values()]);
    case "exporting":
      return `Exporting ${event.reference} from Docker: ${formatSize(event.receivedBytes)}`;
    case "reading":
      return `Reading ${event.reference}: ${formatSize(event.receivedBytes)}`;
    case "building":
      // Building begins while layers still come in: until they are here, their coming is the slower thing.
      if ([...state.layers.values()].some((layer) => !layer.done)) {
        return layersLine(state.reference, [...state.layers.values()]);
      }
      return `Building the root filesystem: ${ofTotal(event.readBytes, event.totalBytes)}`;
    case "stage":
      return sentence(event.text);
    case "booting":
      return `Starting the virtual machine (${event.vmm})`;
    default:
      return assertNever(event);
  }
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function layersLine(reference: string, layers: readonly LayerProgress[]): string {
  const received = layers.reduce((sum, layer) => sum + layer.receivedBytes, 0);
  const total = layers.reduce((sum, layer) => sum + layer.totalBytes, 0);
  const done = layers.filter((layer) => layer.done).length;
  return `Pulling ${reference}: ${done} of ${layers.length} layers, ${ofTotal(received, total)}`;
}

function ofTotal(part: number, total: number | undefined): string {
  if (total === undefined || total <= 0) return formatSize(part);
  const percent = Math.min(100, Math.floor((part / total) * 100));
  return `${formatSize(part)} of ${formatSize(total)} (${percent}%)`;
}

import { assertNever } from "../core/assert-never.ts";
import { formatSize } from "../core/units.ts";
import type { ProgressEvent } from "../manager/api.ts";
import { takesEscapes } from "./escapes.ts";
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
  /** Says what kind of terminal it is. */
  readonly env: NodeJS.ProcessEnv;
  readonly now?: () => number;
}

/** More often would cost more than it shows. */
const REDRAW_MS = 80;
const CLEAR_LINE = "\r\x1b[K";

/** A display for `stderr`: a live line on a terminal, only notices elsewhere, nothing when quiet. */
export function createProgress(stderr: Sink, options: ProgressOptions): ProgressDisplay {
  if (options.quiet) return { update() {}, stop() {} };
  const live = takesEscapes(stderr, options.env);
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
      const text = fitted(lineOf(event, { reference, layers }), stderr.columns - 1);
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

/** A line about something with a name, which is what may be shortened. */
interface Line {
  readonly before?: string;
  readonly name?: string;
  readonly after: string;
}

/** Less of a name says nothing. */
const MIN_NAME = 8;

/** On a narrow terminal the name goes before the figures do: they are what changes. */
function fitted({ before = "", name = "", after }: Line, columns: number): string {
  const shown = escapeControls(name);
  const whole = `${before}${shown}${after}`;
  if (whole.length <= columns || name === "" || after === "") return truncate(whole, columns);
  const room = columns - before.length - after.length;
  if (room >= MIN_NAME) return `${before}${truncate(shown, room)}${after}`;
  return truncate(sentence(after.replace(/^.*?: /, "")), columns);
}

function lineOf(
  event: Exclude<ProgressEvent, { kind: "notice" }>,
  state: { reference: string; layers: ReadonlyMap<string, LayerProgress> },
): Line {
  switch (event.kind) {
    case "resolving":
      return { before: "Looking for ", name: event.reference, after: "" };
    case "layer":
      return layersLine(state.reference, [...state.layers.values()]);
    case "exporting": {
      const after = ` from Docker: ${formatSize(event.receivedBytes)}`;
      return { before: "Exporting ", name: event.reference, after };
    }
    case "reading":
      return { before: "Reading ", name: event.reference, after: `: ${formatSize(event.receivedBytes)}` };
    case "building":
      // Building begins while layers still come in: until they are here, their coming is the slower thing.
      if ([...state.layers.values()].some((layer) => !layer.done)) {
        return layersLine(state.reference, [...state.layers.values()]);
      }
      return { after: `Building the root filesystem: ${ofTotal(event.readBytes, event.totalBytes)}` };
    case "stage":
      return { after: escapeControls(sentence(event.text)) };
    case "booting":
      return { after: `Starting the virtual machine (${event.vmm})` };
    default:
      return assertNever(event);
  }
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function layersLine(reference: string, layers: readonly LayerProgress[]): Line {
  const received = layers.reduce((sum, layer) => sum + layer.receivedBytes, 0);
  const total = layers.reduce((sum, layer) => sum + layer.totalBytes, 0);
  const done = layers.filter((layer) => layer.done).length;
  const after = `: ${done} of ${layers.length} layers, ${ofTotal(received, total)}`;
  return { before: "Pulling ", name: reference, after };
}

function ofTotal(part: number, total: number | undefined): string {
  if (total === undefined || total <= 0) return formatSize(part);
  const percent = Math.min(100, Math.floor((part / total) * 100));
  return `${formatSize(part)} of ${formatSize(total)} (${percent}%)`;
}

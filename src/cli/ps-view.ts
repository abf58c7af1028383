import { FirectlError } from "../core/errors.ts";
import type { ProcessSummary } from "../manager/stats-api.ts";

interface PsColumn {
  readonly heading: string;
  readonly cell: (process: ProcessSummary) => string;
}

/** The columns of ps(1) that can be filled from what a guest tells. */
const COLUMNS: Readonly<Record<string, PsColumn>> = {
  uid: { heading: "UID", cell: ({ uid }) => String(uid) },
  user: { heading: "USER", cell: ({ user }) => user },
  pid: { heading: "PID", cell: ({ pid }) => String(pid) },
  ppid: { heading: "PPID", cell: ({ parentPid }) => String(parentPid) },
  c: { heading: "C", cell: (process) => String(Math.min(99, Math.floor(cpuPercent(process)))) },
  pcpu: { heading: "%CPU", cell: (process) => cpuPercent(process).toFixed(1) },
  stime: { heading: "STIME", cell: startText },
  start: { heading: "START", cell: startText },
  lstart: { heading: "STARTED", cell: ({ startedAtMs }) => new Date(startedAtMs).toISOString() },
  etime: { heading: "ELAPSED", cell: ({ startedAtMs }) => clockText(Date.now() - startedAtMs) },
  tty: { heading: "TTY", cell: ({ terminal }) => terminal ?? "?" },
  time: { heading: "TIME", cell: ({ cpuMs }) => clockText(cpuMs) },
  stat: { heading: "STAT", cell: ({ state }) => state },
  ni: { heading: "NI", cell: ({ nice }) => String(nice) },
  rss: { heading: "RSS", cell: ({ residentBytes }) => String(Math.floor(residentBytes / 1024)) },
  vsz: { heading: "VSZ", cell: ({ virtualBytes }) => String(Math.floor(virtualBytes / 1024)) },
  nlwp: { heading: "NLWP", cell: ({ threads }) => String(threads) },
  comm: { heading: "COMMAND", cell: ({ name }) => name },
  cmd: { heading: "CMD", cell: commandText },
  args: { heading: "COMMAND", cell: commandText },
};

const ALIASES: Readonly<Record<string, string>> = {
  "%cpu": "pcpu",
  command: "args",
  cputime: "time",
  ucmd: "comm",
  ucomm: "comm",
  euser: "user",
  euid: "uid",
  nice: "ni",
  s: "stat",
  state: "stat",
  start_time: "stime",
  thcount: "nlwp",
  tt: "tty",
  tname: "tty",
  vsize: "vsz",
  rssize: "rss",
};

/** What docker's `ps -ef` shows, though it names the user by name. */
const FULL = ["user=UID", "pid", "ppid", "c", "stime", "tty", "time", "cmd"];
const BSD = ["user", "pid", "pcpu", "vsz", "rss", "tty", "stat", "start", "time", "args"];

/**
 * Reads the options of ps as `docker top` takes them: `-ef`, `aux`, or `-o` with columns.
 * @throws FirectlError UNSUPPORTED for others, INVALID_ARGUMENT for a column that there is not.
 */
export function psColumns(options: readonly string[]): readonly PsColumn[] {
  const [first = "", ...rest] = options;
  if (options.length === 0 || /^-[AaefF]+$/.test(options.join(""))) return FULL.map(columnOf);
  if (options.length === 1 && /^-?[auxw]+$/.test(first)) return BSD.map(columnOf);
  const format = /^-?[AaexfwW]*o(.*)$/.exec(first);
  if (format !== null) {
    const lists = [format[1] ?? "", ...rest.filter((word) => !/^-[AaefxoO]+$/.test(word))];
    const names = lists.flatMap((list) => list.split(",")).filter((name) => name !== "");
    if (names.length > 0) return names.map(columnOf);
  }
  throw new FirectlError("UNSUPPORTED", `top: firectl has no ps for "${options.join(" ")}"`, {
    hint: "write -ef, aux, or -o with columns, for example -o pid,rss,args",
  });
}

/** `name`, or `name=HEADING`. */
function columnOf(text: string): PsColumn {
  const [name = "", heading] = text.split(/=(.*)/s);
  const key = name.toLowerCase();
  const column = COLUMNS[ALIASES[key] ?? key];
  if (column === undefined) {
    throw new FirectlError("INVALID_ARGUMENT", `top: there is no column "${name}"`, {
      hint: `the columns are ${Object.keys(COLUMNS).join(", ")}`,
    });
  }
  return heading === undefined ? column : { ...column, heading };
}

function cpuPercent({ cpuMs, startedAtMs }: ProcessSummary): number {
  const livedMs = Date.now() - startedAtMs;
  return livedMs > 0 ? (cpuMs / livedMs) * 100 : 0;
}

/** The time of today, the day of an earlier one. */
function startText({ startedAtMs }: ProcessSummary): string {
  const started = new Date(startedAtMs);
  if (Date.now() - startedAtMs < 24 * 3_600_000) return started.toTimeString().slice(0, 5);
  return started.toDateString().slice(4, 10).replace(" ", "");
}

/** `[[DD-]hh:]mm:ss` with the hours always there, as ps prints TIME. */
function clockText(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const days = Math.floor(seconds / 86_400);
  const parts = [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const clock = parts.map((part) => String(part).padStart(2, "0")).join(":");
  return days === 0 ? clock : `${days}-${clock}`;
}

function commandText({ name, args, state }: ProcessSummary): string {
  if (args.length > 0) return args.join(" ");
  return state === "Z" ? `[${name}] <defunct>` : `[${name}]`;
}

import type { Command } from "./command.ts";

export interface CommandEntry {
  /** What the user types: the command's name, then its aliases. */
  readonly names: readonly [string, ...string[]];
  /** Heading in the help; undefined keeps it out. */
  readonly topic: string | undefined;
  /** Commands are loaded one by one: the start of each pays for no other. */
  readonly load: () => Promise<Command>;
}

const RUNNING = "Run";
const LOOKING = "Look";
const STORING = "Images and kernels";
const OTHER = "This machine";

/** All commands, in the order of the help. */
export const COMMANDS: readonly CommandEntry[] = [
  { names: ["run"], topic: RUNNING, load: async () => (await import("./commands/run.ts")).run },
  { names: ["start"], topic: RUNNING, load: async () => (await import("./commands/start.ts")).start },
  { names: ["stop"], topic: RUNNING, load: async () => (await import("./commands/stop.ts")).stop },
  { names: ["restart"], topic: RUNNING, load: async () => (await import("./commands/restart.ts")).restart },
  { names: ["kill"], topic: RUNNING, load: async () => (await import("./commands/kill.ts")).kill },
  { names: ["wait"], topic: RUNNING, load: async () => (await import("./commands/wait.ts")).wait },
  { names: ["attach"], topic: RUNNING, load: async () => (await import("./commands/attach.ts")).attach },
  { names: ["exec"], topic: RUNNING, load: async () => (await import("./commands/exec.ts")).exec },
  { names: ["cp"], topic: RUNNING, load: async () => (await import("./commands/cp.ts")).cp },
  {
    names: ["export"],
    topic: RUNNING,
    load: async () => (await import("./commands/export.ts")).exportCommand,
  },
  { names: ["update"], topic: RUNNING, load: async () => (await import("./commands/update.ts")).update },
  { names: ["rm", "remove"], topic: RUNNING, load: async () => (await import("./commands/rm.ts")).rm },
  {
    names: ["list", "ls", "ps"],
    topic: LOOKING,
    load: async () => (await import("./commands/list.ts")).list,
  },
  { names: ["logs"], topic: LOOKING, load: async () => (await import("./commands/logs.ts")).logs },
  { names: ["stats"], topic: LOOKING, load: async () => (await import("./commands/stats.ts")).stats },
  { names: ["top"], topic: LOOKING, load: async () => (await import("./commands/top.ts")).top },
  { names: ["port"], topic: LOOKING, load: async () => (await import("./commands/port.ts")).port },
  { names: ["inspect"], topic: LOOKING, load: async () => (await import("./commands/inspect.ts")).inspect },
  { names: ["pull"], topic: STORING, load: async () => (await import("./commands/pull.ts")).pull },
  { names: ["load"], topic: STORING, load: async () => (await import("./commands/load.ts")).load },
  { names: ["save"], topic: STORING, load: async () => (await import("./commands/save.ts")).save },
  {
    names: ["import"],
    topic: STORING,
    load: async () => (await import("./commands/import.ts")).importCommand,
  },
  { names: ["images"], topic: STORING, load: async () => (await import("./commands/images.ts")).images },
  { names: ["tag"], topic: STORING, load: async () => (await import("./commands/tag.ts")).tag },
  { names: ["rmi"], topic: STORING, load: async () => (await import("./commands/rmi.ts")).rmi },
  { names: ["prune"], topic: STORING, load: async () => (await import("./commands/prune.ts")).prune },
  { names: ["df"], topic: STORING, load: async () => (await import("./commands/df.ts")).df },
  {
    names: ["kernel list", "kernel ls"],
    topic: STORING,
    load: async () => (await import("./commands/kernel-list.ts")).kernelList,
  },
  {
    names: ["kernel add"],
    topic: STORING,
    load: async () => (await import("./commands/kernel-add.ts")).kernelAdd,
  },
  {
    names: ["kernel build"],
    topic: STORING,
    load: async () => (await import("./commands/kernel-build.ts")).kernelBuild,
  },
  {
    names: ["kernel default"],
    topic: STORING,
    load: async () => (await import("./commands/kernel-default.ts")).kernelDefault,
  },
  {
    names: ["kernel rm", "kernel remove"],
    topic: STORING,
    load: async () => (await import("./commands/kernel-rm.ts")).kernelRm,
  },
  {
    names: ["volume ls", "volume list"],
    topic: STORING,
    load: async () => (await import("./commands/volume-ls.ts")).volumeLs,
  },
  {
    names: ["volume create"],
    topic: STORING,
    load: async () => (await import("./commands/volume-create.ts")).volumeCreate,
  },
  {
    names: ["volume inspect"],
    topic: STORING,
    load: async () => (await import("./commands/volume-inspect.ts")).volumeInspect,
  },
  {
    names: ["volume rm", "volume remove"],
    topic: STORING,
    load: async () => (await import("./commands/volume-rm.ts")).volumeRm,
  },
  {
    names: ["volume prune"],
    topic: STORING,
    load: async () => (await import("./commands/volume-prune.ts")).volumePrune,
  },
  { names: ["login"], topic: STORING, load: async () => (await import("./commands/login.ts")).login },
  { names: ["logout"], topic: STORING, load: async () => (await import("./commands/logout.ts")).logout },
  { names: ["setup"], topic: OTHER, load: async () => (await import("./commands/setup.ts")).setup },
  { names: ["version"], topic: OTHER, load: async () => (await import("./commands/version.ts")).version },
  {
    names: ["internal reconcile"],
    topic: undefined,
    load: async () => (await import("./commands/internal-reconcile.ts")).internalReconcile,
  },
];

/** Words that stand before a command of their own, with what they are about. */
export const GROUPS: Readonly<Record<string, string>> = {
  kernel: "Manage guest kernels",
  volume: "Manage volumes",
};

/** What the first words of a command line name. */
export type Resolved =
  | { readonly kind: "command"; readonly entry: CommandEntry; readonly rest: readonly string[] }
  | { readonly kind: "group"; readonly name: string; readonly rest: readonly string[] }
  | { readonly kind: "unknown"; readonly words: string };

/** Finds the command that `words` begin with. */
export function resolveCommand(words: readonly string[]): Resolved {
  for (const length of [2, 1]) {
    const name = words.slice(0, length).join(" ");
    const entry = COMMANDS.find(({ names }) => words.length >= length && names.includes(name));
    if (entry !== undefined) return { kind: "command", entry, rest: words.slice(length) };
  }
  const [first = "", second] = words;
  if (!Object.hasOwn(GROUPS, first)) return { kind: "unknown", words: first };
  if (second === undefined || second.startsWith("-"))
    return { kind: "group", name: first, rest: words.slice(1) };
  return { kind: "unknown", words: `${first} ${second}` };
}

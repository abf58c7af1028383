import type { VmStats } from "../../manager/stats-api.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { takesEscapes } from "../escapes.ts";
import { LIST_FORMAT_FLAG, type ListFormat, renderList } from "../output.ts";
import { statsView } from "../stats-view.ts";

/** To the top left corner, and everything below it gone. */
const CLEAR = "\u001b[H\u001b[2J";

export const stats: Command = defineCommand({
  name: "stats",
  summary: "Show what VMs use, and what they cost this host",
  description:
    "What the workload uses of its VM stands first, in docker's columns; then the processor time and memory that\nthe VM takes of this host, and the blocks of its disks. A VM that does not answer has -- for what it uses.",
  arguments: "[VM...]",
  minArguments: 0,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    all: { kind: "boolean", short: "a", summary: "Show those that have ended too" },
    ...LIST_FORMAT_FLAG,
    "no-stream": { kind: "boolean", summary: "Look once, over a second, instead of going on" },
    "no-trunc": { kind: "boolean", summary: "Do not shorten ids" },
  },
  examples: ["firectl stats", "firectl stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.HostMem}}'"],
  async handler({ flags, args }, context) {
    const view = statsView({ truncated: !flags["no-trunc"] && !context.json });
    const format: ListFormat = flags.format ?? { kind: context.json ? "json" : "table" };
    // A template with a mistake is to be told before the first second has passed.
    renderList([], { view, format });
    const operations = await context.firectl();
    const signal = context.interrupts.signal();
    const looks = operations.stats({ vms: args, all: flags.all, signal });
    const print = (vms: readonly VmStats[]): void => {
      const isScreen =
        !flags["no-stream"] && isTable(format) && takesEscapes(context.io.stdout, context.io.env);
      context.io.stdout.write(`${isScreen ? CLEAR : ""}${renderList(vms, { view, format })}`);
    };
    return flags["no-stream"] ? printOnce(looks, print) : printOn(looks, { print, context });
  },
});

function isTable(format: ListFormat): boolean {
  return format.kind === "table" || format.kind === "table-template";
}

/** The second look is the first that has rates; of a guest that answered the first one too late, the third. */
async function printOnce(
  looks: AsyncIterable<readonly VmStats[]>,
  print: (vms: readonly VmStats[]) => void,
): Promise<number> {
  let count = 0;
  for await (const vms of looks) {
    count++;
    if (count < 2 && vms.some(({ state }) => state === "running")) continue;
    if (count < 3 && vms.some(({ guest }) => guest !== undefined && guest.cpuPercent === undefined)) continue;
    print(vms);
    break;
  }
  return 0;
}

async function printOn(
  looks: AsyncIterable<readonly VmStats[]>,
  { print, context }: { print: (vms: readonly VmStats[]) => void; context: CommandContext },
): Promise<number> {
  try {
    for await (const vms of looks) print(vms);
  } catch (error) {
    // Ctrl-C is how it is ended.
    if (context.interrupts.received() !== "SIGINT") throw error;
  }
  return 0;
}

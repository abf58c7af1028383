import type { Command, CommandGroup, Flag } from "./command.ts";
import { allFlags, GLOBAL_FLAGS, usageOf } from "./parse-flags.ts";

/** Help of one command: usage, summary, flags by group, examples. */
export function commandHelp(command: Command): string {
  const sections = [`Usage:  ${usageOf(command)}`, command.summary];
  if (command.description !== undefined) sections.push(command.description);
  if (command.aliases !== undefined && command.aliases.length > 0) {
    sections.push(`Aliases:\n  ${command.aliases.map((alias) => `firectl ${alias}`).join(", ")}`);
  }
  sections.push(...flagSections(command));
  if (command.examples.length > 0) {
    sections.push(`Examples:\n${command.examples.map((example) => `  $ ${example}`).join("\n")}`);
  }
  return `${sections.join("\n\n")}\n`;
}

function flagSections(command: Command): string[] {
  const visible = Object.entries(allFlags(command)).filter(([, flag]) => flag.hidden !== true);
  const left = new Map(visible.map(([name, flag]) => [name, flagLeft(name, flag)]));
  const width = Math.max(...[...left.values()].map((text) => text.length));
  const groups = new Map<string, string[]>();
  for (const [name, flag] of visible) {
    const group = flag.group ?? "Options";
    const line = `  ${(left.get(name) ?? "").padEnd(width)}   ${flag.summary}`;
    groups.set(group, [...(groups.get(group) ?? []), line]);
  }
  const plain = groups.get("Options") ?? [];
  groups.delete("Options");
  return [
    ...[...groups].map(([group, lines]) => `${group}:\n${lines.join("\n")}`),
    `Options:\n${plain.join("\n")}`,
  ];
}

function flagLeft(name: string, flag: Flag): string {
  const short = flag.short === undefined ? "    " : `-${flag.short}, `;
  return flag.kind === "boolean" ? `${short}--${name}` : `${short}--${name} ${flag.placeholder}`;
}

/** Help of a group of commands. */
export function groupHelp(group: CommandGroup): string {
  return [
    `Usage:  firectl ${group.name} COMMAND`,
    group.summary,
    `Commands:\n${columns(group.commands.map((command) => [lastWord(command.name), command.summary]))}`,
    `Run firectl ${group.name} COMMAND --help for more on a command.\n`,
  ].join("\n\n");
}

export interface TopicList {
  readonly heading: string;
  readonly entries: readonly { readonly name: string; readonly summary: string }[];
}

/** Help of firectl itself. */
export function mainHelp(topics: readonly TopicList[]): string {
  const width = Math.max(...topics.flatMap((topic) => topic.entries.map((entry) => entry.name.length)));
  return [
    "Usage:  firectl COMMAND",
    "Run container images in Firecracker microVMs",
    ...topics.map(
      (topic) =>
        `${topic.heading}:\n${columns(
          topic.entries.map((entry) => [entry.name, entry.summary]),
          width,
        )}`,
    ),
    `Options:\n${columns([
      ["    --json", GLOBAL_FLAGS.json.summary],
      ["-v, --version", "Print the version"],
      ["-h, --help", "Print this help"],
    ])}`,
    "Examples:\n  $ firectl run --rm alpine echo hello\n  $ firectl run -d --name web nginx\n  $ firectl logs -f web\n  $ firectl stop web",
    "Run firectl COMMAND --help for more on a command.\n",
  ].join("\n\n");
}

function columns(
  rows: readonly (readonly [string, string])[],
  width: number = Math.max(...rows.map(([left]) => left.length)),
): string {
  return rows.map(([left, right]) => `  ${left.padEnd(width)}   ${right}`).join("\n");
}

function lastWord(name: string): string {
  return name.slice(name.lastIndexOf(" ") + 1);
}

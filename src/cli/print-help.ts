import type { CommandGroup } from "./command.ts";
import { commandHelp, groupHelp, mainHelp, type TopicList } from "./help.ts";
import { COMMANDS, type CommandEntry, GROUPS } from "./registry.ts";

/** Help of firectl itself: a group of commands is one line of it. */
export async function mainHelpText(): Promise<string> {
  const topics = new Map<string, TopicList["entries"][number][]>();
  for (const entry of COMMANDS) {
    if (entry.topic === undefined) continue;
    const [word = "", ...more] = entry.names[0].split(" ");
    const entries = topics.get(entry.topic) ?? [];
    topics.set(entry.topic, entries);
    if (entries.some(({ name }) => name === word)) continue;
    const summary = more.length > 0 ? GROUPS[word] : (await entry.load()).summary;
    entries.push({ name: word, summary: summary ?? "" });
  }
  return mainHelp([...topics].map(([heading, entries]) => ({ heading, entries })));
}

/** Help of `kernel` and its like. */
export async function groupHelpText(name: string): Promise<string> {
  const entries = COMMANDS.filter((entry) => entry.names[0].startsWith(`${name} `));
  const group: CommandGroup = {
    name,
    summary: GROUPS[name] ?? "",
    commands: await Promise.all(entries.map((entry) => entry.load())),
  };
  return groupHelp(group);
}

/** Help of one command. */
export async function commandHelpText(entry: CommandEntry): Promise<string> {
  return commandHelp(await entry.load());
}

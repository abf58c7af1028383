import { commandHelpText } from "../../src/cli/print-help.ts";
import { COMMANDS } from "../../src/cli/registry.ts";

/** The text of docs/cli.md: every command's own help, in the order of `firectl --help`. */
export async function cliReference(): Promise<string> {
  const parts = [
    "# Commands",
    "What `firectl COMMAND --help` prints, for all commands. This page is made from the program itself: change\nthe command in `src/cli/commands/`, then run `npx vitest run --project unit test/unit/docs.test.ts -u`.",
    "`firectl --help` lists the commands, `firectl --version` prints the version. [Exit statuses](exit-status.md)\nand [configuration](configuration.md) have pages of their own. VMs are named by id, by any unique beginning of\nan id, or by name. What `--format` takes is in [templates](templates.md).",
  ];
  let topic: string | undefined;
  for (const entry of COMMANDS) {
    if (entry.topic === undefined) continue;
    if (entry.topic !== topic) parts.push(`## ${entry.topic}`);
    topic = entry.topic;
    const help = await commandHelpText(entry);
    parts.push(`### firectl ${entry.names[0]}`, `\`\`\`text\n${help.trimEnd()}\n\`\`\``);
  }
  return `${parts.join("\n\n")}\n`;
}

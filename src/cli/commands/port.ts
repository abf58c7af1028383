import { FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { guestPortText, hostPortText } from "../ports-view.ts";
import { safeJson } from "../sanitize.ts";

export const port: Command = defineCommand({
  name: "port",
  summary: "List the ports of this host that lead to a running VM",
  description: "All of them, or where one of the VM's ports is published. Without protocol it is TCP's.",
  arguments: "VM [PORT[/tcp|udp]]",
  minArguments: 1,
  maxArguments: 2,
  flags: {},
  examples: ["firectl port web", "firectl port web 80", "firectl port dns 53/udp"],
  async handler({ args: [vm = "", wanted] }, context) {
    const operations = await context.firectl();
    const ports = await operations.ports(vm);
    const shown =
      wanted === undefined ? ports : ports.filter((each) => guestPortText(each) === inFull(wanted));
    if (wanted !== undefined && shown.length === 0) {
      throw new FirectlError("INVALID_ARGUMENT", `port: ${inFull(wanted)} of ${vm} is not published`, {
        hint: `firectl port ${vm} lists those that are`,
      });
    }
    const line = (each: (typeof shown)[number]): string =>
      wanted === undefined ? `${guestPortText(each)} -> ${hostPortText(each)}` : hostPortText(each);
    const text = context.json ? `${safeJson(shown)}\n` : shown.map((each) => `${line(each)}\n`).join("");
    context.io.stdout.write(text);
    return 0;
  },
});

function inFull(text: string): string {
  return text.includes("/") ? text : `${text}/tcp`;
}

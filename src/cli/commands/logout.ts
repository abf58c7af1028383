import { type Command, defineCommand } from "../command.ts";
import { safeJson } from "../sanitize.ts";

export const logout: Command = defineCommand({
  name: "logout",
  summary: "Forget the login for a registry",
  arguments: "[REGISTRY]",
  minArguments: 0,
  maxArguments: 1,
  flags: {},
  examples: ["firectl logout", "firectl logout registry.example"],
  async handler({ args: [registry] }, context) {
    const operations = await context.firectl();
    const done = await operations.logout(registry, { signal: context.interrupts.signal() });
    if (context.json) {
      context.io.stdout.write(`${safeJson(done)}\n`);
      return 0;
    }
    const what =
      done.removedFrom.length === 0
        ? `Not logged in to ${done.registry}`
        : `Removed the login for ${done.registry} from ${done.removedFrom.join(" and ")}`;
    context.io.stdout.write(`${what}\n`);
    if (done.isStillKnown) {
      context.io.stderr.write(
        `warning: another file still has a login for ${done.registry}, which pulls will use\n`,
      );
    }
    return 0;
  },
});

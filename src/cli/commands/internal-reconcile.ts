import { type Command, defineCommand } from "../command.ts";

/** What the supervisor of a detached VMM runs once that has ended. */
export const internalReconcile: Command = defineCommand({
  name: "internal reconcile",
  summary: "Finish the records of VMs whose processes have gone",
  arguments: "[VM]",
  minArguments: 0,
  maxArguments: 1,
  flags: {},
  examples: [],
  async handler({ args: [vm] }, context) {
    await (await context.firectl()).reconcile(vm);
    return 0;
  },
});

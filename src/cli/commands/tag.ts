import { type Command, defineCommand } from "../command.ts";

export const tag: Command = defineCommand({
  name: "tag",
  summary: "Give an image a further name",
  description: [
    "Copies nothing: both names lead to the same image. An image that had the name before loses it, and",
    "keeps what else it has.",
  ].join("\n"),
  arguments: "SOURCE[:TAG] TARGET[:TAG]",
  minArguments: 2,
  maxArguments: 2,
  flags: {},
  examples: [
    "firectl tag nginx:1.27 nginx:stable",
    "firectl tag 3f2b8c1e9d4a registry.example:5000/team/app:1",
  ],
  async handler({ args: [source = "", target = ""] }, context) {
    await (await context.firectl()).tagImage(source, target);
    return 0;
  },
});

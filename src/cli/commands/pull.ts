import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { collectGarbageLater } from "../garbage.ts";
import { IMAGE_FLAGS, limitsFrom } from "../image-flags.ts";

export const pull: Command = defineCommand({
  name: "pull",
  summary: "Fetch images into the store",
  description: [
    "Fetches what the name stands for now, and builds its root filesystem meanwhile, so that the first run",
    "need not; what is here already is not fetched again. Prints the digest of each image. An image that had",
    "the name before stays without one until firectl prune. IMAGE may be of any kind that firectl run takes;",
    "firectl load takes all images of an archive, under their own names.",
  ].join("\n"),
  arguments: "IMAGE [IMAGE...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    ...IMAGE_FLAGS,
    "no-build": {
      kind: "boolean",
      summary: "Only fetch: the first run builds the root filesystem",
    },
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: [
    "firectl pull nginx",
    "firectl pull debian:12 python:3.13",
    "firectl pull docker:my-app:latest",
    "firectl pull oci:./layout:v1",
  ],
  async handler({ flags, args }, context) {
    collectGarbageLater();
    const operations = await context.firectl();
    const signal = context.interrupts.signal();
    let status = 0;
    for (const reference of new Set(args)) {
      signal.throwIfAborted();
      const progress = await context.progress({ quiet: flags.quiet });
      try {
        const image = await operations.pullImage(reference, {
          ...defined({ platform: flags.platform }),
          ...limitsFrom(flags),
          build: !flags["no-build"],
          signal,
          onProgress: progress.update,
        });
        progress.stop();
        context.io.stdout.write(`${image.digest}\n`);
      } catch (error) {
        // An interrupt ends the command, not one image of it.
        if (args.length === 1 || signal.aborted) throw error;
        const failure = context.reportFailure(error);
        if (status === 0) status = failure;
      }
    }
    return status;
  },
});

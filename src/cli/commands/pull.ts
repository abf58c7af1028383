import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { parsePlatform } from "../values.ts";

export const pull: Command = defineCommand({
  name: "pull",
  summary: "Fetch an image into the store",
  arguments: "IMAGE",
  minArguments: 1,
  maxArguments: 1,
  flags: {
    platform: {
      kind: "value",
      placeholder: "OS/ARCH[/VARIANT]",
      parse: parsePlatform,
      summary: "Platform to take of an image with several",
    },
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: ["firectl pull nginx", "firectl pull docker:my-app:latest", "firectl pull oci:./layout:v1"],
  async handler({ flags, args: [reference = ""] }, context) {
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const image = await operations.pullImage(reference, {
      ...defined({ platform: flags.platform }),
      signal: context.interrupts.signal(),
      onProgress: progress.update,
    });
    progress.stop();
    context.io.stdout.write(`${image.digest}\n`);
    return 0;
  },
});

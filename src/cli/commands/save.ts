import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { OUTPUT_FLAG, outputFor } from "../output-file.ts";
import { choice, parsePlatform } from "../values.ts";

const parseFormat: (text: string, flag: string) => "docker-archive" | "oci-archive" = choice(
  "docker-archive",
  "oci-archive",
);

export const save: Command = defineCommand({
  name: "save",
  summary: "Write images into an archive",
  description: [
    "Layers that images share are in it once. docker load, podman load and skopeo read the default format,",
    "which is an OCI layout with Docker's manifest.json beside it; oci-archive is the layout alone.",
  ].join("\n"),
  arguments: "IMAGE [IMAGE...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    ...OUTPUT_FLAG,
    format: {
      kind: "value",
      placeholder: "FORMAT",
      parse: parseFormat,
      summary: "docker-archive (the default) or oci-archive",
    },
    platform: {
      kind: "value",
      placeholder: "OS/ARCH[/VARIANT]",
      parse: parsePlatform,
      summary: "Platform to take of an image with several",
    },
  },
  examples: ["firectl save -o app.tar app:1 app:2", "firectl save app | docker load"],
  async handler({ flags, args }, context) {
    const output = outputFor(context.io, flags.output);
    const operations = await context.firectl();
    await operations.saveImages(args, {
      output,
      ...defined({ format: flags.format, platform: flags.platform }),
      signal: context.interrupts.signal(),
    });
    return 0;
  },
});

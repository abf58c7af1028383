import { FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { choice, parsePlatform, parseText } from "../values.ts";

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
    output: {
      kind: "value",
      short: "o",
      placeholder: "FILE",
      parse: parseText,
      summary: "Write to FILE, whole or not at all, instead of stdout",
    },
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
    const { stdout } = context.io;
    const file = flags.output === "-" ? undefined : flags.output;
    if (file === undefined && stdout.isTerminal) {
      throw new FirectlError("INVALID_ARGUMENT", "save: stdout is a terminal, and an archive is no text", {
        hint: "firectl save -o FILE, or redirect the output",
      });
    }
    const operations = await context.firectl();
    await operations.saveImages(args, {
      output: file ?? ((chunk: Uint8Array) => stdout.stream(chunk)),
      ...defined({ format: flags.format, platform: flags.platform }),
      signal: context.interrupts.signal(),
    });
    return 0;
  },
});

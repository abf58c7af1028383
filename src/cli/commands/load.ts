import { FirectlError } from "../../core/errors.ts";
import type { LoadSource } from "../../manager/api.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { escapeControls, safeJson } from "../sanitize.ts";
import { parsePlatform, parseText } from "../values.ts";

export const load: Command = defineCommand({
  name: "load",
  summary: "Bring the images of an archive into the store",
  description: [
    "Takes what docker save, podman save, skopeo copy and firectl save write (docker-archive, oci-archive),",
    "plain or compressed by gzip, zstd, xz or bzip2; xz and bzip2 need the program of that name.",
  ].join("\n"),
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    input: {
      kind: "value",
      short: "i",
      placeholder: "FILE",
      parse: parseText,
      summary: "Read from FILE instead of stdin",
    },
    platform: {
      kind: "value",
      placeholder: "OS/ARCH[/VARIANT]",
      parse: parsePlatform,
      summary: "Platform to take of an image with several",
    },
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: ["firectl load -i app.tar", "docker save app | firectl load", "firectl load <app.tar.gz"],
  async handler({ flags }, context) {
    const source = sourceOf(flags.input, context);
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const loaded = await operations.loadImages(source, {
      ...defined({ platform: flags.platform }),
      signal: context.interrupts.signal(),
      onProgress: progress.update,
    });
    progress.stop();
    const lines = loaded.flatMap(({ names, digest }) =>
      names.length === 0
        ? [`Loaded image ID: ${digest}`]
        : names.map((name) => `Loaded image: ${escapeControls(name)}`),
    );
    const output = context.json ? loaded.map((image) => safeJson(image)) : lines;
    context.io.stdout.write(output.map((line) => `${line}\n`).join(""));
    return 0;
  },
});

function sourceOf(file: string | undefined, { io }: CommandContext): LoadSource {
  if (file !== undefined && file !== "-") return { file };
  if (io.stdinIsTerminal) {
    throw new FirectlError("INVALID_ARGUMENT", "load: stdin is a terminal, not an archive", {
      hint: "firectl load -i FILE, or firectl load <FILE",
    });
  }
  return { input: io.stdin, label: "standard input" };
}

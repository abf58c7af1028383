import { FirectlError } from "../../core/errors.ts";
import { type Command, type CommandContext, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { safeJson } from "../sanitize.ts";
import { parsePlatform, parseText } from "../values.ts";

export const importCommand: Command = defineCommand({
  name: "import",
  summary: "Make an image of a root filesystem",
  description: [
    "FILE is a tar, plain or compressed by gzip, zstd, xz or bzip2, or a directory; - reads a tar from stdin.",
    "The image has one layer, and no command unless --change gives it one: --change takes CMD, ENTRYPOINT,",
    "ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR as in a Dockerfile.",
    "Prints the image's digest.",
  ].join("\n"),
  arguments: "FILE|- [REPOSITORY[:TAG]]",
  minArguments: 1,
  maxArguments: 2,
  flags: {
    change: {
      kind: "list",
      short: "c",
      placeholder: "INSTRUCTION",
      parse: parseText,
      summary: "Dockerfile instruction that changes the image's configuration",
    },
    message: {
      kind: "value",
      short: "m",
      placeholder: "TEXT",
      parse: parseText,
      summary: "What the image's history says",
    },
    platform: {
      kind: "value",
      placeholder: "OS/ARCH[/VARIANT]",
      parse: parsePlatform,
      summary: "Platform that the programs are made for",
    },
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: [
    "firectl import rootfs.tar.gz app:1",
    `firectl import -c 'CMD ["/bin/sh"]' -c 'ENV LANG=C.UTF-8' - app <rootfs.tar`,
  ],
  async handler({ flags, args: [file = "", name] }, context) {
    const source = sourceOf(file, context);
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const image = await operations.importImage(source, {
      ...defined({ name, message: flags.message, platform: flags.platform }),
      changes: flags.change,
      signal: context.interrupts.signal(),
      onProgress: progress.update,
    });
    progress.stop();
    context.io.stdout.write(`${context.json ? safeJson(image) : image.digest}\n`);
    return 0;
  },
});

function sourceOf(file: string, { io }: CommandContext): string | AsyncIterable<Uint8Array> {
  if (/^https?:\/\//.test(file)) {
    throw new FirectlError("UNSUPPORTED", `import: "${file}" is a URL, which firectl does not fetch`, {
      hint: `curl -fL ${file} | firectl import -`,
    });
  }
  if (file !== "-") return file;
  if (io.stdinIsTerminal) {
    throw new FirectlError("INVALID_ARGUMENT", "import: stdin is a terminal, not a tar", {
      hint: "firectl import FILE, or firectl import - <FILE",
    });
  }
  return io.stdin;
}

import { FirectlError } from "../../core/errors.ts";
import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { parseName, parseSha256, parseText } from "../values.ts";

export const kernelAdd: Command = defineCommand({
  name: "kernel add",
  summary: "Add a guest kernel",
  description:
    "The source is a kernel image on this machine, a directory that a build has made (make kernel), or an https\nURL together with --sha256. Without one, the distribution's kernel package is used.",
  arguments: "[FILE|DIR|URL]",
  minArguments: 0,
  maxArguments: 1,
  flags: {
    name: {
      kind: "value",
      placeholder: "NAME",
      parse: parseName,
      summary: "Name of the kernel (default: its version)",
    },
    sha256: {
      kind: "value",
      placeholder: "HEX",
      parse: parseSha256,
      summary: "Checksum that the image must have",
    },
    modules: {
      kind: "value",
      placeholder: "DIR",
      parse: parseText,
      summary: "Directory of its modules (/lib/modules/VERSION)",
    },
    default: { kind: "boolean", summary: "Make it the default" },
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: [
    "firectl kernel add",
    "firectl kernel add ./vmlinux --name mine --default",
    "firectl kernel add .cache/kernel/x86_64-0123456789abcdef01234567 --default",
    "firectl kernel add /boot/vmlinuz-6.1.0-13-cloud-amd64 --modules /lib/modules/6.1.0-13-cloud-amd64",
  ],
  async handler({ flags, args: [source] }, context) {
    if (source !== undefined && /^https?:/i.test(source) && flags.sha256 === undefined) {
      throw new FirectlError("INVALID_ARGUMENT", `kernel add: a download needs --sha256 (${source})`, {
        hint: "give the SHA-256 that its publisher states",
      });
    }
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const kernel = await operations.addKernel({
      ...defined({ source, sha256: flags.sha256, name: flags.name, modulesDirectory: flags.modules }),
      makeDefault: flags.default,
      signal: context.interrupts.signal(),
      onProgress: progress.update,
    });
    progress.stop();
    context.io.stdout.write(`${kernel.name}\n`);
    return 0;
  },
});

import { type Command, defineCommand } from "../command.ts";
import { defined } from "../defined.ts";
import { parseName, parseSha256, parseText, wholeNumber } from "../values.ts";

export const kernelBuild: Command = defineCommand({
  name: "kernel build",
  summary: "Build firectl's own guest kernel",
  description: [
    "Builds a kernel made for these machines from the distribution's source package, installs it and makes it",
    "the default. It boots faster than a distribution's and has everything built in. Takes some minutes, needs",
    "3 GB below the data directory meanwhile, a compiler, and no root. After a failure or Ctrl-C the next build",
    "goes on where this one was; firectl prune removes what it left.",
    "",
    "Optional parts: apparmor, btf, btrfs, ipsec, mmio-arguments, nfs, sctp, xfs.",
  ].join("\n"),
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    name: {
      kind: "value",
      placeholder: "NAME",
      parse: parseName,
      summary: "Name of the kernel (default: firectl-VERSION)",
    },
    with: {
      kind: "list",
      placeholder: "PART",
      parse: parseText,
      summary: "Add an optional part",
    },
    source: {
      kind: "value",
      placeholder: "FILE|URL",
      parse: parseText,
      summary: "An archive of kernel.org, with --sha256, instead of the package",
    },
    sha256: {
      kind: "value",
      placeholder: "HEX",
      parse: parseSha256,
      summary: "Checksum that the archive must have",
    },
    jobs: {
      kind: "value",
      short: "j",
      placeholder: "N",
      parse: wholeNumber(1, 1024),
      summary: "Compilers at once (default: one a processor)",
    },
    "no-default": { kind: "boolean", summary: "Leave the default kernel as it is" },
    quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  },
  examples: [
    "firectl kernel build",
    "firectl kernel build --with nfs --with xfs",
    "firectl kernel build --name test -j 4 --no-default",
  ],
  async handler({ flags }, context) {
    const operations = await context.firectl();
    const progress = await context.progress({ quiet: flags.quiet });
    const kernel = await operations.buildKernel({
      ...defined({ name: flags.name, source: flags.source, sha256: flags.sha256, jobs: flags.jobs }),
      parts: flags.with,
      makeDefault: !flags["no-default"],
      signal: context.interrupts.signal(),
      onProgress: progress.update,
    });
    progress.stop();
    context.io.stdout.write(`${kernel.name}\n`);
    return 0;
  },
});

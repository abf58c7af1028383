import { FirectlError } from "../../core/errors.ts";
import { formatSize } from "../../core/units.ts";
import type { CopyReport } from "../../manager/api.ts";
import { type Command, defineCommand } from "../command.ts";
import { outputFor } from "../output-file.ts";
import { escapeControls } from "../sanitize.ts";

/** One of the two places: a path of this machine, or of a VM. */
interface CopyArgument {
  readonly vm: string | undefined;
  readonly path: string;
}

export const cp: Command = defineCommand({
  name: "cp",
  summary: "Copy files between a VM and this machine",
  description: `SRC and DEST are paths of this machine or, as VM:PATH, of a VM, running or not; - is a tar on stdin
or stdout. As with docker cp: SRC/. is what is in a directory; a directory goes into a DEST that is
there, and becomes one that is not. Without -a, root owns what is copied into a VM, and you what is
copied out.`,
  arguments: "SRC DEST",
  minArguments: 2,
  maxArguments: 2,
  flags: {
    archive: {
      kind: "boolean",
      short: "a",
      summary: "Keep the owners, by number; root only, where it copies out",
    },
    "follow-link": { kind: "boolean", short: "L", summary: "Follow SRC if it is a symbolic link" },
    quiet: { kind: "boolean", short: "q", summary: "Do not say how much was copied" },
  },
  examples: [
    "firectl cp web:/var/log/nginx .",
    "firectl cp site/. web:/var/www",
    "firectl cp -L web:/etc/mtab .",
  ],
  async handler({ flags, given, args: [from = "", to = ""] }, context) {
    const source = parseArgument(from);
    const destination = parseArgument(to);
    if (source.vm !== undefined && destination.vm !== undefined) {
      throw new FirectlError("INVALID_ARGUMENT", "cp: copying between VMs is not supported", {
        hint: `firectl cp ${from} - | firectl cp - ${to}`,
      });
    }
    const { io, interrupts } = context;
    const options = {
      archive: flags.archive,
      followLinks: flags["follow-link"],
      signal: interrupts.signal(),
    };
    const report = (copied: CopyReport): number => {
      for (const path of copied.leftOut) {
        const name = escapeControls(path);
        io.stderr.write(`firectl: ${name} is a device, which a VM must not put on this machine: left out\n`);
      }
      const unnamed = copied.leftOutCount - copied.leftOut.length;
      if (unnamed > 0) io.stderr.write(`firectl: and ${unnamed} more devices: left out\n`);
      const isQuiet = given.has("quiet") ? flags.quiet : !io.stderr.isTerminal;
      if (!isQuiet) io.stderr.write(`Successfully copied ${formatSize(copied.bytes)} to ${to}\n`);
      return copied.leftOutCount === 0 ? 0 : 1;
    };
    if (source.vm !== undefined) {
      const output = destination.path === "-" ? outputFor(io, "-") : destination.path;
      const operations = await context.firectl();
      return report(await operations.copyFromVm(source.vm, source.path, output, options));
    }
    if (destination.vm !== undefined) {
      if (source.path === "-" && io.stdinIsTerminal) {
        throw new FirectlError("INVALID_ARGUMENT", "cp: stdin is a terminal, and no archive", {
          hint: "redirect stdin from a tar",
        });
      }
      const input = source.path === "-" ? io.stdin : source.path;
      const operations = await context.firectl();
      return report(await operations.copyToVm(destination.vm, input, destination.path, options));
    }
    throw new FirectlError("INVALID_ARGUMENT", "cp: one of SRC and DEST must be in a VM", {
      hint: "write it as VM:PATH",
    });
  },
});

/** As docker reads it: what begins with a slash or a dot is a path of this machine, whatever it holds. */
function parseArgument(text: string): CopyArgument {
  const colon = text.indexOf(":");
  if (colon <= 0 || text.startsWith("/") || text.startsWith(".")) {
    if (text === "" || colon === 0) {
      throw new FirectlError("INVALID_ARGUMENT", `cp: "${text}" is neither a path nor VM:PATH`);
    }
    return { vm: undefined, path: text };
  }
  const vm = text.slice(0, colon);
  if (colon === text.length - 1) {
    throw new FirectlError("INVALID_ARGUMENT", `cp: "${text}" has no path`, {
      hint: `write ${vm}:/ for all of the VM, or ${vm}:PATH`,
    });
  }
  return { vm, path: text.slice(colon + 1) };
}

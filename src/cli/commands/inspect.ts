import { FirectlError } from "../../core/errors.ts";
import type { FirectlOperations } from "../../manager/api.ts";
import { type Command, defineCommand } from "../command.ts";
import { inspectEach } from "../inspect-each.ts";
import { parseListFormat } from "../output.ts";
import type { TemplateObject } from "../render-template.ts";
import { choice } from "../values.ts";

const parseType: (text: string, flag: string) => "vm" | "image" = choice("vm", "image");

export const inspect: Command = defineCommand({
  name: "inspect",
  summary: "Print everything that is known about VMs or images, as JSON",
  description: "A name that a VM and an image have is the VM's, unless --type says otherwise.",
  arguments: "NAME [NAME...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    format: {
      kind: "value",
      short: "f",
      placeholder: "FORMAT",
      parse: parseListFormat,
      summary: "json (one line each), or a template such as '{{.exitCode}}'",
    },
    type: {
      kind: "value",
      placeholder: "vm|image",
      parse: parseType,
      summary: "Look among VMs only, or images only",
    },
  },
  examples: [
    "firectl inspect web",
    "firectl inspect -f '{{.state}} {{.exitCode}}' job",
    "firectl inspect --type image -f '{{json .Config.Env}}' nginx",
  ],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    return inspectEach(args, {
      context,
      format: flags.format,
      look: (name) => inspectOne(operations, { name, type: flags.type }),
    });
  },
});

async function inspectOne(
  operations: FirectlOperations,
  { name, type }: { name: string; type: "vm" | "image" | undefined },
): Promise<TemplateObject> {
  if (type === "image") return operations.inspectImage(name);
  try {
    return await operations.inspect(name);
  } catch (error) {
    if (type === "vm" || !isCode(error, "VM_NOT_FOUND")) throw error;
  }
  try {
    return await operations.inspectImage(name);
  } catch (error) {
    // What can be no image's name is no reason to speak of images only.
    if (!isCode(error, "IMAGE_NOT_FOUND") && !isCode(error, "INVALID_REFERENCE")) throw error;
    throw new FirectlError("VM_NOT_FOUND", `there is no VM and no image "${name}"`, {
      hint: "firectl list -a and firectl images show all",
    });
  }
}

function isCode(error: unknown, code: FirectlError["code"]): boolean {
  return error instanceof FirectlError && error.code === code;
}

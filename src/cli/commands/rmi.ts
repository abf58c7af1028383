import { type Command, defineCommand } from "../command.ts";
import { escapeControls, safeJson } from "../sanitize.ts";

export const rmi: Command = defineCommand({
  name: "rmi",
  summary: "Remove images from the store",
  description: [
    "Takes a name away; an image left without any is deleted, with the blobs and filesystems that only it",
    "used. With a digest all its names go. An image that a VM uses stays.",
  ].join("\n"),
  arguments: "IMAGE [IMAGE...]",
  minArguments: 1,
  maxArguments: Number.POSITIVE_INFINITY,
  flags: {
    force: {
      kind: "boolean",
      short: "f",
      summary: "Take names away although VMs use the image (it stays, nameless) or a digest has several",
    },
  },
  examples: ["firectl rmi nginx", "firectl rmi nginx:1.26 nginx:1.27", "firectl rmi 3f2b8c1e9d4a"],
  async handler({ flags, args }, context) {
    const operations = await context.firectl();
    let status = 0;
    // One after the other: each may be the last name of what the next one has too.
    for (const reference of new Set(args)) {
      try {
        const removed = await operations.removeImage(reference, { force: flags.force });
        context.io.stdout.write(context.json ? `${safeJson(removed)}\n` : removedText(removed));
      } catch (error) {
        const failure = context.reportFailure(error);
        if (status === 0) status = failure;
      }
    }
    return status;
  },
});

function removedText({
  untagged,
  deleted,
}: {
  untagged: readonly string[];
  deleted: readonly string[];
}): string {
  return [...untagged.map((name) => `Untagged: ${name}`), ...deleted.map((id) => `Deleted: ${id}`)]
    .map((line) => `${escapeControls(line)}\n`)
    .join("");
}

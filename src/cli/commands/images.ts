import { formatSize } from "../../core/units.ts";
import type { ImageSummary } from "../../manager/api.ts";
import { type Command, defineCommand } from "../command.ts";
import { type ListView, parseListFormat, renderList } from "../output.ts";
import { ago } from "../time-text.ts";
import { shortId } from "../vm-view.ts";

function imageView(options: { truncated: boolean }): ListView<ImageSummary> {
  const digest = (image: ImageSummary): string =>
    options.truncated ? shortId(image.digest.replace(/^sha256:/, ""), options) : image.digest;
  return {
    columns: [
      { heading: "IMAGE", cell: (image) => image.reference },
      { heading: "DIGEST", cell: digest },
      { heading: "PLATFORM", cell: (image) => image.platform },
      { heading: "CREATED", cell: (image) => ago(image.createdAt) },
      { heading: "SIZE", cell: (image) => formatSize(image.sizeBytes) },
      { heading: "VMS", cell: (image) => String(image.usedBy.length) },
    ],
    fields: {
      Reference: (image) => image.reference,
      Digest: digest,
      Platform: (image) => image.platform,
      CreatedAt: (image) => image.createdAt ?? null,
      CreatedSince: (image) => ago(image.createdAt),
      Size: (image) => formatSize(image.sizeBytes),
      SizeBytes: (image) => image.sizeBytes,
      UsedBy: (image) => image.usedBy,
    },
    headings: { Reference: "IMAGE", CreatedAt: "CREATED AT", CreatedSince: "CREATED", UsedBy: "VMS" },
  };
}

export const images: Command = defineCommand({
  name: "images",
  summary: "List the images in the store",
  arguments: "",
  minArguments: 0,
  maxArguments: 0,
  flags: {
    format: {
      kind: "value",
      placeholder: "FORMAT",
      parse: parseListFormat,
      summary: "table, json or a template",
    },
    "no-trunc": { kind: "boolean", summary: "Do not shorten digests" },
    quiet: { kind: "boolean", short: "q", summary: "Print references only" },
  },
  examples: ["firectl images", "firectl images --format '{{.Reference}}\\t{{.Size}}'"],
  async handler({ flags }, context) {
    const found = await (await context.firectl()).listImages();
    const view = imageView({ truncated: !flags["no-trunc"] && !context.json });
    const format = flags.format ?? { kind: context.json ? "json" : "table" };
    const text = flags.quiet
      ? found.map((image) => `${image.reference}\n`).join("")
      : renderList(found, { view, format });
    context.io.stdout.write(text);
    return 0;
  },
});

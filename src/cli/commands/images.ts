import { formatSize } from "../../core/units.ts";
import type { FirectlOperations, ImageSummary } from "../../manager/api.ts";
import { type Command, defineCommand } from "../command.ts";
import {
  type ImageFilter,
  type Moments,
  matchesImageFilters,
  matchesReference,
  parseImageFilter,
} from "../image-filters.ts";
import { LIST_FORMAT_FLAG, type ListView, renderList } from "../output.ts";
import { ago } from "../time-text.ts";
import { shortId } from "../vm-view.ts";

const NONE = "<none>";

function imageView(options: { truncated: boolean; platforms: boolean }): ListView<ImageSummary> {
  const digest = (image: ImageSummary): string =>
    options.truncated ? shortId(image.digest.replace(/^sha256:/, ""), options) : image.digest;
  const repository = (image: ImageSummary): string => image.repository ?? NONE;
  // An archive's path needs no tag to be a name; what has lost its name must look different.
  const tag = (image: ImageSummary): string => image.tag ?? (image.dangling ? NONE : "");
  const platform = (image: ImageSummary): string => image.platform;
  return {
    columns: [
      { heading: "REPOSITORY", cell: repository },
      { heading: "TAG", cell: tag },
      { heading: "DIGEST", cell: digest },
      ...(options.platforms ? [{ heading: "PLATFORM", cell: platform }] : []),
      { heading: "CREATED", cell: (image) => ago(image.createdAt) },
      { heading: "SIZE", cell: (image) => formatSize(image.sizeBytes) },
      { heading: "DISK", cell: (image) => formatSize(image.diskBytes) },
      { heading: "VMS", cell: (image) => String(image.usedBy.length) },
    ],
    fields: {
      Reference: (image) => image.reference,
      Repository: repository,
      Tag: tag,
      ID: digest,
      Digest: (image) => image.digest,
      Platform: platform,
      CreatedAt: (image) => image.createdAt ?? null,
      CreatedSince: (image) => ago(image.createdAt),
      Size: (image) => formatSize(image.sizeBytes),
      SizeBytes: (image) => image.sizeBytes,
      Disk: (image) => formatSize(image.diskBytes),
      DiskBytes: (image) => image.diskBytes,
      // Docker's word for it, for templates that come from there.
      Containers: (image) => image.usedBy.length,
      UsedBy: (image) => image.usedBy,
      Labels: (image) => image.labels,
    },
    headings: { CreatedAt: "CREATED AT", CreatedSince: "CREATED", UsedBy: "VMS" },
  };
}

export const images: Command = defineCommand({
  name: "images",
  summary: "List the images in the store",
  description: [
    "SIZE is what is fetched for an image, DISK what its blobs and filesystems take here; what images",
    "share counts for each. An image whose name has gone to a newer one shows <none>: firectl prune",
    "removes it unless a VM uses it.",
  ].join("\n"),
  arguments: "[NAME[:TAG]]",
  minArguments: 0,
  maxArguments: 1,
  flags: {
    digests: { kind: "boolean", summary: "Show digests in full" },
    filter: {
      kind: "list",
      short: "f",
      placeholder: "KEY=VALUE",
      parse: parseImageFilter,
      summary: "Only with this reference or label, dangling, before or since another",
    },
    ...LIST_FORMAT_FLAG,
    "no-trunc": { kind: "boolean", summary: "Do not shorten digests" },
    quiet: { kind: "boolean", short: "q", summary: "Print digests only" },
  },
  examples: [
    "firectl images nginx",
    "firectl images --filter dangling=true",
    "firectl images --format '{{.Repository}}:{{.Tag}}\\t{{.Disk}}'",
    "firectl rmi $(firectl images -q 'test/*')",
  ],
  async handler({ flags, given, args: [pattern] }, context) {
    const operations = await context.firectl();
    const moments = await momentsOf(flags.filter, operations);
    const found = (await operations.listImages()).filter(
      (image) =>
        (pattern === undefined || matchesReference(image, pattern)) &&
        matchesImageFilters(image, flags.filter, moments),
    );
    const view = imageView({
      truncated: !flags["no-trunc"] && !flags.digests && !context.json,
      // Only where they tell images apart.
      platforms: new Set(found.map(({ platform }) => platform)).size > 1,
    });
    const format = flags.format ?? { kind: context.json ? "json" : "table" };
    const idsOnly = flags.quiet && !given.has("format");
    const text = idsOnly
      ? [...new Set(found.map((image) => `${view.fields["ID"]?.(image)}\n`))].join("")
      : renderList(found, { view, format });
    context.io.stdout.write(text);
    return 0;
  },
});

async function momentsOf(filters: readonly ImageFilter[], operations: FirectlOperations): Promise<Moments> {
  const moments = new Map<string, number>();
  for (const { key, value } of filters) {
    if (key !== "before" && key !== "since") continue;
    const created = Date.parse(String((await operations.inspectImage(value))["Created"]));
    moments.set(value, Number.isNaN(created) ? 0 : created);
  }
  return moments;
}

import path from "node:path";
import { digestHex } from "../core/brands.ts";
import { familiarName } from "../image/image-names.ts";
import type { Images, StoredImage, StoreUsage } from "../image/images.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { DiskUsageItem } from "./api.ts";
import { basesOf, listBaseFiles } from "./base-files.ts";
import { listCaches } from "./caches.ts";
import type { Context } from "./context.ts";
import { diskFile } from "./disk-file.ts";
import { blobsOf, unrecordedVms, usersOf } from "./image-usage.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** Everything that takes space below the data directory, and whether it can go. */
export async function diskUsage(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly DiskUsageItem[]> {
  const images = await context.images();
  const usage = await images.usage();
  const parts = await Promise.all([
    imageItems(images, { usage, records }),
    baseItems(context, records),
    vmItems(context, records),
    volumeItems(context, records),
    kernelItems(context, records),
    cacheItems(context, records),
    downloadItems(context, usage),
  ]);
  return parts.flat();
}

async function imageItems(
  images: Images,
  { usage, records }: { usage: StoreUsage; records: readonly VmRecord[] },
): Promise<readonly DiskUsageItem[]> {
  const counted = new Set<string>();
  const bytesOf = (blobs: Iterable<string>): number => {
    let sum = 0;
    for (const hex of blobs) {
      if (counted.has(hex)) continue;
      counted.add(hex);
      sum += usage.blobs.get(hex) ?? 0;
    }
    return sum;
  };
  const judged = oneOfEach(await images.list()).map(({ stored, names }) => ({
    stored,
    name: names.length === 0 ? stored.image.manifestDigest : names.join(", "),
    inUse: usersOf(stored, records).length > 0,
  }));
  // Those in use first: what they share with others cannot be had back.
  const items = [true, false].flatMap((wanted) =>
    judged
      .filter(({ inUse }) => inUse === wanted)
      .map(({ stored, name, inUse }) => ({
        kind: "image" as const,
        name,
        bytes: bytesOf(blobsOf(stored)),
        inUse,
      })),
  );
  const rest = [...usage.blobs.keys()].filter((hex) => !counted.has(hex));
  const blobs = rest.map((hex) => ({
    kind: "blob" as const,
    name: `sha256:${hex}`,
    bytes: bytesOf([hex]),
    // What another tool's entry leads to is not ours to judge.
    inUse: usage.named.has(hex),
  }));
  return [...items, ...blobs];
}

/** Each image once, with all its names. */
function oneOfEach(
  stored: readonly StoredImage[],
): readonly { stored: StoredImage; names: readonly string[] }[] {
  const found = new Map<string, { stored: StoredImage; names: string[] }>();
  for (const each of stored) {
    const key = digestHex(each.image.manifestDigest);
    const known = found.get(key) ?? { stored: each, names: [] };
    if (each.name !== undefined) known.names.push(familiarName(each.name));
    found.set(key, known);
  }
  return [...found.values()];
}

async function baseItems(context: Context, records: readonly VmRecord[]): Promise<readonly DiskUsageItem[]> {
  const inUse = basesOf(records);
  return (await listBaseFiles(context)).map((base) => ({
    kind: "filesystem",
    name: path.relative(context.directories.data, base.path),
    bytes: base.diskBytes,
    inUse: inUse.has(base.path),
  }));
}

async function vmItems(context: Context, records: readonly VmRecord[]): Promise<readonly DiskUsageItem[]> {
  const recorded = records.map(({ id, name, state }) => ({
    id,
    name,
    inUse: state !== "exited" && state !== "dead",
  }));
  const unrecorded = (await unrecordedVms(context, records)).map((id) => ({ id, name: id, inUse: false }));
  return Promise.all(
    [...recorded, ...unrecorded].map(async ({ id, name, inUse }) => {
      const paths = vmPathsOf(context.directories, id);
      const files = await Promise.all([paths.rootfs, paths.directory].map(diskFile));
      const bytes = files.reduce((sum, file) => sum + (file?.diskBytes ?? 0), 0);
      return { kind: "vm" as const, name, bytes, inUse };
    }),
  );
}

async function volumeItems(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly DiskUsageItem[]> {
  const { listVolumes } = await import("./volumes/volumes.ts");
  return (await listVolumes(context, records)).map(({ name, diskBytes, usedBy }) => ({
    kind: "volume",
    name,
    bytes: diskBytes,
    inUse: usedBy.length > 0,
  }));
}

async function kernelItems(
  context: Context,
  records: readonly VmRecord[],
): Promise<readonly DiskUsageItem[]> {
  const kernels = await context.kernels();
  const [all, standard] = await Promise.all([kernels.list(), kernels.default()]);
  const booted = new Set(records.map(({ kernelPath }) => path.dirname(kernelPath)));
  return Promise.all(
    all.map(async ({ name, directory }) => ({
      kind: "kernel" as const,
      name,
      bytes: (await diskFile(directory))?.diskBytes ?? 0,
      inUse: name === standard?.name || booted.has(directory),
    })),
  );
}

async function cacheItems(context: Context, records: readonly VmRecord[]): Promise<readonly DiskUsageItem[]> {
  return (await listCaches(context, records)).map((cache) => ({
    kind: "cache",
    name: path.relative(context.directories.data, cache.path),
    bytes: cache.diskBytes,
    inUse: cache.inUse,
  }));
}

async function downloadItems(context: Context, { partials }: StoreUsage): Promise<readonly DiskUsageItem[]> {
  const images = await context.images();
  return Promise.all(
    partials.map(async ({ path: file, diskBytes }) => ({
      kind: "download" as const,
      name: path.relative(context.directories.data, file),
      bytes: diskBytes,
      inUse: await images.isComing(file),
    })),
  );
}

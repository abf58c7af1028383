import { rm } from "node:fs/promises";
import path from "node:path";
import type { Digest } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";
import { familiarName } from "../image/image-names.ts";
import type { Images, StoredImage } from "../image/images.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { DiskUsageKind, PruneOptions, PruneReport, RemovedImage } from "./api.ts";
import { sweepUnfinishedBases } from "./base-files.ts";
import { sweepKernelBuild } from "./build-kernel.ts";
import { listCaches } from "./caches.ts";
import { imagesIn, reasonsToWait, removeUnusedBases } from "./collect.ts";
import type { Context } from "./context.ts";
import type { DiskFile } from "./disk-file.ts";
import { usersOf } from "./image-usage.ts";
import { sweepKernelWork } from "./kernels.ts";

/** For those who pull or read images to come to an end. */
const ALONE_TIMEOUT_MS = 3000;

/**
 * Removes what nobody can use any more: images without a name, blobs, filesystems, downloads and caches; with
 * `all` every image that no VM uses. What VMs use, or may be about to use, stays.
 */
export async function prune(context: Context, options: PruneOptions): Promise<PruneReport> {
  const report = new Report(context.directories.data);
  // Nothing of this needs the index written: a full disk gets room first.
  for (const file of await sweepUnfinishedBases(context)) report.addFile("filesystem", file);
  await sweepKernelWork(context);
  await sweepKernelBuild(context);
  if (options.volumes === true) await pruneUnusedVolumes(context, report);
  const images = await context.images();
  await images.mend();
  await context.vms.hold((records) => pruneCaches(context, { records, report, ...options }));
  let isAlone = false;
  try {
    await images.alone(ALONE_TIMEOUT_MS, async () => {
      isAlone = true;
      await context.vms.hold((records) => pruneImages(context, { images, records, report, ...options }));
      const { untilMs } = options;
      const partialLifetimeMs = untilMs === undefined ? Number.NEGATIVE_INFINITY : Date.now() - untilMs;
      const went = await images.collectGarbageAlone({ partialLifetimeMs });
      if (went.blobs > 0) report.add("blob", plural(went.blobs, "blob"), went.bytes);
      if (went.partials > 0) report.add("download", plural(went.partials, "file"), went.partialBytes);
    });
  } catch (error) {
    if (isAlone || !(error instanceof FirectlError && error.code === "LOCK_TIMEOUT")) throw error;
    report.postpone("images, blobs and filesystems stay while another firectl pulls or reads images");
  }
  return report.finished();
}

async function pruneUnusedVolumes(context: Context, report: Report): Promise<void> {
  const { pruneVolumes } = await import("./volumes/volumes.ts");
  const { volumes, postponed } = await pruneVolumes(context, {});
  for (const { name, diskBytes } of volumes) report.add("volume", name, diskBytes);
  for (const reason of postponed) report.postpone(reason);
}

interface PruneRun extends PruneOptions {
  readonly records: readonly VmRecord[];
  readonly report: Report;
}

async function pruneCaches(context: Context, run: PruneRun): Promise<void> {
  const reasons = await reasonsToWait(context, run.records);
  for (const reason of reasons) run.report.postpone(reason);
  if (reasons.length > 0) return;
  for (const cache of await listCaches(context, run.records)) {
    if (cache.inUse || !isBefore(cache.modifiedMs, run)) continue;
    await rm(cache.path, { recursive: true, force: true });
    run.report.addFile("cache", cache);
  }
}

async function pruneImages(context: Context, run: PruneRun & { images: Images }): Promise<void> {
  const { images, records, report } = run;
  const stored = await images.list();
  const doomed = doomedDigests(stored, run);
  const [gone, kept] = [true, false].map((isDoomed) =>
    stored.filter(({ entry }) => doomed.has(entry.digest) === isDoomed),
  );
  if (gone === undefined || kept === undefined) throw new Error("two");
  const reasons = await reasonsToWait(context, records);
  for (const reason of reasons) report.postpone(reason);
  if (reasons.length === 0) {
    const { untilMs } = run;
    const bases = await removeUnusedBases(context, { images: imagesIn(kept), records, untilMs });
    for (const file of bases) report.addFile("filesystem", file);
  }
  const broken = await images.brokenEntries();
  if (gone.length + broken.size === 0) return;
  await images.forget({ digests: new Set([...doomed, ...broken]) });
  for (const digest of doomed) report.addImage(removedImage(digest, gone));
}

/** Digests of the entries whose images all may go. */
function doomedDigests(
  stored: readonly StoredImage[],
  run: PruneRun & { images: Images },
): ReadonlySet<Digest> {
  const kept = new Set<Digest>();
  for (const each of stored) {
    const isWanted = each.name !== undefined && run.all !== true;
    const createdMs = Date.parse(each.image.createdAt ?? "");
    const isTooNew = !isBefore(Number.isNaN(createdMs) ? 0 : createdMs, run);
    if (isWanted || isTooNew || usersOf(each, run.records).length > 0 || mayBeTaken(each, run.records)) {
      kept.add(each.entry.digest);
    }
  }
  return new Set(stored.map(({ entry }) => entry.digest).filter((digest) => !kept.has(digest)));
}

/** A VM that is being made may have got an image just before the name went to another one. */
function mayBeTaken(stored: StoredImage, records: readonly VmRecord[]): boolean {
  return (
    stored.name === undefined &&
    records.some(({ state, machine }) => state === "creating" && machine === null)
  );
}

function isBefore(momentMs: number, { untilMs }: PruneOptions): boolean {
  return untilMs === undefined || momentMs < untilMs;
}

function removedImage(digest: Digest, gone: readonly StoredImage[]): RemovedImage {
  const ofEntry = gone.filter(({ entry }) => entry.digest === digest);
  const names = new Set(ofEntry.flatMap(({ name }) => (name === undefined ? [] : [familiarName(name)])));
  return { untagged: [...names], deleted: [digest] };
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Gathers what went. */
class Report {
  readonly #dataDirectory: string;
  readonly #images: RemovedImage[] = [];
  readonly #items: { kind: DiskUsageKind; name: string; bytes: number }[] = [];
  readonly #postponed = new Set<string>();

  constructor(dataDirectory: string) {
    this.#dataDirectory = dataDirectory;
  }

  add(kind: DiskUsageKind, name: string, bytes: number): void {
    this.#items.push({ kind, name, bytes });
  }

  addFile(kind: DiskUsageKind, { path: file, diskBytes }: DiskFile): void {
    this.add(kind, path.relative(this.#dataDirectory, file), diskBytes);
  }

  addImage(image: RemovedImage): void {
    this.#images.push(image);
  }

  postpone(reason: string): void {
    this.#postponed.add(reason);
  }

  finished(): PruneReport {
    return {
      images: this.#images,
      items: this.#items,
      reclaimedBytes: this.#items.reduce((sum, { bytes }) => sum + bytes, 0),
      postponed: [...this.#postponed],
    };
  }
}

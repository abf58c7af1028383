import type { Digest } from "../core/brands.ts";
import { FirectlError } from "../core/errors.ts";
import { familiarName, nameParts } from "../image/image-names.ts";
import type { Images, Selection, StoredImage } from "../image/images.ts";
import type { VmRecord } from "../state/vm-record.ts";
import type { RemovedImage, RemoveImageOptions } from "./api.ts";
import { imagesIn, reasonsToWait, removeUnusedBases } from "./collect.ts";
import type { Context } from "./context.ts";
import { usersOf } from "./image-usage.ts";
import { removalOf } from "./records.ts";

/** A removal need not wait for a pull under way: what it cannot collect, the next removal or prune will. */
const COLLECT_TIMEOUT_MS = 50;
/** A hint names no more VMs than this. */
const MAX_NAMED = 5;

/**
 * Takes a name from an image, or with a digest all its names; an image left without any goes, with what only
 * it used.
 * @throws FirectlError IMAGE_NOT_FOUND, AMBIGUOUS_NAME; WRONG_STATE while a VM uses it, or when a digest stands
 *   for several repositories' names, unless forced.
 */
export async function removeImage(
  context: Context,
  reference: string,
  options: RemoveImageOptions,
): Promise<RemovedImage> {
  const images = await context.images();
  const force = options.force ?? false;
  // No VM comes to be meanwhile: one that began before is on record, one that begins later finds no image.
  const plan = await context.vms.hold(async (records) => {
    const selection = await images.select(reference);
    const plan = planRemoval({ reference, selection, all: await images.list(), records, force });
    await images.forget({
      digests: plan.digests,
      loses: ({ reference, digest }) => plan.affected.has(digest) && plan.names.has(reference ?? ""),
    });
    return plan;
  });
  await collect(context, images);
  return { untagged: [...plan.names].map(familiarName), deleted: [...plan.digests] };
}

interface RemovalPlan {
  /** Digests of the entries that it is about. */
  readonly affected: ReadonlySet<Digest>;
  readonly names: ReadonlySet<string>;
  /** Of the entries that go. */
  readonly digests: ReadonlySet<Digest>;
}

interface Removal {
  readonly reference: string;
  readonly selection: Selection<StoredImage>;
  readonly all: readonly StoredImage[];
  readonly records: readonly VmRecord[];
  readonly force: boolean;
}

function planRemoval(removal: Removal): RemovalPlan {
  const { selection, all } = removal;
  const affected = new Set(selection.items.map(({ entry }) => entry.digest));
  const ofAffected = all.filter(({ entry }) => affected.has(entry.digest));
  const chosen = selection.by === "name" ? selection.items : ofAffected;
  const names = new Set(chosen.flatMap(({ name }) => name ?? []));
  if (selection.by === "digest") refuseSeveral([...names], removal);
  const stillNamed = new Set(
    ofAffected.filter(({ name }) => name !== undefined && !names.has(name)).map(({ entry }) => entry.digest),
  );
  const nameless = ofAffected.filter(({ entry }) => !stillNamed.has(entry.digest));
  const used = new Set<Digest>();
  for (const stored of nameless) {
    const users = usersOf(stored, removal.records);
    if (users.length === 0) continue;
    if (!removal.force || names.size === 0) throw inUse(removal, { users, isNamed: names.size > 0 });
    used.add(stored.entry.digest);
  }
  return {
    affected,
    names,
    digests: new Set(nameless.map(({ entry }) => entry.digest).filter((digest) => !used.has(digest))),
  };
}

function refuseSeveral(names: readonly string[], { reference, force }: Removal): void {
  const repositories = new Set(names.map((name) => nameParts(name).repository));
  if (force || repositories.size < 2) return;
  const familiar = names.map(familiarName).join(" ");
  throw new FirectlError("WRONG_STATE", `cannot remove ${reference}: it has the names ${familiar}`, {
    hint: `firectl rmi ${familiar}, or firectl rmi -f ${reference} to take them all away`,
  });
}

function inUse(
  { reference }: Removal,
  { users, isNamed }: { users: readonly VmRecord[]; isNamed: boolean },
): FirectlError {
  const made = users.filter(({ imageDigest }) => imageDigest !== null);
  const [what, remedy] = made.length > 0 ? useOf(made) : possibleUseOf(users);
  const untag = `firectl rmi -f ${reference} only takes its name away and keeps it for them`;
  return new FirectlError("WRONG_STATE", `cannot remove ${reference}: ${what}`, {
    hint: isNamed ? `${remedy}; ${untag}` : remedy,
  });
}

function useOf(users: readonly VmRecord[]): readonly [what: string, remedy: string] {
  const shown = namesOf(users);
  const what = users.length === 1 ? `VM ${shown} uses it` : `${users.length} VMs use it: ${shown}`;
  return [what, `${removalOf(users)} removes what uses it`];
}

/** Which image a VM that is being made gets is not known yet: it may have nothing to do with this one. */
function possibleUseOf(users: readonly VmRecord[]): readonly [what: string, remedy: string] {
  const shown = namesOf(users);
  return users.length === 1
    ? [`VM ${shown} is being made and may use it`, "try again when it runs"]
    : [`${users.length} VMs are being made and may use it: ${shown}`, "try again when they run"];
}

function namesOf(users: readonly VmRecord[]): string {
  const names = users.slice(0, MAX_NAMED).map(({ name }) => name);
  return `${names.join(", ")}${users.length > MAX_NAMED ? ", …" : ""}`;
}

/** Deletes what no image and no VM uses any more, if nobody pulls or reads at the moment. */
async function collect(context: Context, images: Images): Promise<void> {
  try {
    await images.alone(COLLECT_TIMEOUT_MS, async () => {
      await context.vms.hold(async (records) => {
        if ((await reasonsToWait(context, records)).length > 0) return;
        await removeUnusedBases(context, { images: imagesIn(await images.list()), records });
      });
      await images.collectGarbageAlone({});
    });
  } catch (error) {
    if (!(error instanceof FirectlError && error.code === "LOCK_TIMEOUT")) throw error;
  }
}

import { mkdir } from "node:fs/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { TemporaryDirectory } from "../image.test-helper.ts";
import { sha256 } from "./content-store.ts";
import { enterImage, forget, giveName } from "./index-changes.ts";
import { type IndexChange, type IndexEntry, readIndex, rewriteIndex } from "./index-file.ts";

const NAMES = ["docker.io/library/a:1", "docker.io/library/b:1", "oci:/srv/layout"] as const;
const PLATFORMS = ["amd64", "arm64"] as const;
const IMAGES = 4;

type Step =
  | { readonly kind: "enter"; readonly image: number; readonly name: number | undefined }
  | { readonly kind: "name"; readonly image: number; readonly name: number }
  | { readonly kind: "forget image"; readonly image: number }
  | { readonly kind: "forget name"; readonly name: number };

const image = fc.nat(IMAGES - 1);
const name = fc.nat(NAMES.length - 1);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant("enter" as const), image, name: fc.option(name, { nil: undefined }) }),
  fc.record({ kind: fc.constant("name" as const), image, name }),
  fc.record({ kind: fc.constant("forget image" as const), image }),
  fc.record({ kind: fc.constant("forget name" as const), name }),
);

/** Every other image is for another platform. */
const platformOf = (id: number): string => PLATFORMS[id % PLATFORMS.length] ?? "";
const digestOf = (id: number): IndexEntry["digest"] => sha256(Buffer.from(`image ${id}`));

function entryOf(id: number, named: number | undefined): IndexEntry {
  return {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    digest: digestOf(id),
    size: 1,
    reference: named === undefined ? undefined : NAMES[named],
    platform: { os: "linux", architecture: platformOf(id) },
    origin: `origin ${id}`,
  };
}

function changeOf(done: Step): IndexChange {
  switch (done.kind) {
    case "enter":
      return enterImage(entryOf(done.image, done.name));
    case "name":
      return giveName(NAMES[done.name] ?? "", new Set([digestOf(done.image)]));
    case "forget image":
      return forget({ digests: new Set([digestOf(done.image)]) });
    case "forget name":
      return forget({ digests: new Set(), loses: ({ reference }) => reference === NAMES[done.name] });
  }
}

/** What Docker would say is there: images, and which image has a name for a platform. */
class Model {
  readonly images = new Set<number>();
  readonly names = new Map<string, number>();

  apply(done: Step): void {
    switch (done.kind) {
      case "enter":
        this.images.add(done.image);
        if (done.name !== undefined) this.names.set(`${done.name} ${platformOf(done.image)}`, done.image);
        return;
      case "name":
        if (!this.images.has(done.image)) return;
        for (const platform of PLATFORMS) this.names.delete(`${done.name} ${platform}`);
        this.names.set(`${done.name} ${platformOf(done.image)}`, done.image);
        return;
      case "forget image":
        this.images.delete(done.image);
        for (const [key, id] of this.names) if (id === done.image) this.names.delete(key);
        return;
      case "forget name":
        for (const platform of PLATFORMS) this.names.delete(`${done.name} ${platform}`);
    }
  }

  /** `NAME IMAGE` for each name, `IMAGE` for each image without any. */
  get lines(): readonly string[] {
    const named = [...this.names].map(([key, id]) => `${NAMES[Number(key.split(" ")[0])]} ${digestOf(id)}`);
    const nameless = [...this.images].filter((id) => ![...this.names.values()].includes(id));
    return [...named, ...nameless.map(digestOf)].sort();
  }
}

test("names and images are what they are in Docker, whatever is done in whatever order", async () => {
  await using directory = await TemporaryDirectory.make();
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const layout = directory.join(`${run++}`);
      await mkdir(layout);
      const model = new Model();
      for (const done of steps) {
        // An image that is named must be there: so says whoever calls it.
        if (done.kind === "name" && !model.images.has(done.image)) continue;
        await rewriteIndex(layout, changeOf(done));
        model.apply(done);
        const entries = await readIndex(layout);
        const lines = entries.map(({ reference, digest }) =>
          reference === undefined ? digest : `${reference} ${digest}`,
        );
        expect(lines.sort()).toEqual(model.lines);
        // What came with an image goes with it through every change of name.
        for (const { digest, origin } of entries) {
          expect(digestOf(Number(origin?.split(" ")[1]))).toBe(digest);
        }
      }
    }),
    { numRuns: 60 },
  );
});

test("an image that had several names is known by one of them", () => {
  const named = [entryOf(0, 0), entryOf(0, 1)];
  const change = forget({ digests: new Set(), loses: () => true });
  expect(change(named)).toMatchObject([{ reference: undefined, formerReference: NAMES[0] }]);
});

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { familiarName, nameParts } from "./image-names.ts";
import { digestPrefixIn, mayMean, type Selectable, selectImages } from "./select-image.ts";
import { sha256 } from "./store/content-store.ts";

const digest = (text: string): Selectable["image"]["manifestDigest"] => sha256(Buffer.from(text));

function item(id: string, fields: Partial<Selectable> = {}): Selectable & { id: string } {
  const image = { manifestDigest: digest(`manifest ${id}`), configDigest: digest(`config ${id}`) };
  return { id, name: undefined, formerName: undefined, origin: undefined, image, ...fields };
}

const a = item("a", { name: "docker.io/library/a:1", origin: digest("index a") });
const aArm = item("a arm", { name: "docker.io/library/a:1", origin: digest("index a") });
const tagged = item("a", { name: "docker.io/library/other:2" });
const former = item("old", { formerName: "docker.io/library/a:1", origin: digest("index old") });
const nameless = item("nameless");
const hexName = item("hex", { name: `docker.io/library/${digest("manifest nameless").slice(7, 13)}:latest` });
const ALL = [a, aArm, tagged, former, nameless, hexName];

const hex = (text: string): string => digest(text).slice("sha256:".length);

describe("selectImages", () => {
  it.each<[string, string | undefined, "name" | "digest", readonly (typeof a)[]]>([
    ["a:1", "docker.io/library/a:1", "name", [a, aArm]],
    ["other:2", "docker.io/library/other:2", "name", [tagged]],
    [digest("manifest a"), undefined, "digest", [a, tagged]],
    [hex("manifest a"), undefined, "digest", [a, tagged]],
    [hex("manifest a").slice(0, 12), "docker.io/library/x:latest", "digest", [a, tagged]],
    [`sha256:${hex("config a").slice(0, 12)}`, "docker.io/library/sha256:x", "digest", [a, tagged]],
    [digest("index a"), undefined, "digest", [a, aArm]],
    [hex("manifest nameless"), undefined, "digest", [nameless]],
    // A name comes before the beginning of a digest.
    [hex("manifest nameless").slice(0, 6), hexName.name, "name", [hexName]],
    [`a@${digest("manifest a arm")}`, `docker.io/library/a@${digest("manifest a arm")}`, "digest", [aArm]],
    [`a@${digest("index old")}`, `docker.io/library/a@${digest("index old")}`, "digest", [former]],
    [`a:9@${digest("index a")}`, `docker.io/library/a:9@${digest("index a")}`, "digest", [a, aArm]],
  ])("%s", (text, fullName, by, items) => {
    expect(selectImages(ALL, text, fullName)).toEqual({ by, items });
  });

  it.each<[string, string | undefined]>([
    ["gone:1", "docker.io/library/gone:1"],
    [digest("gone"), undefined],
    [`b@${digest("index a")}`, `docker.io/library/b@${digest("index a")}`],
    // Too short to be more than a word.
    [hex("manifest nameless").slice(0, 2), "docker.io/library/x:latest"],
    [hex("manifest nameless").toUpperCase(), undefined],
  ])("nothing for %s", (text, fullName) => {
    expect(selectImages(ALL, text, fullName)).toBeUndefined();
  });

  it("refuses what several images begin with, and shows what to write", () => {
    const many = Array.from({ length: 5000 }, (_, index) => item(`${index}`));
    const prefix = hex("manifest 0").slice(0, 3);
    expect(() => selectImages(many, prefix, undefined)).toThrow(
      expect.objectContaining({
        code: "AMBIGUOUS_NAME",
        message: expect.stringMatching(/is the beginning of \d+ image digests/),
        hint: expect.stringMatching(/^write more of it: sha256:[0-9a-f]{12}, /),
      }),
    );
  });

  it("finds each digest by each of its beginnings that no other has", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string(), { minLength: 1, maxLength: 20 }), (ids) => {
        const items = ids.map((id) => item(id));
        for (const each of items) {
          const selection = selectImages(items, each.image.manifestDigest.slice(0, 27), undefined);
          expect(selection?.items).toEqual([each]);
        }
      }),
      { numRuns: 20 },
    );
  });
});

describe("mayMean", () => {
  const layout = item("layout", { name: "oci:/srv/layout:v1" });
  const gone = item("gone", { formerName: "docker.io/library/a:1" });
  it.each<[string, Selectable, boolean]>([
    ["a:1", a, true],
    ["docker.io/library/a:1", a, true],
    ["docker://a:1", a, true],
    ["docker:a:1", a, false],
    ["a:2", a, false],
    ["a:1", gone, true],
    ["oci:/srv/layout:v1", layout, true],
    ["oci:/srv/other:v1", layout, false],
    ["oci:/srv/layout", layout, false],
    ["docker-archive:/srv/layout:v1", layout, false],
    [digest("manifest a"), a, true],
    [hex("manifest a"), a, true],
    [hex("manifest a").slice(0, 9), a, true],
    [hex("manifest b"), a, false],
    ["Not A Name", a, false],
    ["", a, false],
  ])("%s", (reference, image, expected) => {
    expect(mayMean(image, reference)).toBe(expected);
  });
});

describe("digestPrefixIn", () => {
  it.each([
    ["abc", "abc"],
    ["ab", undefined],
    ["sha256:abc", "abc"],
    ["sha256:", undefined],
    ["abg", undefined],
    ["ABC", undefined],
    ["a".repeat(64), "a".repeat(64)],
    ["a".repeat(65), undefined],
  ])("%s", (text, digits) => {
    expect(digestPrefixIn(text)).toBe(digits);
  });
});

describe("nameParts", () => {
  it.each<[string, string, string | undefined]>([
    ["docker.io/library/nginx:1.27", "nginx", "1.27"],
    ["docker.io/team/app:1", "team/app", "1"],
    ["docker.io/library/deep/er:1", "library/deep/er", "1"],
    ["registry.example:5000/a/b:c", "registry.example:5000/a/b", "c"],
    ["registry.example:5000/a/b", "registry.example:5000/a/b", undefined],
    [`docker.io/library/nginx@sha256:${"a".repeat(64)}`, "nginx", undefined],
    [`docker.io/library/nginx:1@sha256:${"a".repeat(64)}`, "nginx", "1"],
    ["docker:docker.io/library/my-app:latest", "docker:my-app", "latest"],
    ["oci:/srv/layout", "oci:/srv/layout", undefined],
    ["oci:/srv/layout:v1", "oci:/srv/layout", "v1"],
    ["oci:relative", "oci:relative", undefined],
  ])("%s", (name, repository, tag) => {
    expect(nameParts(name)).toEqual({ repository, tag });
  });

  it("familiarName keeps tag and digest", () => {
    expect(familiarName(`docker.io/library/a:1@sha256:${"a".repeat(64)}`)).toBe(
      `a:1@sha256:${"a".repeat(64)}`,
    );
    expect(familiarName("ghcr.io/docker.io/a")).toBe("ghcr.io/docker.io/a");
  });
});

import { readFile, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { blob, TemporaryDirectory } from "../image.test-helper.ts";
import { type IndexEntry, readIndex, rewriteIndex } from "./index-file.ts";

const OCI = "application/vnd.oci.image.manifest.v1+json";
const DOCKER = "application/vnd.docker.distribution.manifest.v2+json";
const REF_NAME = "org.opencontainers.image.ref.name";
const NAME = "io.firectl.image.name";
const amd64 = { os: "linux", architecture: "amd64" };
const arm64 = { os: "linux", architecture: "arm64" };

function entry(content: string, fields: Partial<IndexEntry> = {}): IndexEntry {
  const { digest, size } = blob(OCI, Buffer.from(content));
  return {
    mediaType: OCI,
    digest,
    size,
    reference: "docker.io/library/a:1",
    platform: amd64,
    origin: undefined,
    ...fields,
  };
}

interface Written {
  readonly mediaType: string;
  readonly digest: string;
  readonly annotations: Readonly<Record<string, string>>;
}

async function written(directory: TemporaryDirectory, entries: readonly IndexEntry[]): Promise<Written[]> {
  await rewriteIndex(directory.path, () => entries);
  return JSON.parse(await readFile(directory.join("index.json"), "utf8")).manifests;
}

/** What stands in index.json when another tool has written `manifests`. */
async function readBack(
  directory: TemporaryDirectory,
  manifests: readonly object[],
): Promise<readonly IndexEntry[]> {
  await writeFile(directory.join("index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
  return readIndex(directory.path);
}

const names = (entries: readonly IndexEntry[]): unknown => entries.map(({ reference }) => reference);

describe("the name for other tools", () => {
  it.each([
    ["docker.io/library/debian:12", undefined],
    ["registry.example:5000/a/b-c.d_e:1.2_x", undefined],
    ["docker:docker.io/library/a:1", undefined],
    ["docker.io/a/b@sha256:aa", undefined],
    ["oci:/srv/layout:v1", "digest"],
    ["docker.io/a/foo__bar:1", "digest"],
    ["docker.io/a/foo---bar:1", "digest"],
    ["docker.io/library/a:_x", "digest"],
  ])("for %s is %s", async (reference, other) => {
    await using directory = await TemporaryDirectory.make();
    const image = entry("x", { reference });
    const [manifest] = await written(directory, [image]);
    expect(manifest?.annotations[REF_NAME]).toBe(other === "digest" ? image.digest : reference);
    expect(names(await readIndex(directory.path))).toEqual([reference]);
  });

  it("is the newest's of several platforms, and moves on when that goes", async () => {
    await using directory = await TemporaryDirectory.make();
    const [one, two] = [entry("one"), entry("two", { platform: arm64 })];
    const both = await written(directory, [one, two]);
    expect(both.map(({ annotations }) => annotations[REF_NAME] !== undefined)).toEqual([false, true]);
    expect(names(await readIndex(directory.path))).toEqual([one.reference, two.reference]);
    await rewriteIndex(directory.path, (entries) => entries.slice(0, 1));
    const { manifests } = JSON.parse(await readFile(directory.join("index.json"), "utf8"));
    expect(manifests[0].annotations[REF_NAME]).toBe(one.reference);
  });

  it("leads to the OCI form of an image that came in Docker's", async () => {
    await using directory = await TemporaryDirectory.make();
    const ociForm = { digest: entry("oci form").digest, size: 8 };
    const image = entry("x", { mediaType: DOCKER, ociForm });
    expect(await written(directory, [image])).toMatchObject([
      {
        mediaType: OCI,
        ...ociForm,
        annotations: { "io.firectl.image.original": `${DOCKER} ${image.digest} 1` },
      },
    ]);
    expect(await readIndex(directory.path)).toMatchObject([image]);
  });
});

describe("an entry of another tool", () => {
  const foreign = (content: string, annotations: object, platform?: object): object => {
    const { digest, size } = entry(content);
    return { mediaType: OCI, digest, size, annotations, ...(platform === undefined ? {} : { platform }) };
  };

  it("has its name in full", async () => {
    await using directory = await TemporaryDirectory.make();
    const manifests = ["busybox", "team/app:1", "not a name", "docker.io/library/a:1"].map((name) =>
      foreign(name, { [REF_NAME]: name }),
    );
    expect(names(await readBack(directory, manifests))).toEqual([
      "docker.io/library/busybox:latest",
      "docker.io/team/app:1",
      "not a name",
      "docker.io/library/a:1",
    ]);
  });

  it("keeps what else is written in it", async () => {
    await using directory = await TemporaryDirectory.make();
    const manifest = { ...foreign("x", { [REF_NAME]: "a:1", "org.example": "y" }), urls: ["z"] };
    const entries = await readBack(directory, [manifest]);
    expect(await written(directory, entries)).toMatchObject([
      { urls: ["z"], annotations: { [NAME]: "docker.io/library/a:1", "org.example": "y" } },
    ]);
  });

  it("takes the name from ours: for its platform, or, like skopeo's, for all", async () => {
    await using directory = await TemporaryDirectory.make();
    const ours = [
      foreign("amd", { [NAME]: "docker.io/library/a:1" }, amd64),
      foreign("arm", { [NAME]: "docker.io/library/a:1" }, arm64),
    ];
    const [name, former] = ["docker.io/library/a:1", { formerReference: "docker.io/library/a:1" }];
    const theirs = foreign("theirs", { [REF_NAME]: "a:1" });
    expect(await readBack(directory, [...ours, theirs])).toMatchObject([
      { reference: undefined, ...former },
      { reference: undefined, ...former },
      { reference: name },
    ]);
    const forArm = foreign("theirs", { [REF_NAME]: "a:1" }, arm64);
    expect(await readBack(directory, [...ours, forArm])).toMatchObject([
      { reference: name },
      { reference: undefined, ...former },
      { reference: name },
    ]);
  });

  it("is one with ours when it is the same image", async () => {
    await using directory = await TemporaryDirectory.make();
    const manifests = [
      foreign("x", {}),
      foreign("y", {}),
      foreign("x", { [REF_NAME]: "a:1" }),
      foreign("y", {}),
    ];
    expect(names(await readBack(directory, manifests))).toEqual([undefined, "docker.io/library/a:1"]);
  });
});

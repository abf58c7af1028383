import { describe, expect, it } from "vitest";
import { blob, descriptor, json, makeImage, makeIndex, makeManifest } from "./image.test-helper.ts";
import { MAX_MANIFEST_BYTES, parseImageConfig, parseManifest } from "./manifest.ts";
import { OCI_INDEX, OCI_MANIFEST } from "./media-types.ts";

const image = makeImage();
const manifestValue = JSON.parse(image.manifest.bytes.toString("utf8"));
const configValue = JSON.parse(image.config.bytes.toString("utf8"));
const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";

function refusal(value: unknown, mediaType?: string): string {
  const bytes = value instanceof Uint8Array ? value : json(value);
  try {
    parseManifest(bytes, { ...(mediaType === undefined ? {} : { mediaType }), what: "it" });
  } catch (error) {
    expect(error).toMatchObject({ name: "FirectlError", code: "MANIFEST_INVALID" });
    return String(error instanceof Error ? error.message : error);
  }
  return "accepted";
}

describe("parseManifest", () => {
  it.each([
    ["OCI", makeImage().manifest, OCI_MANIFEST],
    ["Docker", makeImage({ docker: true }).manifest, DOCKER_MANIFEST],
  ])("reads a manifest of %s", (_name, manifest, mediaType) => {
    for (const announced of [mediaType, undefined, "application/json"]) {
      const options = { ...(announced === undefined ? {} : { mediaType: announced }), what: "it" };
      expect(parseManifest(manifest.bytes, options)).toMatchObject({ kind: "manifest", mediaType });
    }
  });

  it("reads an index, and one that does not name its type", () => {
    const index = makeIndex([{ manifest: image.manifest, platform: { os: "linux", architecture: "amd64" } }]);
    expect(parseManifest(index.bytes, { mediaType: OCI_INDEX, what: "it" })).toMatchObject({ kind: "index" });
    const { mediaType: _, ...untyped } = JSON.parse(index.bytes.toString("utf8"));
    expect(parseManifest(json(untyped), { what: "it" })).toMatchObject({
      kind: "index",
      mediaType: OCI_INDEX,
    });
  });

  it.each<[string, unknown, RegExp]>([
    ["not JSON", Buffer.from("{"), /not JSON in UTF-8/],
    ["not UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), /not JSON in UTF-8/],
    ["empty", Buffer.alloc(0), /not JSON/],
    ["null", null, /valid/],
    ["an array", [], /valid/],
    ["a number", 1, /valid/],
    ["schema 1", { schemaVersion: 1, fsLayers: [] }, /schema 1/],
    ["schema 3", { ...manifestValue, schemaVersion: 3 }, /schemaVersion/],
    ["a foreign type", { ...manifestValue, mediaType: "text/html" }, /media type text\/html/],
    ["no config", { ...manifestValue, config: undefined }, /config/],
    ["a negative size", { ...manifestValue, config: { ...manifestValue.config, size: -1 } }, /config\.size/],
    ["a broken size", { ...manifestValue, config: { ...manifestValue.config, size: 1.5 } }, /config\.size/],
    [
      "an unsafe size",
      { ...manifestValue, config: { ...manifestValue.config, size: 1e300 } },
      /config\.size/,
    ],
    ["a size in text", { ...manifestValue, config: { ...manifestValue.config, size: "1" } }, /config\.size/],
    ["a huge config", { ...manifestValue, config: { ...manifestValue.config, size: 9e6 } }, /at most/],
    [
      "a path as digest",
      withLayerDigest("sha256:../../../../etc/passwd"),
      /layers\.0\.digest.*not a sha256 digest/,
    ],
    ["another digest", withLayerDigest(`sha512:${"a".repeat(128)}`), /not a sha256 digest/],
    ["upper-case hex", withLayerDigest(`sha256:${"A".repeat(64)}`), /not a sha256 digest/],
    ["a trailing newline", withLayerDigest(`sha256:${"a".repeat(64)}\n`), /not a sha256 digest/],
    ["too many layers", { ...manifestValue, layers: Array(1025).fill(manifestValue.layers[0]) }, /layers/],
    [
      "an encrypted layer",
      withLayerType("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
      /unknown type/,
    ],
    ["a type from the prototype", withLayerType("constructor"), /unknown type constructor/],
    [
      "an artifact",
      {
        ...manifestValue,
        config: { ...manifestValue.config, mediaType: "application/vnd.oci.empty.v1+json" },
      },
      /not a container image but an artifact/,
    ],
    ["deep nesting", Buffer.from(`${"[".repeat(100_000)}${"]".repeat(100_000)}`), /valid/],
  ])("refuses %s", (_name, value, message) => {
    expect(refusal(value)).toMatch(message);
  });

  // https://github.com/advisories/GHSA-77vh-xpmg-72qh
  it("CVE-2021-41190: refuses a document that is index and manifest at once", () => {
    expect(refusal({ ...manifestValue, manifests: [] })).toMatch(/both manifests and layers/);
    expect(refusal(manifestValue, OCI_INDEX)).toMatch(/calls itself/);
  });

  it("reads up to its limit of size and not beyond", () => {
    const fill = (size: number): Buffer => {
      const bare = json({ ...manifestValue, padding: "" });
      return json({ ...manifestValue, padding: "x".repeat(size - bare.length) });
    };
    expect(refusal(fill(MAX_MANIFEST_BYTES))).toBe("accepted");
    expect(refusal(fill(MAX_MANIFEST_BYTES + 1))).toMatch(/at most/);
  });

  it("does not mind what it does not know", () => {
    expect(refusal({ ...manifestValue, subject: null, annotations: { a: 1 }, __proto__: { x: 1 } })).toBe(
      "accepted",
    );
  });
});

describe("parseImageConfig", () => {
  it("fills in what Go leaves out or writes as null", () => {
    const value = {
      ...configValue,
      config: { Env: null, Entrypoint: null, Volumes: null, ExposedPorts: { "80/tcp": {} } },
    };
    const config = parseImageConfig(json(value), { layerCount: 1, what: "it" });
    expect(config.config).toMatchObject({
      Env: [],
      Entrypoint: [],
      Cmd: [],
      Volumes: [],
      ExposedPorts: ["80/tcp"],
    });
    expect(
      parseImageConfig(json({ ...configValue, config: null }), { layerCount: 1, what: "it" }).config,
    ).toBeNull();
  });

  it.each<[string, unknown, RegExp]>([
    [
      "fewer diff_ids than layers",
      { ...configValue, rootfs: { type: "layers", diff_ids: [] } },
      /names 0 layers, its manifest 1/,
    ],
    [
      "a diff_id that is none",
      { ...configValue, rootfs: { type: "layers", diff_ids: ["x"] } },
      /not a sha256 digest/,
    ],
    ["no rootfs", { ...configValue, rootfs: undefined }, /rootfs/],
    ["an Env that is no list", { ...configValue, config: { Env: "A=b" } }, /config\.Env/],
    ["an Env of numbers", { ...configValue, config: { Env: [1] } }, /config\.Env/],
  ])("refuses %s", (_name, value, message) => {
    expect(() => parseImageConfig(json(value), { layerCount: 1, what: "it" })).toThrow(message);
  });
});

function withLayerDigest(digest: string): unknown {
  return { ...manifestValue, layers: [{ ...manifestValue.layers[0], digest }] };
}

function withLayerType(mediaType: string): unknown {
  return JSON.parse(
    makeManifest(image.config, [
      { ...blob(mediaType, Buffer.alloc(1)), ...descriptor(image.config), mediaType },
    ]).bytes.toString(),
  );
}

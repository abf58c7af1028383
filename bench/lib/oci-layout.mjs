import { readFileSync } from "node:fs";
import path from "node:path";

/** The only image of an OCI layout: its manifest, configuration, and layers with the file that holds each. */
export function readLayout(layout) {
  const index = readJson(path.join(layout, "index.json"));
  const manifest = readJson(blobFile(layout, index.manifests[0].digest));
  if (manifest.layers === undefined) throw new Error(`${layout} holds an index in its index`);
  const config = readJson(blobFile(layout, manifest.config.digest));
  const layers = manifest.layers.map((layer, number) => ({
    ...layer,
    file: blobFile(layout, layer.digest),
    diffId: config.rootfs.diff_ids[number],
  }));
  return { name: path.basename(layout), manifest, config, layers };
}

function blobFile(layout, digest) {
  return path.join(layout, "blobs", ...digest.split(":"));
}

function readJson(file) {
  return JSON.parse(readFileSync(file, "utf8"));
}

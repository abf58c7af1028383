import { createHash, randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import type { Digest } from "../core/brands.ts";
import { findExecutable } from "../host/files.ts";
import type { Images } from "./images.ts";
import { sha256 } from "./store/content-store.ts";

/** A directory that goes away with its scope. */
export class TemporaryDirectory implements AsyncDisposable {
  readonly path: string;

  private constructor(directory: string) {
    this.path = directory;
  }

  static async make(): Promise<TemporaryDirectory> {
    return new TemporaryDirectory(await mkdtemp(path.join(tmpdir(), "firectl-image-")));
  }

  join(...parts: readonly string[]): string {
    return path.join(this.path, ...parts);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

export async function hasTool(name: string): Promise<boolean> {
  return (await findExecutable(name, process.env["PATH"] ?? "")) !== undefined;
}

export interface TarEntry {
  readonly name: string;
  readonly content?: Uint8Array;
  readonly type?: string;
  readonly linkName?: string;
}

/** A ustar archive. */
export function tar(entries: readonly TarEntry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? new Uint8Array(0));
    return [tarHeader(entry, content.length), content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

export function tarHeader(entry: TarEntry, size: number): Buffer {
  const header = Buffer.alloc(512);
  header.write(entry.name, 0, 100, "latin1");
  header.write("0000755\0" + "0000000\0" + "0000000\0", 100, "latin1");
  header.write(`${size.toString(8).padStart(11, "0")}\0`, 124, "latin1");
  header.write("00000000000\0        ", 136, "latin1");
  header.write(entry.type ?? "0", 156, "latin1");
  header.write(entry.linkName ?? "", 157, 100, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

export interface Blob {
  readonly mediaType: string;
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly size: number;
}

export function blob(mediaType: string, bytes: Uint8Array): Blob {
  return { mediaType, bytes: Buffer.from(bytes), digest: sha256(bytes), size: bytes.byteLength };
}

export function descriptor({ mediaType, digest, size }: Blob): {
  mediaType: string;
  digest: Digest;
  size: number;
} {
  return { mediaType, digest, size };
}

export interface TestImage {
  readonly manifest: Blob;
  readonly config: Blob;
  readonly layers: readonly Blob[];
  /** Uncompressed. */
  readonly tars: readonly Buffer[];
}

export interface TestImageOptions {
  readonly layers?: readonly { bytes: Buffer; tar: Buffer; mediaType: string }[];
  readonly architecture?: string;
  readonly os?: string;
  readonly config?: Readonly<Record<string, unknown>>;
  /** Docker's media types instead of OCI's. */
  readonly docker?: boolean;
}

const OCI = "application/vnd.oci.image";
const DOCKER = "application/vnd.docker";

/** An image with the given layers, or with a small gzip layer of its own. */
export function makeImage(options: TestImageOptions = {}): TestImage {
  const layers = options.layers ?? [gzipLayer(tar([{ name: "hello", content: randomBytes(40) }]))];
  const blobs = layers.map((layer) => blob(layer.mediaType, layer.bytes));
  const config = blob(
    options.docker === true ? `${DOCKER}.container.image.v1+json` : `${OCI}.config.v1+json`,
    json({
      created: "2026-01-02T03:04:05Z",
      os: options.os ?? "linux",
      architecture: options.architecture ?? hostArchitecture(),
      config: { Cmd: ["/bin/true"], Env: ["A=b"], ...options.config },
      rootfs: { type: "layers", diff_ids: layers.map((layer) => sha256(layer.tar)) },
    }),
  );
  const manifest = makeManifest(config, blobs, options.docker);
  return { manifest, config, layers: blobs, tars: layers.map((layer) => layer.tar) };
}

export function makeManifest(config: Blob, layers: readonly Blob[], docker = false): Blob {
  const mediaType = docker ? `${DOCKER}.distribution.manifest.v2+json` : `${OCI}.manifest.v1+json`;
  const value = {
    schemaVersion: 2,
    mediaType,
    config: descriptor(config),
    layers: layers.map(descriptor),
  };
  return blob(mediaType, json(value));
}

export function makeIndex(
  manifests: readonly { manifest: Blob; platform?: object; annotations?: object }[],
): Blob {
  const value = {
    schemaVersion: 2,
    mediaType: `${OCI}.index.v1+json`,
    manifests: manifests.map(({ manifest, ...rest }) => ({ ...descriptor(manifest), ...rest })),
  };
  return blob(`${OCI}.index.v1+json`, json(value));
}

export function gzipLayer(bytes: Buffer): { bytes: Buffer; tar: Buffer; mediaType: string } {
  return { bytes: gzipSync(bytes, { level: 1 }), tar: bytes, mediaType: `${OCI}.layer.v1.tar+gzip` };
}

export function plainLayer(bytes: Buffer): { bytes: Buffer; tar: Buffer; mediaType: string } {
  return { bytes, tar: bytes, mediaType: `${OCI}.layer.v1.tar` };
}

export function hostArchitecture(): string {
  return process.arch === "x64" ? "amd64" : process.arch;
}

export function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value), "utf8");
}

/** Bytes that do not compress, the same for the same seed. */
export function noise(size: number, seed: string): Buffer {
  const parts: Buffer[] = [];
  for (let length = 0, count = 0; length < size; length += 64, count++) {
    parts.push(createHash("sha512").update(`${seed}${count}`).digest());
  }
  return Buffer.concat(parts).subarray(0, size);
}

/** Writes an OCI image layout that names the images. */
export async function writeLayout(
  directory: string,
  images: readonly { image: TestImage; tag?: string; platform?: object }[],
): Promise<void> {
  await mkdir(path.join(directory, "blobs/sha256"), { recursive: true });
  await writeFile(path.join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  for (const { image } of images) {
    for (const part of [image.manifest, image.config, ...image.layers]) {
      await writeFile(path.join(directory, "blobs/sha256", part.digest.slice("sha256:".length)), part.bytes);
    }
  }
  const manifests = images.map(({ image, tag, platform }) => ({
    ...descriptor(image.manifest),
    ...(platform === undefined ? {} : { platform }),
    ...(tag === undefined ? {} : { annotations: { "org.opencontainers.image.ref.name": tag } }),
  }));
  await writeFile(path.join(directory, "index.json"), json({ schemaVersion: 2, manifests }));
}

/** All of a stream. */
export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

export async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.byteLength; start += size) yield bytes.subarray(start, start + size);
}

/** Removes all that a reference names, and the blobs that nothing else uses. */
export async function removeAll(images: Images, reference: string): Promise<void> {
  const { items } = await images.select(reference);
  await images.forget({ digests: new Set(items.map(({ entry }) => entry.digest)) });
  await images.collectGarbage({ timeoutMs: 50 });
}

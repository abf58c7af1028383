/*
 * Fresh variants of an image: each layer differs in its bytes, compressed or not, and so in its digests, while
 * everything else is alike. So a pull never finds anything cached, and nothing need be deleted between rounds.
 *
 * A layer's variant has one more entry, a small file, before its first one. It costs no compressing, since a
 * deflate stream may be put behind another one that was flushed to a whole byte (RFC 1951):
 *
 *   gzip header | deflate of the new entry, not its last block | the layer's own deflate stream | CRC-32, length
 *
 * This is one member, as every registry and tool has it, and the blocks are those of the layer's own compressor.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import zlib from "node:zlib";
import { combinedCrc32, crc32 } from "./crc32.mjs";
import { END_OF_ARCHIVE, fileEntry } from "./tar.mjs";

const TRAILER_BYTES = 8;
/** RFC 1952: magic, deflate, no flags, no time, no extra flags, unknown system. */
const GZIP_HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
const CHUNK = 2 ** 20;

/**
 * A variant of the image that readLayout() has read: `{ manifest, config, blobs }`, the first two as bytes, each
 * blob with its `digest`, `size` and `chunks()`. Takes as long as inflating and hashing the layers.
 */
export async function freshVariant(image) {
  const layers = await Promise.all(image.layers.map(variantOfLayer));
  const rootfs = { ...image.config.rootfs, diff_ids: layers.map(({ diffId }) => diffId) };
  const config = textBlob(JSON.stringify({ ...image.config, rootfs }));
  const manifest = textBlob(
    JSON.stringify({
      ...image.manifest,
      config: { ...image.manifest.config, digest: config.digest, size: config.size },
      layers: layers.map(({ digest, size }, index) => ({ ...image.manifest.layers[index], digest, size })),
    }),
  );
  return { manifest, blobs: [config, ...layers], layers };
}

/** A blob of this text. */
function textBlob(text) {
  const bytes = Buffer.from(text);
  return { bytes, digest: digestOf(bytes), size: bytes.length, chunks: () => [bytes] };
}

async function variantOfLayer({ file, mediaType }) {
  if (!mediaType.endsWith("gzip")) throw new Error(`${file} is of ${mediaType}, not gzip`);
  const entry = fileEntry(`.firectl-bench-${randomBytes(8).toString("hex")}`, randomBytes(64));
  const own = await ownStream(file);
  const head = Buffer.concat([GZIP_HEADER, flushedDeflate(entry)]);
  const tail = Buffer.alloc(TRAILER_BYTES);
  tail.writeUInt32LE(combinedCrc32(crc32(entry), own.crc, own.rawBytes));
  tail.writeUInt32LE((entry.length + own.rawBytes) % 2 ** 32, 4);
  const chunks = async function* () {
    yield head;
    yield* createReadStream(file, { start: own.start, end: own.end - 1, highWaterMark: CHUNK });
    yield tail;
  };
  const [digest, diffId] = await Promise.all([
    hashed(chunks()),
    // Inflated from the variant itself, so that it is known to be sound.
    pipeline(chunks, zlib.createGunzip({ chunkSize: CHUNK }), hashed),
  ]);
  return { digest, diffId, size: head.length + own.end - own.start + tail.length, chunks };
}

/** Where the deflate stream of a gzip file of one member is, and what its trailer says. */
async function ownStream(file) {
  const { size } = statSync(file);
  const handle = await open(file);
  try {
    const { buffer: head } = await handle.read(Buffer.alloc(CHUNK), 0, CHUNK, 0);
    const end = size - TRAILER_BYTES;
    const { buffer: trailer } = await handle.read(Buffer.alloc(TRAILER_BYTES), 0, TRAILER_BYTES, end);
    return {
      start: headerLength(head),
      end,
      crc: trailer.readUInt32LE(0),
      rawBytes: trailer.readUInt32LE(4),
    };
  } finally {
    await handle.close();
  }
}

/** RFC 1952, 2.3. */
function headerLength(bytes) {
  const flags = bytes[3];
  let length = 10;
  if (flags & 4) length += 2 + bytes.readUInt16LE(length);
  for (const flag of [8, 16]) if (flags & flag) length = bytes.indexOf(0, length) + 1;
  return flags & 2 ? length + 2 : length;
}

/** Flushed to a whole byte and without a last block: another stream may follow. */
function flushedDeflate(bytes) {
  return zlib.deflateRawSync(bytes, { finishFlush: zlib.constants.Z_SYNC_FLUSH });
}

async function hashed(chunks) {
  const hash = createHash("sha256");
  for await (const chunk of chunks) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}

function digestOf(bytes) {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** An image of one small file, to warm everything up with. */
export async function tinyImage() {
  const tar = Buffer.concat([fileEntry("tiny", randomBytes(64)), END_OF_ARCHIVE]);
  const bytes = zlib.gzipSync(tar);
  const layer = { bytes, digest: digestOf(bytes), size: bytes.length, chunks: () => [bytes] };
  const architecture = { x64: "amd64" }[process.arch] ?? process.arch;
  const config = textBlob(
    JSON.stringify({
      architecture,
      os: "linux",
      config: { Cmd: ["/tiny"] },
      rootfs: { type: "layers", diff_ids: [digestOf(tar)] },
    }),
  );
  const manifest = textBlob(
    JSON.stringify({
      schemaVersion: 2,
      config: {
        mediaType: "application/vnd.oci.image.config.v1+json",
        digest: config.digest,
        size: config.size,
      },
      layers: [
        {
          mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
          digest: layer.digest,
          size: layer.size,
        },
      ],
    }),
  );
  return { manifest, blobs: [config, layer], layers: [layer] };
}

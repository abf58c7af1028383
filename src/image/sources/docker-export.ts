import { FirectlError } from "../../core/errors.ts";

/**
 * The tar that `docker export` writes, without what Docker itself put into the container. On creating one it
 * makes empty files to mount its own over: `/.dockerenv`, `/dev/console`, `/etc/hosts`, `/etc/hostname` and
 * `/etc/resolv.conf`, removing the image's own files of these names first; so whatever the image had there is
 * lost in any case, and empty files would only be in the way. The directories and the link `/etc/mtab` that it
 * makes are kept: a container of Docker's shows them too.
 * https://github.com/moby/moby/blob/master/daemon/initlayer/setup_unix.go
 */
const INJECTED_FILES = new Set([".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf"]);

const BLOCK = 512;
/** Extended headers hold a path and some attributes; Linux bounds these to 64 KiB each. */
const MAX_EXTENSION_BYTES = 4 * 1024 * 1024;

/** https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06 */
const TYPE = {
  regular: "0",
  oldRegular: "\0",
  pax: "x",
  paxGlobal: "g",
  gnuName: "L",
  gnuLink: "K",
} as const;

/**
 * Passes a tar on, leaving out the files that Docker injects.
 * @throws FirectlError DOCKER_FAILED when it is not a tar or ends early.
 */
export async function* withoutInjectedFiles(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const input = new ByteReader(chunks);
  let extension: EntryExtension = {};
  let held: Uint8Array[] = [];
  for (;;) {
    const header = await input.take(BLOCK);
    if (header.every((byte) => byte === 0)) {
      yield header;
      yield* input.rest();
      return;
    }
    verifyChecksum(header);
    const type = String.fromCharCode(header[156] ?? 0);
    const size = readNumber(header.subarray(124, 136));
    if (type === TYPE.pax || type === TYPE.gnuName || type === TYPE.gnuLink || type === TYPE.paxGlobal) {
      if (size > MAX_EXTENSION_BYTES) throw notATar(`an extended header has ${size} bytes`);
      const body = await input.take(padded(size));
      held.push(header, body);
      extension = { ...extension, ...readExtension(type, body.subarray(0, size)) };
      continue;
    }
    const isRegular = type === TYPE.regular || type === TYPE.oldRegular;
    const dataSize = (isRegular ? extension.size : undefined) ?? size;
    const name = (extension.path ?? readName(header)).replace(/^(?:\.?\/)+/, "");
    if (isRegular && dataSize === 0 && INJECTED_FILES.has(name)) {
      // An empty file has no data to skip.
    } else {
      yield* held;
      yield header;
      yield* input.pass(padded(dataSize));
    }
    held = [];
    extension = {};
  }
}

interface EntryExtension {
  readonly path?: string;
  readonly size?: number;
}

function readExtension(type: string, body: Uint8Array): EntryExtension {
  if (type === TYPE.gnuName) return { path: readText(body) };
  if (type !== TYPE.pax) return {};
  const found: { path?: string; size?: number } = {};
  const text = Buffer.from(body).toString("latin1");
  for (let start = 0; start < text.length; ) {
    const space = text.indexOf(" ", start);
    const length = Number(text.slice(start, space));
    if (space === -1 || !Number.isSafeInteger(length) || length < 5)
      throw notATar("a PAX record has no length");
    const record = text.slice(space + 1, start + length - 1);
    const equals = record.indexOf("=");
    if (record.slice(0, equals) === "path") found.path = record.slice(equals + 1);
    if (record.slice(0, equals) === "size") found.size = Number(record.slice(equals + 1));
    start += length;
  }
  if (found.size !== undefined && !(Number.isSafeInteger(found.size) && found.size >= 0)) {
    throw notATar("a PAX size is not a number");
  }
  return found;
}

function readName(header: Uint8Array): string {
  const name = readText(header.subarray(0, 100));
  const isUstar = readText(header.subarray(257, 262)) === "ustar" && header[262] === 0;
  const prefix = isUstar ? readText(header.subarray(345, 500)) : "";
  return prefix === "" ? name : `${prefix}/${name}`;
}

function readText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end === -1 ? bytes : bytes.subarray(0, end)).toString("latin1");
}

/** Octal digits, or base 256 with the first bit set. */
function readNumber(field: Uint8Array): number {
  if (((field[0] ?? 0) & 0x80) !== 0) {
    const value = field.reduce((sum, byte, index) => sum * 256 + (index === 0 ? byte & 0x7f : byte), 0);
    if (!Number.isSafeInteger(value)) throw notATar("a size is out of range");
    return value;
  }
  const text = readText(field).trim();
  if (!/^[0-7]*$/.test(text)) throw notATar("a number is not octal");
  return text === "" ? 0 : Number.parseInt(text, 8);
}

function verifyChecksum(header: Uint8Array): void {
  let sum = 0;
  for (const [index, byte] of header.entries()) sum += index >= 148 && index < 156 ? 0x20 : byte;
  if (sum !== readNumber(header.subarray(148, 156))) throw notATar("a header's checksum is wrong");
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

function notATar(why: string): FirectlError {
  return new FirectlError("DOCKER_FAILED", `docker export did not write a tar archive: ${why}`);
}

/** Reads exact numbers of bytes from chunks of any size. */
class ByteReader {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#iterator = chunks[Symbol.asyncIterator]();
  }

  /** Exactly `size` bytes in one piece. */
  async take(size: number): Promise<Uint8Array> {
    if (size === 0) return new Uint8Array(0);
    if (this.#chunk.byteLength >= size) return this.#cut(size);
    const parts: Uint8Array[] = [];
    for await (const part of this.pass(size)) parts.push(part);
    return Buffer.concat(parts);
  }

  /** Exactly `size` bytes in the pieces in which they come. */
  async *pass(size: number): AsyncGenerator<Uint8Array> {
    let missing = size;
    while (missing > 0) {
      if (this.#chunk.byteLength === 0 && !(await this.#next())) throw notATar("it ends early");
      const part = this.#cut(Math.min(missing, this.#chunk.byteLength));
      missing -= part.byteLength;
      yield part;
    }
  }

  /** All that is left. */
  async *rest(): AsyncGenerator<Uint8Array> {
    do {
      yield this.#cut(this.#chunk.byteLength);
    } while (await this.#next());
  }

  #cut(size: number): Uint8Array {
    const part = this.#chunk.subarray(0, size);
    this.#chunk = this.#chunk.subarray(size);
    return part;
  }

  async #next(): Promise<boolean> {
    const result = await this.#iterator.next();
    if (result.done === true) return false;
    this.#chunk = result.value;
    return true;
  }
}

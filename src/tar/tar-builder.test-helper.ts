/** An entry of a tar that a test makes; what is left out is what a plain file has. */
export interface TestEntry {
  readonly name: string;
  /** Type flag; "0" unless given. */
  readonly type?: string;
  readonly data?: string | Buffer;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly link?: string;
  readonly dev?: readonly [major: number, minor: number];
  /** PAX records put before the entry. */
  readonly pax?: ReadonlyArray<readonly [key: string, value: string | Buffer]>;
  /** The size that the header claims, when it is not that of the data. */
  readonly size?: number;
  readonly magic?: "ustar" | "gnu" | "v7";
  /** Bytes put over the header before its checksum is made. */
  readonly patch?: ReadonlyArray<readonly [offset: number, bytes: Buffer]>;
}

/** A directory's entry. */
export function dir(name: string, rest: Partial<TestEntry> = {}): TestEntry {
  return { name, type: "5", mode: 0o755, ...rest };
}

/** A file's entry. */
export function file(name: string, data: string | Buffer = name, rest: Partial<TestEntry> = {}): TestEntry {
  return { name, data, ...rest };
}

/** A symlink's entry. */
export function symlink(name: string, link: string, rest: Partial<TestEntry> = {}): TestEntry {
  return { name, link, type: "2", mode: 0o777, ...rest };
}

/** A hard link's entry. */
export function hardLink(name: string, link: string): TestEntry {
  return { name, link, type: "1" };
}

/** The archive of `entries`, with its two blocks of zeros. */
export function tarOf(entries: readonly TestEntry[]): Buffer {
  return Buffer.concat([...entries.map(encodeEntry), Buffer.alloc(1024)]);
}

/** One entry, PAX header and padding included. */
export function encodeEntry(entry: TestEntry): Buffer {
  const data = Buffer.from(entry.data ?? "");
  const parts: Buffer[] = [];
  if (entry.pax !== undefined) {
    const records = Buffer.concat(entry.pax.map(([key, value]) => paxRecord(key, value)));
    parts.push(encodeHeader({ name: "PaxHeader", type: "x", data: records }), padded(records));
  }
  parts.push(encodeHeader(entry), padded(data));
  return Buffer.concat(parts);
}

/** `<length> <key>=<value>\n`, the length counting itself. */
export function paxRecord(key: string, value: string | Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(` ${key}=`, "latin1"), Buffer.from(value), Buffer.from("\n")]);
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export function encodeHeader(entry: TestEntry): Buffer {
  const header = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number) => {
    const digits = value.toString(8);
    if (value >= 0 && digits.length < length) header.write(digits.padStart(length - 1, "0"), at);
    else base256(value, length).copy(header, at);
  };
  header.write(entry.name, 0, 100, "latin1");
  octal(entry.mode ?? 0o644, 100, 8);
  octal(entry.uid ?? 0, 108, 8);
  octal(entry.gid ?? 0, 116, 8);
  octal(entry.size ?? Buffer.from(entry.data ?? "").length, 124, 12);
  octal(entry.mtime ?? 1_700_000_000, 136, 12);
  header.write(entry.type ?? "0", 156, 1, "latin1");
  header.write(entry.link ?? "", 157, 100, "latin1");
  if (entry.magic !== "v7") {
    header.write(entry.magic === "gnu" ? "ustar  \0" : "ustar\x0000", 257, "latin1");
    octal(entry.dev?.[0] ?? 0, 329, 8);
    octal(entry.dev?.[1] ?? 0, 337, 8);
  }
  for (const [offset, bytes] of entry.patch ?? []) bytes.copy(header, offset);
  header.write(" ".repeat(8), 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

/** A number in GNU's base-256 form. */
export function base256(value: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let rest = BigInt(value);
  for (let i = length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  bytes[0] = (bytes[0] ?? 0) | 0x80;
  return bytes;
}

/** Makes the checksums of damaged headers right again, without which no reader would look any further. */
export function withChecksums(bytes: Buffer): Buffer {
  for (let at = 0; at + 512 <= bytes.length; at += 512) {
    const looksLikeHeader = /^[0-7]{6}\0 $/.test(bytes.toString("latin1", at + 148, at + 156));
    if (!looksLikeHeader) continue;
    let sum = 8 * 0x20;
    for (let i = 0; i < 512; i++) if (i < 148 || i >= 156) sum += bytes[at + i] ?? 0;
    bytes.write(`${sum.toString(8).padStart(6, "0")}\0 `, at + 148, "latin1");
  }
  return bytes;
}

/**
 * The "new ASCII" cpio format, which the kernel unpacks as its initramfs: for each entry a header of 110
 * characters (magic "070701" and thirteen numbers of eight hexadecimal digits), the name with a closing zero,
 * the data; name and data are each padded to four bytes. The entry "TRAILER!!!" ends the archive.
 * https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
 */
export type CpioEntry =
  | { readonly kind: "file"; readonly name: string; readonly mode: number; readonly contents: Buffer }
  | { readonly kind: "directory"; readonly name: string; readonly mode: number }
  | {
      readonly kind: "character device";
      readonly name: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const TYPE_BITS = { file: 0o100000, directory: 0o040000, "character device": 0o020000 } as const;

/**
 * Packs `entries`, parents before children, into an archive whose bytes depend on nothing else: all times are
 * zero, all owners root. Names are relative, without a leading slash.
 */
export function packCpio(entries: readonly CpioEntry[]): Buffer {
  const pieces = entries.flatMap((entry, index) =>
    packEntry(entry.name, {
      inode: index + 1,
      mode: TYPE_BITS[entry.kind] | entry.mode,
      links: entry.kind === "directory" ? 2 : 1,
      contents: entry.kind === "file" ? entry.contents : Buffer.alloc(0),
      device: entry.kind === "character device" ? [entry.major, entry.minor] : [0, 0],
    }),
  );
  const trailer = packEntry("TRAILER!!!", {
    inode: 0,
    mode: 0,
    links: 1,
    contents: Buffer.alloc(0),
    device: [0, 0],
  });
  return Buffer.concat([...pieces, ...trailer]);
}

interface EntryFields {
  readonly inode: number;
  readonly mode: number;
  readonly links: number;
  readonly contents: Buffer;
  readonly device: readonly [number, number];
}

function packEntry(name: string, fields: EntryFields): Buffer[] {
  const nameBytes = Buffer.from(`${name}\0`, "utf8");
  const numbers = [
    fields.inode,
    fields.mode,
    0, // uid
    0, // gid
    fields.links,
    0, // mtime
    fields.contents.length,
    0, // device of the file itself, major
    0, // and minor
    ...fields.device,
    nameBytes.length,
    0, // checksum, of the "crc" format only
  ];
  const header = `070701${numbers.map((number) => number.toString(16).padStart(8, "0")).join("")}`;
  return [padded(Buffer.concat([Buffer.from(header, "latin1"), nameBytes])), padded(fields.contents)];
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % 4;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - rest)]);
}

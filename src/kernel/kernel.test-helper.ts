import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

/** The smallest bytes that are taken for a bzImage of `release`. */
export function fakeBzImage(release: string, payload: Buffer = Buffer.alloc(64)): Buffer {
  const bytes = Buffer.alloc(0x400 + payload.length);
  bytes.writeUInt8(1, 0x1f1);
  bytes.writeUInt16LE(0xaa55, 0x1fe);
  bytes.write("HdrS", 0x202, "latin1");
  bytes.writeUInt16LE(0x020f, 0x206);
  bytes.writeUInt16LE(0x100, 0x20e);
  bytes.write(`${release} (someone@somewhere) #1`, 0x300, "latin1");
  bytes.writeUInt32LE(0, 0x248);
  bytes.writeUInt32LE(payload.length, 0x24c);
  payload.copy(bytes, 0x400);
  return bytes;
}

/** The smallest ELF file that is taken for an x86 kernel of `release`. */
export function fakeVmlinux(release: string): Buffer {
  const bytes = Buffer.alloc(0x800);
  bytes.write("\x7fELF", 0, "latin1");
  bytes.writeUInt16LE(62, 18);
  bytes.write(`Linux version ${release} (gcc) #1`, 0x400, "latin1");
  return bytes;
}

/** An ELF file with a section .modinfo: as much of a module as the host looks at. */
export function fakeModule(info: Readonly<Record<string, string>>): Buffer {
  const modinfo = Buffer.from(
    Object.entries(info)
      .map(([key, value]) => `${key}=${value}\0`)
      .join(""),
    "latin1",
  );
  const names = Buffer.from("\0.shstrtab\0.modinfo\0", "latin1");
  const table = 64 + names.length + modinfo.length;
  const bytes = Buffer.alloc(table + 3 * 64);
  bytes.write("\x7fELF", 0, "latin1");
  bytes.writeBigUInt64LE(BigInt(table), 0x28);
  bytes.writeUInt16LE(3, 0x3c);
  bytes.writeUInt16LE(1, 0x3e);
  names.copy(bytes, 64);
  modinfo.copy(bytes, 64 + names.length);
  const section = (index: number, name: number, start: number, length: number): void => {
    bytes.writeUInt32LE(name, table + index * 64);
    bytes.writeBigUInt64LE(BigInt(start), table + index * 64 + 24);
    bytes.writeBigUInt64LE(BigInt(length), table + index * 64 + 32);
  };
  section(1, 1, 64, names.length);
  section(2, 11, 64 + names.length, modinfo.length);
  return bytes;
}

/** Writes a tree like /lib/modules/<release>: files by relative path, and the names that are built in. */
export function writeModuleTree(
  directory: string,
  tree: { files: Readonly<Record<string, Buffer>>; builtin: readonly string[] },
): void {
  for (const [name, contents] of Object.entries(tree.files)) {
    mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    writeFileSync(path.join(directory, name), contents);
  }
  mkdirSync(directory, { recursive: true });
  writeFileSync(
    path.join(directory, "modules.builtin"),
    tree.builtin.map((name) => `kernel/x/${name}.ko\n`).join(""),
  );
}

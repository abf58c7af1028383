/* The few bytes of tar that the measurements make themselves (POSIX ustar). */

const BLOCK = 512;
/** Two blocks of zeros end an archive. */
export const END_OF_ARCHIVE = Buffer.alloc(2 * BLOCK);

/** A regular file's header, followed by `size` bytes that padding() fills up. Any size below 8 GiB, or 64 bits. */
export function fileHeader(name, size) {
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, 100, "utf8");
  header.write("0000755\0" + "0000000\0" + "0000000\0", 100, "latin1");
  writeSize(header, size);
  header.write("14400000000\0", 136, "latin1");
  header.write("        0", 148, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

/** A whole small file. */
export function fileEntry(name, contents) {
  return Buffer.concat([fileHeader(name, contents.length), contents, padding(contents.length)]);
}

export function padding(size) {
  return Buffer.alloc((BLOCK - (size % BLOCK)) % BLOCK);
}

/** Octal; beyond 8 GiB GNU's binary form. */
function writeSize(header, size) {
  if (size < 8 ** 11) {
    header.write(`${size.toString(8).padStart(11, "0")}\0`, 124, "latin1");
  } else {
    header[124] = 0x80;
    header.writeBigUInt64BE(BigInt(size), 128);
  }
}

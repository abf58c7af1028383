/** crc16 of the kernel's lib/crc16.c (polynomial 0x8005, reflected), which group descriptors carry. */
export function crc16(seed: number, bytes: Uint8Array): number {
  let crc = seed;
  for (const byte of bytes) crc = (crc >>> 8) ^ (TABLE[(crc ^ byte) & 0xff] ?? 0);
  return crc;
}

const TABLE: Uint16Array = Uint16Array.from({ length: 256 }, (_, index) => {
  let crc = index;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * 0xa001);
  return crc;
});

/** bg_checksum: over the filesystem's UUID, the group's number and the descriptor up to the checksum itself. */
export function descriptorChecksum(uuid: Uint8Array, group: number, descriptor: Uint8Array): number {
  const number = Buffer.alloc(4);
  number.writeUInt32LE(group);
  return crc16(crc16(crc16(0xffff, uuid), number), descriptor);
}

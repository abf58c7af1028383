import { test } from "vitest";
import { crc16 } from "./checksum.ts";

// CRC-16/MODBUS is the same polynomial with the same start value; its check value is published.
test("crc16 of the check string", ({ expect }) => {
  expect(crc16(0xffff, Buffer.from("123456789"))).toBe(0x4b37);
});

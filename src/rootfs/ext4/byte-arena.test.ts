import fc from "fast-check";
import { describe, test } from "vitest";
import { ByteArena } from "./byte-arena.ts";
import { RecordTable } from "./record-table.ts";

describe("ByteArena", () => {
  test("gives back what it was given, pieces as large as a page and larger among them", ({ expect }) => {
    const length = fc.oneof(fc.nat(300), fc.constantFrom(0, 65_535, 65_536, 65_537, 200_000));
    fc.assert(
      fc.property(fc.array(length, { maxLength: 60 }), (lengths) => {
        const arena = new ByteArena();
        const pieces = lengths.map((each, i) => Buffer.alloc(each, `${i}-`).toString("latin1"));
        const addresses = pieces.map((piece, i) =>
          i % 2 === 0 ? arena.addText(piece) : arena.add(Buffer.from(piece, "latin1")),
        );
        pieces.forEach((piece, i) => {
          const address = addresses[i] ?? 0;
          expect(arena.text(address, piece.length) === piece).toBe(true);
          expect(arena.equals(address, piece)).toBe(true);
          const target = Buffer.alloc(piece.length + 2);
          arena.copy(address, piece.length, { target, at: 1 });
          expect(target.toString("latin1") === `\0${piece}\0`).toBe(true);
        });
      }),
      { numRuns: 30 },
    );
  });

  test("tells pieces that differ in one byte apart", ({ expect }) => {
    const arena = new ByteArena();
    expect(arena.equals(arena.addText("name\xff"), "name\xfe")).toBe(false);
  });
});

describe("RecordTable", () => {
  test("records are zero until set, on both sides of a page's end", ({ expect }) => {
    const table = new RecordTable(3);
    for (let i = 1; i <= 9000; i++) {
      const record = table.add();
      expect(record).toBe(i);
      expect([0, 1, 2].map((word) => table.get(record, word))).toEqual([0, 0, 0]);
      table.set(record, 1, 2 ** 32 - i);
      table.set(record, 2, -1);
    }
    expect(table.count).toBe(9000);
    for (const record of [1, 4094, 4095, 4096, 4097, 8191, 8192, 9000]) {
      expect([0, 1, 2].map((word) => table.get(record, word))).toEqual([0, 2 ** 32 - record, 2 ** 32 - 1]);
    }
  });
});

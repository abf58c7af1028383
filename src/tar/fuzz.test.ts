import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import { type Mutation, mutate, mutations } from "../core/mutations.test-helper.ts";
import { propertyRuns } from "../core/property-runs.test-helper.ts";
import { BLOCK } from "./header.ts";
import { TarReader } from "./reader.ts";
import { base256, dir, file, hardLink, symlink, tarOf, withChecksums } from "./tar-builder.test-helper.ts";
import { writeTar } from "./writer.ts";

/** Archives with everything in them that the reader knows. */
const SAMPLES: readonly Buffer[] = [
  tarOf([
    dir("dir/"),
    file("dir/file", "x".repeat(3000), {
      pax: [
        ["path", `dir/${"long/".repeat(40)}name`],
        ["mtime", "1700000000.123"],
        ["SCHILY.xattr.user.a", Buffer.from([0, 255])],
        ["LIBARCHIVE.xattr.user.b", "AAH/"],
      ],
    }),
    symlink("link", "dir/file"),
    hardLink("hard", "dir/file"),
    { name: "device", type: "3", dev: [1, 3] },
    { name: "", type: "g", data: "12 uid=1000\n" },
    file("after-global", "y"),
  ]),
  tarOf([
    { name: "././@LongLink", type: "L", magic: "gnu", data: `${"n".repeat(200)}\0` },
    { name: "././@LongLink", type: "K", magic: "gnu", data: `${"l".repeat(200)}\0` },
    symlink("cut", "cut", { magic: "gnu" }),
    {
      name: "sparse",
      type: "S",
      magic: "gnu",
      data: "0123456789",
      patch: [
        [386, Buffer.concat([base256(4096, 12), base256(10, 12), Buffer.alloc(24 * 3), Buffer.from([0])])],
        [483, base256(10_000, 12)],
      ],
    },
    file("v7", "old", { magic: "v7", type: "\0" }),
    file("sparse-1.0", `1\n4096\n10\n${"\0".repeat(512 - 10)}0123456789`, {
      pax: [
        ["GNU.sparse.major", "1"],
        ["GNU.sparse.minor", "0"],
        ["GNU.sparse.name", "real"],
        ["GNU.sparse.realsize", "10000"],
      ],
    }),
    file("sparse-0.1", "0123456789", {
      pax: [
        ["GNU.sparse.map", "4096,10"],
        ["GNU.sparse.size", "10000"],
      ],
    }),
  ]),
];

/** Reads to the end or to the reader's error, and counts what it says. */
function read(bytes: Buffer, chunk: number): { entries: number; data: number; error: unknown } {
  const seen = { entries: 0, data: 0, error: undefined as unknown };
  const reader = new TarReader("fuzz", {
    entry(entry) {
      seen.entries++;
      expect(Number.isSafeInteger(entry.size) && entry.size >= 0).toBe(true);
      expect(entry.path).not.toContain("\0");
      return seen.entries % 2 === 0;
    },
    data(piece) {
      seen.data += piece.length;
    },
    end() {},
  });
  try {
    for (let at = 0; at < bytes.length; at += chunk) reader.push(bytes.subarray(at, at + chunk));
    reader.finish();
  } catch (error) {
    seen.error = error;
  }
  return seen;
}

function checkRead(bytes: Buffer, chunk: number): void {
  const { entries, data, error } = read(bytes, chunk);
  if (error !== undefined && !(error instanceof FirectlError && error.code === "LAYER_INVALID")) throw error;
  expect(entries).toBeLessThanOrEqual(bytes.length / BLOCK);
  expect(data).toBeLessThanOrEqual(bytes.length);
}

describe("a damaged archive is read or refused", () => {
  test("and nothing else", () => {
    const sample = fc.constantFrom(...SAMPLES.keys());
    const check = (index: number, changes: Mutation[], chunk: number, repair: boolean) => {
      const damaged = mutate(SAMPLES[index] ?? Buffer.alloc(0), changes);
      checkRead(repair ? withChecksums(damaged) : damaged, chunk);
    };
    const chunk = fc.constantFrom(37, 512, 1000, 1 << 20);
    const repair = fc.integer({ min: 0, max: 3 }).map((value) => value > 0);
    fc.assert(fc.property(sample, mutations, chunk, repair, check), propertyRuns(1200));
  });

  test("also when it is nothing but noise", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4000 }), (bytes) => checkRead(Buffer.from(bytes), 700)),
      propertyRuns(300),
    );
  });

  test("the samples themselves are sound", async () => {
    for (const sample of SAMPLES) {
      expect(read(sample, 777).error).toBeUndefined();
      expect(read(withChecksums(Buffer.from(sample)), 777).error).toBeUndefined();
    }
    const empty: Uint8Array[] = [];
    for await (const chunk of writeTar([])) empty.push(chunk);
    expect(read(Buffer.concat(empty), 512)).toEqual({ entries: 0, data: 0, error: undefined });
  });
});

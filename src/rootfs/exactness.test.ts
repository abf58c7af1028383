import { existsSync } from "node:fs";
import { lstat, mkdtemp, readdir, readlink } from "node:fs/promises";
import { describe, test } from "vitest";
import { runProgram } from "../host/process.ts";
import { dir, file, symlink, type TestEntry } from "../tar/tar-builder.test-helper.ts";
import { buildChecked, layersOf, tool, workspace } from "./built-image.test-helper.ts";

/* What an entry says at the edges of what ext4 can hold, as the kernel then tells it. */

const required = ["e2fsck", "mount", "umount"];
const missing = (
  await Promise.all(required.map(async (name) => ((await tool(name)) === undefined ? name : [])))
)
  .flat()
  .join(", ");
const usable = missing === "" && process.getuid?.() === 0 && existsSync("/dev/loop-control");

/** Builds an image of `entries` and mounts it while `use` runs. */
async function mounted<T>(entries: readonly TestEntry[], use: (root: string) => Promise<T>): Promise<T> {
  await using space = await workspace();
  const built = await buildChecked(space, layersOf(entries));
  const target = await mkdtemp(`${space.path}/mount-`);
  await runProgram("mount", ["-o", "loop,ro", built.path, target]);
  try {
    return await use(target);
  } finally {
    await runProgram("umount", [target]);
  }
}

const MAX_TIME = 2 ** 34 - 2 ** 31 - 1;

describe.skipIf(!usable)(`exactness (root, loop devices, ${required.join(", ")})`, () => {
  test("times to the nanosecond, from 1901 to 2446", async ({ expect }) => {
    const times: ReadonlyArray<readonly [pax: string, nanoseconds: bigint]> = [
      ["0", 0n],
      ["1.000000001", 1_000_000_001n],
      ["1700000000.999999999", 1_700_000_000_999_999_999n],
      ["1700000000.9999999999", 1_700_000_000_999_999_999n],
      ["-1", -1_000_000_000n],
      ["-0.5", -500_000_000n],
      ["-1.25", -1_250_000_000n],
      [String(-(2 ** 31)), BigInt(-(2 ** 31)) * 1_000_000_000n],
      // What ext4 cannot hold becomes the nearest that it can.
      [String(-(2 ** 31) - 1), BigInt(-(2 ** 31)) * 1_000_000_000n],
      ["-100000000000", BigInt(-(2 ** 31)) * 1_000_000_000n],
      ["2147483647.5", 2_147_483_647_500_000_000n],
      ["2147483648", 2_147_483_648_000_000_000n],
      ["4294967296.7", 4_294_967_296_700_000_000n],
      [String(MAX_TIME), BigInt(MAX_TIME) * 1_000_000_000n],
      [String(MAX_TIME + 1), BigInt(MAX_TIME) * 1_000_000_000n],
      ["999999999999", BigInt(MAX_TIME) * 1_000_000_000n],
    ];
    const entries = times.map(([time], index) =>
      file(`f${index}`, "x", {
        pax: [
          ["mtime", time],
          ["atime", time],
        ],
      }),
    );
    const found = await mounted(entries, (root) =>
      Promise.all(times.map(([time], index) => timesOf(`${root}/f${index}`, time))),
    );
    expect(found).toEqual(times.map(([time, expected]) => [time, expected, expected]));
  });

  test("a header's own time, negative and beyond 2106", async ({ expect }) => {
    const entries = [file("old", "x", { mtime: -86_400 }), file("late", "x", { mtime: 5_000_000_000 })];
    const found = await mounted(entries, async (root) => [
      (await lstat(`${root}/old`)).mtimeMs,
      (await lstat(`${root}/late`)).mtimeMs,
    ]);
    expect(found).toEqual([-86_400_000, 5_000_000_000_000]);
  });

  test.for([
    [0, 0],
    [65_535, 65_534],
    [65_536, 65_537],
    [2_097_151, 2_097_152],
    [2 ** 32 - 2, 2 ** 31],
  ] as const)("owner %i:%i", async ([uid, gid], { expect }) => {
    const entries = [
      file("header", "x", { uid, gid }),
      dir("pax", {
        pax: [
          ["uid", String(uid)],
          ["gid", String(gid)],
        ],
      }),
      symlink("link", "x", { uid, gid }),
    ];
    const found = await mounted(entries, (root) =>
      Promise.all(["header", "pax", "link"].map(async (name) => lstat(`${root}/${name}`))),
    );
    for (const info of found) expect([info.uid, info.gid]).toEqual([uid, gid]);
  });

  test("every bit of a mode, on every type", async ({ expect }) => {
    const modes = [0, 0o7777, 0o4755, 0o2755, 0o1777, 0o111];
    const entries = modes.flatMap((mode): TestEntry[] => [
      file(`file-${mode}`, "x", { mode }),
      dir(`dir-${mode}`, { mode }),
      { name: `fifo-${mode}`, type: "6", mode },
      { name: `char-${mode}`, type: "3", mode, dev: [1, 3] },
      { name: `block-${mode}`, type: "4", mode, dev: [8, 1] },
    ]);
    const found = await mounted(entries, (root) =>
      Promise.all(entries.map(async ({ name }) => (await lstat(`${root}/${name}`)).mode)),
    );
    const types: Readonly<Record<string, number>> = {
      "0": 0x8000,
      "5": 0x4000,
      "6": 0x1000,
      "3": 0x2000,
      "4": 0x6000,
    };
    expect(found).toEqual(entries.map(({ type, mode }) => (types[type ?? "0"] ?? 0) | (mode ?? 0)));
  });

  test.for([
    [0, 0],
    [255, 255],
    [255, 256],
    [256, 0],
    [4095, 1_048_575],
  ] as const)("device %i:%i", async ([major, minor], { expect }) => {
    const entries: TestEntry[] = [{ name: "device", type: "3", mode: 0o600, dev: [major, minor] }];
    const rdev = await mounted(entries, async (root) => (await lstat(`${root}/device`)).rdev);
    // makedev(3) of glibc.
    expect(rdev).toBe((minor & 0xff) + (major << 8) + (minor >>> 8) * 2 ** 20);
  });

  test("names of 255 bytes, of any bytes, and a symlink of 4095", async ({ expect }) => {
    const longest = "n".repeat(255);
    const target = `${"t/".repeat(2047)}t`;
    const bytes = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 0x2f));
    const entries = [
      file("1", "x", { pax: [["path", longest]] }),
      file("2", "x", { pax: [["path", bytes]] }),
      symlink("link", "x", { pax: [["linkpath", target]] }),
    ];
    await mounted(entries, async (root) => {
      const names = await readdir(root, { encoding: "buffer" });
      expect(names.map((name) => name.toString("latin1")).sort()).toEqual(
        [longest, bytes.toString("latin1"), "link"].sort(),
      );
      expect(await readlink(`${root}/link`)).toBe(target);
    });
  });
});

async function timesOf(place: string, what: string): Promise<readonly [string, bigint, bigint]> {
  const { mtimeNs, atimeNs } = await lstat(place, { bigint: true });
  return [what, mtimeNs, atimeNs];
}

import { mkdtemp, readdir, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { runProgram, streamProgram } from "../../host/process.ts";
import { buildSnapshots, type SnapshotInput } from "./build-snapshots.ts";

const UUID = "01234567-0123-4123-8123-0123456789ab";
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), "firectl-snapshots-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** Packs what a shell script makes in an empty directory. */
async function packed(name: string, script: string, what = "."): Promise<SnapshotInput> {
  const source = path.join(directory, `source-${name}`);
  await runProgram("sh", ["-ec", `mkdir "$0"; cd "$0"; ${script}`, source]);
  return {
    name,
    source,
    isDirectory: what === ".",
    open: () => {
      const flags = ["--format=posix", "--sparse", "--xattrs", "--numeric-owner"];
      return streamProgram("tar", [...flags, "-C", source, "-c", what]).stdout as AsyncIterable<Uint8Array>;
    },
  };
}

const debugfs = (request: string): Promise<string> =>
  runProgram("debugfs", ["-R", request, path.join(directory, "disk.ext4")]);

test("directories and files become one clean disk, whatever their names", async () => {
  const script =
    "mkdir -p .wh.gone/.wh..wh..opq; echo x >a; ln a .wh.gone/b; ln -s /etc c; truncate -s 8M sparse; mkfifo f";
  const snapshots = [await packed("0", script), await packed("1", "echo single >-file", "./-file")];
  await buildSnapshots({ path: path.join(directory, "disk.ext4"), uuid: UUID, snapshots });
  await runProgram("e2fsck", ["-fn", path.join(directory, "disk.ext4")]);
  expect(await debugfs("cat /1")).toBe("single");
  expect(await debugfs("cat /0/.wh.gone/b")).toBe("x");
  expect(await debugfs("stat /0/a")).toMatch(/Links: 2 /);
  const names = (await debugfs("ls -p /0")).split("\n").map((line) => line.split("/")[5] ?? "");
  expect(names.filter((name) => name !== "").sort()).toEqual([
    ".",
    "..",
    ".wh.gone",
    "a",
    "c",
    "f",
    "sparse",
  ]);
});

test.each([
  ["more files than the limit", { maxEntries: 2 }, "it has more than 2 files and directories"],
  ["more bytes", { maxBytes: 2 }, "it has more than 2 bytes"],
  ["longer names", { maxMetadataBytes: 5 }, "it has more than 5 bytes of names and attributes"],
])("%s is refused, and nothing stays", async (_what, limits, message) => {
  const snapshots = [await packed("0", "echo abc >a; echo abc >b")];
  const building = buildSnapshots({ path: path.join(directory, "disk.ext4"), uuid: UUID, snapshots, limits });
  await expect(building).rejects.toThrow(message);
  expect(await readdir(directory)).toEqual(["source-0"]);
});

test.each(["mkdir a", "ln -s /etc a", "mkfifo a"])(
  "a file that has become another thing is told: %s",
  async (script) => {
    const input = { ...(await packed("0", script, "./a")), isDirectory: false };
    const building = buildSnapshots({ path: path.join(directory, "d"), uuid: UUID, snapshots: [input] });
    await expect(building).rejects.toMatchObject({
      code: "IO_FAILED",
      message: expect.stringContaining("it has become something else"),
    });
  },
);

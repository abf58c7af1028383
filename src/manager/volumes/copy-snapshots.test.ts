import { existsSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { runProgram } from "../../host/process.ts";
import { temporaryDirectory } from "../../host/temporary-directory.test-helper.ts";
import { directoriesOf } from "../../state/directories.ts";
import { copySnapshots } from "./copy-snapshots.ts";

let root: string;
let disk: string;
beforeEach(() => {
  root = temporaryDirectory();
  disk = path.join(root, "vm/disk.ext4");
  for (const name of ["project/data", "outside/data"]) mkdirSync(path.join(root, name), { recursive: true });
  for (const name of ["project/file", "project/data/inner"]) writeFileSync(path.join(root, name), "public");
  for (const name of ["outside/file", "outside/data/inner"]) writeFileSync(path.join(root, name), "secret");
});

const copy = (name: string, isDirectory: boolean): Promise<void> =>
  copySnapshots(
    {
      env: process.env,
      directories: directoriesOf({ FIRECTL_DATA_DIR: path.join(root, "data") }, { uid: 0 }),
    },
    {
      disk,
      mounts: [
        { type: "snapshot", source: path.join(root, name), destination: "/in", entry: "0", isDirectory },
      ],
    },
    {},
  );

test("directories and files are copied", async () => {
  await copy("project", true);
  expect(await runProgram("debugfs", ["-R", "cat /0/data/inner", disk])).toBe("public");
});

test("a file comes alone", async () => {
  await copy("project/file", false);
  expect(await runProgram("debugfs", ["-R", "cat /0", disk])).toBe("public");
});

test.each([
  ["project/data", "../outside/data", "project/data", true, "project/data has become a symbolic link"],
  ["project", "outside", "project/data", true, "project has become a symbolic link"],
  ["project", "outside", "project/file", false, "project has become a symbolic link"],
  ["project/file", "../outside/file", "project/file", false, 'file "./file": it has become something else'],
])("when %s has become a link to %s, %s is not copied", async (name, target, asked, isDirectory, told) => {
  renameSync(path.join(root, name), path.join(root, "moved"));
  symlinkSync(target, path.join(root, name));
  await expect(copy(asked, isDirectory)).rejects.toMatchObject({
    code: "IO_FAILED",
    message: expect.stringContaining(told),
  });
  expect(existsSync(disk)).toBe(false);
});

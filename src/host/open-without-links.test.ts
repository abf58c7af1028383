import {
  closeSync,
  fstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import { openWithoutLinks } from "./open-without-links.ts";
import { temporaryDirectory } from "./temporary-directory.test-helper.ts";

let root: string;
beforeEach(() => {
  root = temporaryDirectory();
  mkdirSync(path.join(root, "project/data"), { recursive: true });
  mkdirSync(path.join(root, "outside/data"), { recursive: true });
  writeFileSync(path.join(root, "project/file"), "");
  writeFileSync(path.join(root, "outside/file"), "");
});

const open = (name: string): number => openWithoutLinks(path.join(root, name), "cannot share it");
const openFiles = (): number => readdirSync("/proc/self/fd").length;

/** As a guest does it that shares the directory above. */
function replace(name: string, target: string): void {
  renameSync(path.join(root, name), path.join(root, "moved"));
  symlinkSync(target, path.join(root, name));
}

test.each(["project", "project/data", "project/file"])("%s is opened as it is", (name) => {
  const before = openFiles();
  const fd = open(name);
  expect(fstatSync(fd).ino).toBe(statSync(path.join(root, name)).ino);
  closeSync(fd);
  expect(openFiles()).toBe(before);
});

test.each([
  ["project/data", "../outside/data", "project/data"],
  ["project/file", "../outside/file", "project/file"],
  ["project", "outside", "project/data"],
  ["project", "nowhere", "project/data"],
])("when %s has become a link to %s, %s is refused", (name, target, asked) => {
  replace(name, target);
  const before = openFiles();
  expect(() => open(asked)).toThrow(
    expect.objectContaining({
      code: "IO_FAILED",
      message: `cannot share it: ${path.join(root, name)} has become a symbolic link since the VM was made`,
    }),
  );
  expect(openFiles()).toBe(before);
});

test("what is not there is named", () => {
  expect(() => open("project/gone/data")).toThrow(
    expect.objectContaining({
      code: "FILE_NOT_FOUND",
      message: `cannot share it: cannot open ${root}/project/gone: it does not exist`,
    }),
  );
  expect(() => open("project/file/data")).toThrow(/cannot open .*\/project\/file\/data: ENOTDIR/);
});

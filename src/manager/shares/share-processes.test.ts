import { mkdirSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, expect, test } from "vitest";
import type { SideProcess } from "../../host/supervise.ts";
import { temporaryDirectory } from "../../host/temporary-directory.test-helper.ts";
import { shareProcesses } from "./share-processes.ts";

let root: string;
beforeEach(() => {
  root = temporaryDirectory();
  for (const directory of ["project/data", "outside"])
    mkdirSync(path.join(root, directory), { recursive: true });
});

const processes = (source: string): Promise<SideProcess[]> =>
  shareProcesses(
    { shareServerPath: process.execPath },
    [{ type: "share", source: path.join(root, source), destination: "/w", readOnly: true }],
    { vsockSocket: "/v.sock" },
  );

test("a directory or file gets a server on the socket of its port", async () => {
  writeFileSync(path.join(root, "file"), "");
  for (const source of ["project/data", "file"]) {
    const argv = [
      process.execPath,
      "--socket",
      "/v.sock_1100",
      "--path",
      path.join(root, source),
      "--read-only",
    ];
    expect(await processes(source)).toEqual([{ name: "share0", socketPath: "/v.sock_1100", argv }]);
  }
});

test("a directory that a guest has replaced by a link is not shared", async () => {
  renameSync(path.join(root, "project/data"), path.join(root, "project/moved"));
  symlinkSync("../outside", path.join(root, "project/data"));
  await expect(processes("project/data")).rejects.toMatchObject({
    code: "IO_FAILED",
    message: `cannot share ${root}/project/data: ${root}/project/data has become a symbolic link since the VM was made`,
    hint: expect.stringContaining("firectl rm"),
  });
  await processes("project/moved");
});

test("what is not there, or no file, is named", async () => {
  await expect(processes("gone")).rejects.toMatchObject({
    code: "FILE_NOT_FOUND",
    message: expect.stringContaining("/gone: it does not exist"),
  });
  await expect(
    shareProcesses(
      { shareServerPath: process.execPath },
      [{ type: "share", source: "/dev/null", destination: "/w", readOnly: true }],
      { vsockSocket: "/v.sock" },
    ),
  ).rejects.toMatchObject({ code: "UNSUPPORTED", message: expect.stringContaining("/dev/null") });
});

import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import {
  findExecutable,
  makePrivateDirectory,
  readTextIfPresent,
  writeChunksAtomic,
  writeFileAtomic,
} from "./files.ts";
import { runProgram } from "./process.ts";
import { temporaryDirectory } from "./temporary-directory.test-helper.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

describe("makePrivateDirectory", () => {
  test("makes it with its parents, for the owner alone, and takes one that is there", async () => {
    const directory = path.join(temporaryDirectory(), "a/b");
    await makePrivateDirectory(directory);
    await makePrivateDirectory(directory);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
  });

  test("refuses one that another user has put there", async () => {
    const directory = temporaryDirectory();
    vi.spyOn(process, "getuid").mockReturnValue(statSync(directory).uid + 1);
    await expect(makePrivateDirectory(directory)).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
    await expect(makePrivateDirectory(directory)).rejects.toThrow(/belongs to user \d+, and you are \d+/);
  });
});

describe("writeFileAtomic", () => {
  test("replaces a file and leaves nothing beside it", async () => {
    const file = path.join(temporaryDirectory(), "state");
    await writeFileAtomic(file, "old");
    await writeFileAtomic(file, "new");
    expect(readFileSync(file, "utf8")).toBe("new");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(path.dirname(file))).toEqual(["state"]);
  });

  test("leaves the old file and no other when it cannot be replaced", async () => {
    const directory = temporaryDirectory();
    const target = path.join(directory, "is-a-directory");
    mkdirSync(path.join(target, "full"), { recursive: true });
    await expect(writeFileAtomic(target, "new")).rejects.toMatchObject({ code: "IO_FAILED" });
    expect(readdirSync(directory)).toEqual(["is-a-directory"]);
  });
});

describe("writeChunksAtomic", () => {
  async function* chunks(...texts: readonly string[]): AsyncGenerator<Uint8Array> {
    for (const text of texts) {
      if (text === "failure") throw new Error("no more");
      yield Buffer.from(text);
    }
  }

  test("puts a file there whole, for its owner alone", async () => {
    const file = path.join(temporaryDirectory(), "archive");
    writeFileSync(file, "a former one");
    await writeChunksAtomic(file, chunks("one ", "", "two"));
    expect(readFileSync(file, "utf8")).toBe("one two");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(path.dirname(file))).toEqual(["archive"]);
  });

  test("says that there is no directory, and nothing of temporary names", async () => {
    const directory = path.join(temporaryDirectory(), "nowhere");
    await expect(writeChunksAtomic(path.join(directory, "archive"), chunks("one"))).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
      message: `cannot write ${directory}/archive: there is no directory ${directory}`,
    });
  });

  test("leaves what was there, and nothing else, when it breaks off", async () => {
    const file = path.join(temporaryDirectory(), "archive");
    writeFileSync(file, "a former one");
    await expect(writeChunksAtomic(file, chunks("one", "failure"))).rejects.toThrow("no more");
    expect(readFileSync(file, "utf8")).toBe("a former one");
    expect(readdirSync(path.dirname(file))).toEqual(["archive"]);
  });

  test("writes to a device or pipe as it is, and not over a directory", async () => {
    const directory = temporaryDirectory();
    await writeChunksAtomic("/dev/null", chunks("one"));
    expect(statSync("/dev/null").isFile()).toBe(false);
    const pipe = path.join(directory, "pipe");
    await runProgram("mkfifo", [pipe]);
    const [text] = await Promise.all([
      runProgram("cat", [pipe]),
      writeChunksAtomic(pipe, chunks("one ", "two")),
    ]);
    expect(text).toBe("one two");
    await expect(writeChunksAtomic(directory, chunks("x"))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(writeChunksAtomic(path.join(directory, "none/x"), chunks("x"))).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
    });
  });
});

test("readTextIfPresent tells a missing file from one that cannot be read", async () => {
  const directory = temporaryDirectory();
  expect(await readTextIfPresent(path.join(directory, "none"))).toBeUndefined();
  await expect(readTextIfPresent(directory)).rejects.toMatchObject({ code: "IO_FAILED" });
});

test("findExecutable takes the first that can be run, and follows links", async () => {
  const directory = temporaryDirectory();
  for (const name of ["one", "two", "three"]) mkdirSync(path.join(directory, name));
  writeFileSync(path.join(directory, "one/tool"), "", { mode: 0o644 });
  mkdirSync(path.join(directory, "two/tool"));
  symlinkSync("/bin/sh", path.join(directory, "three/tool"));
  const searchPath = ["one", "two", "three"].map((name) => path.join(directory, name)).join(":");
  expect(await findExecutable("tool", searchPath)).toBe(path.join(directory, "three/tool"));
  expect(await findExecutable("nowhere", searchPath)).toBeUndefined();
  expect(await findExecutable("/bin/sh", "")).toBe("/bin/sh");
});

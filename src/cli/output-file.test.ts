import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { testIo } from "./cli.test-helper.ts";
import { writeOutput } from "./output-file.ts";

async function* chunks(...texts: readonly string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield Buffer.from(text);
}

async function* failing(): AsyncGenerator<Uint8Array> {
  yield Buffer.from("half");
  throw new FirectlError("DISK_INVALID", "it is damaged");
}

describe("writeOutput", () => {
  test("to stdout, unless that is a terminal", async () => {
    const io = testIo();
    await writeOutput(io, chunks("a", "", "bc"), undefined);
    expect(io.stdout.text).toBe("abc");
    await writeOutput(io, chunks("d"), "-");
    expect(io.stdout.text).toBe("abcd");
    const terminal = testIo({ stdoutIsTerminal: true });
    const written = writeOutput(terminal, chunks("a"), undefined);
    await expect(written).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: "stdout is a terminal, and an archive is no text",
    });
    expect(terminal.stdout.text).toBe("");
  });

  test("to a file that is there in whole or not at all", async () => {
    const directory = temporaryDirectory();
    const file = `${directory}/out.tar`;
    await writeOutput(testIo({ stdoutIsTerminal: true }), chunks("a", "b".repeat(100_000)), file);
    expect((await readFile(file, "latin1")).length).toBe(100_001);
    // The files of a whole machine: nobody else's business.
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    await expect(writeOutput(testIo(), failing(), file)).rejects.toMatchObject({ code: "DISK_INVALID" });
    expect((await readFile(file, "latin1")).length).toBe(100_001);
    await writeOutput(testIo(), chunks("new"), file);
    expect(await readFile(file, "latin1")).toBe("new");
    expect(await readdir(directory)).toEqual(["out.tar"]);
  });

  test("into what is no plain file, without replacing it", async () => {
    const directory = temporaryDirectory();
    await writeOutput(testIo(), chunks("a"), "/dev/null");
    expect(existsSync("/dev/null")).toBe(true);
    await mkdir(`${directory}/sub`);
    await expect(writeOutput(testIo(), chunks("a"), `${directory}/sub`)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/it is a directory$/),
    });
    await expect(writeOutput(testIo(), chunks("a"), `${directory}/no/file`)).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
      message: `cannot write ${directory}/no/file: there is no directory ${directory}/no`,
    });
    // A link to a file stands for the file.
    await writeFile(`${directory}/target`, "old");
    await symlink("target", `${directory}/link`);
    await writeOutput(testIo(), chunks("through"), `${directory}/link`);
    expect(await readFile(`${directory}/target`, "latin1")).toBe("through");
  });
});

import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { describe, test } from "vitest";
import { temporaryDirectory } from "../../host/temporary-directory.test-helper.ts";
import { BARE_ENTRY, type TarEntry } from "../../tar/reader.ts";
import type { TarContent } from "../../tar/writer.ts";
import { copyFrom } from "./copy-from.ts";

function entryOf(given: Pick<TarEntry, "type"> & Partial<TarEntry>): TarEntry {
  const time = { mtimeSec: 0, mtimeNsec: 0, atimeSec: 0, atimeNsec: 0 };
  return { ...BARE_ENTRY, path: "", mode: 0o755, uid: 0, gid: 0, ...time, ...given };
}
const file = (name: string): TarContent => ({
  entry: entryOf({ type: "file", path: name, size: 4 }),
  data: [Buffer.from("evil")],
});
const FILE: readonly TarContent[] = [file("")];
const DIRECTORY: readonly TarContent[] = [{ entry: entryOf({ type: "directory" }) }, file("f")];
const linkTo = (linkPath: string): readonly TarContent[] => [
  { entry: entryOf({ type: "symlink", linkPath }) },
];

/** What the guest says is at `source`, whatever it was before, copied to `destination`. */
async function copy(contents: readonly TarContent[], source: string, destination: string): Promise<void> {
  async function* read(): AsyncGenerator<TarContent> {
    yield* contents;
  }
  await copyFrom({ read }, { source, destination }, {});
}

/** A directory of the user's with a file and a directory that no copy is to change, and one to copy into. */
function home(): { readonly work: string; readonly untouched: () => unknown } {
  const directory = temporaryDirectory();
  const own = path.join(directory, "own");
  const work = path.join(directory, "work");
  mkdirSync(own);
  mkdirSync(work);
  writeFileSync(path.join(own, "keys"), "mine");
  return {
    work,
    untouched: () => [readdirSync(directory), readdirSync(own), readFileSync(path.join(own, "keys"), "utf8")],
  };
}
const UNTOUCHED = [["own", "work"], ["keys"], "mine"];

describe("a link at the destination", () => {
  test.for(["../own/keys", "../own/none", "../none/none"])(
    "to the file %s, which an earlier copy has brought, is replaced",
    async (target, { expect }) => {
      const { work, untouched } = home();
      const destination = path.join(work, "result");
      await copy(linkTo(target), "/out/result", destination);
      expect(readlinkSync(destination)).toBe(target);
      await copy(FILE, "/out/result", destination);
      expect(lstatSync(destination).isFile()).toBe(true);
      expect(readFileSync(destination, "utf8")).toBe("evil");
      await copy(linkTo(target), "/out/result", destination);
      await copy(linkTo("elsewhere"), "/out/result", destination);
      expect(readlinkSync(destination)).toBe("elsewhere");
      expect(untouched()).toEqual(UNTOUCHED);
      expect(readdirSync(work)).toEqual(["result"]);
    },
  );

  test.for<readonly [what: string, contents: readonly TarContent[], source: string]>([
    ["a file", FILE, "/out/result"],
    ["a file with another name", FILE, "/out/keys"],
    ["a directory", DIRECTORY, "/out/result"],
    ["what is in a directory", DIRECTORY, "/out/."],
  ])("to a directory takes %s only with a slash", async ([, contents, source], { expect }) => {
    const { work, untouched } = home();
    const destination = path.join(work, "result");
    await copy(linkTo("../own"), "/out/result", destination);
    await expect(copy(contents, source, destination)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: `cannot copy to ${destination}: it is a symbolic link to the directory ../own, and may have come with an earlier copy`,
      hint: `add a slash to copy into that directory (${destination}/), or remove the link`,
    });
    expect(untouched()).toEqual(UNTOUCHED);
    mkdirSync(path.join(work, "mine"));
    for (const end of ["/", "/."]) {
      const link = path.join(work, `to-mine${end.length}`);
      symlinkSync("mine", link);
      await copy(contents, source, `${link}${end}`);
    }
    const expected = source.endsWith(".") ? "f" : path.basename(source);
    expect(readdirSync(path.join(work, "mine"))).toEqual([expected]);
  });

  test("that is no directory takes none, with a slash or without", async ({ expect }) => {
    const { work, untouched } = home();
    const destination = path.join(work, "result");
    for (const target of ["../own/keys", "../own/none"]) {
      await copy(linkTo(target), "/out/result", destination);
      await expect(copy(DIRECTORY, "/out/result", destination)).rejects.toThrow(/which is none$/);
      await expect(copy(DIRECTORY, "/out/result", `${destination}/`)).rejects.toThrow(/which is none$/);
      await expect(copy(FILE, "/out/result", `${destination}/`)).rejects.toThrow(/must be a directory$/);
    }
    expect(untouched()).toEqual(UNTOUCHED);
  });

  test("to a device stays", async ({ expect }) => {
    const { work } = home();
    const destination = path.join(work, "null");
    symlinkSync("/dev/null", destination);
    await expect(copy(FILE, "/out/null", destination)).rejects.toThrow(
      /: it must be a directory or a regular file$/,
    );
    expect(readlinkSync(destination)).toBe("/dev/null");
  });
});

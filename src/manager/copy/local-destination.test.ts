import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "vitest";
import { temporaryDirectory } from "../../host/temporary-directory.test-helper.ts";
import { BARE_ENTRY, type EntryType, type TarEntry } from "../../tar/reader.ts";
import type { TarContent } from "../../tar/writer.ts";
import { writeLocally } from "./local-destination.ts";

function content(name: string, type: EntryType, given: Partial<TarEntry> = {}, data = ""): TarContent {
  const entry: TarEntry = {
    ...BARE_ENTRY,
    path: name,
    type,
    mode: 0o755,
    uid: 0,
    gid: 0,
    size: data.length,
    mtimeSec: 1_000_000_000,
    mtimeNsec: 0,
    atimeSec: 1_000_000_000,
    atimeNsec: 0,
    ...given,
  };
  return { entry, data: data === "" ? [] : [Buffer.from(data)] };
}

async function* stream(contents: readonly TarContent[]): AsyncGenerator<TarContent> {
  yield* contents;
}

describe("writeLocally", () => {
  const copy = (directory: string, contents: readonly TarContent[], into = "x") =>
    writeLocally(
      stream(contents),
      { directory, name: into === "itself" ? undefined : into },
      { archive: false, signal: undefined },
    );

  test("makes what a copy says, setuid bits and devices excepted", async ({ expect }) => {
    const space = temporaryDirectory();
    const report = await copy(
      space,
      [
        content("", "directory", { mode: 0o555 }),
        content("f", "file", { mode: 0o6751 }, "data"),
        content("l", "link", { linkPath: "f" }),
        content("s", "symlink", { linkPath: "/etc/passwd" }),
        content("d", "block-device"),
        content("sp", "file", { size: 100_000, sparse: [{ offset: 50_000, length: 4 }] }),
      ].map((each, index) =>
        index === 5 ? { ...each, data: [Buffer.from("da"), Buffer.from("ta")] } : each,
      ),
    );
    expect(report).toEqual({ bytes: 8, leftOut: ["x/d"], leftOutCount: 1 });
    const stat = (name: string) => lstatSync(path.join(space, name));
    expect([stat("x").mode & 0o7777, stat("x/f").mode & 0o7777, stat("x").mtimeMs]).toEqual([
      0o555, 0o751, 1e12,
    ]);
    expect(stat("x/l").ino).toBe(stat("x/f").ino);
    expect(readFileSync(path.join(space, "x/sp")).subarray(50_000, 50_004).toString()).toBe("data");
    expect(stat("x/sp").size).toBe(100_000);
    expect(readdirSync(path.join(space, "x")).sort()).toEqual(["f", "l", "s", "sp"]);
  });

  test("follows no link, neither the copy's own nor one that is there", async ({ expect }) => {
    const space = temporaryDirectory();
    const outside = path.join(space, "outside");
    mkdirSync(outside);
    writeFileSync(path.join(outside, "f"), "mine");
    const through = [
      content("", "directory"),
      content("s", "symlink", { linkPath: outside }),
      content("s/f", "file", {}, "evil"),
    ];
    await expect(copy(space, through)).rejects.toThrow(/ENOTDIR|ELOOP/);
    mkdirSync(path.join(space, "there"));
    symlinkSync(path.join(outside, "f"), path.join(space, "there/f"));
    symlinkSync(outside, path.join(space, "there/d"));
    await copy(
      path.join(space, "there"),
      [content("", "directory"), content("f", "file", {}, "new")],
      "itself",
    );
    expect(lstatSync(path.join(space, "there/f")).isFile()).toBe(true);
    await expect(copy(path.join(space, "there"), [content("", "directory")], "d")).rejects.toMatchObject({
      code: "WRONG_STATE",
    });
    expect(readFileSync(path.join(outside, "f"), "utf8")).toBe("mine");
    expect(readdirSync(outside)).toEqual(["f"]);
  });

  test("gives another name only to what the copy has made", async ({ expect }) => {
    const space = temporaryDirectory();
    writeFileSync(path.join(space, "secret"), "mine");
    const link = [content("", "directory"), content("l", "link", { linkPath: "secret" })];
    await expect(copy(space, link, "itself")).rejects.toMatchObject({ code: "AGENT_FAILED" });
    expect(readdirSync(space)).toEqual(["secret"]);
  });

  test("names 100 devices and counts the others", async ({ expect }) => {
    const space = temporaryDirectory();
    const devices = Array.from({ length: 250 }, (_, i) => content(`d${i}`, "character-device"));
    const report = await copy(space, [content("", "directory"), ...devices]);
    expect(report).toEqual({
      bytes: 0,
      leftOut: Array.from({ length: 100 }, (_, i) => `x/d${i}`),
      leftOutCount: 250,
    });
  });

  test("takes a directory again, with the last mode", async ({ expect }) => {
    const space = temporaryDirectory();
    const again = [0o700, 0o711, 0o755].map((mode) => content("d", "directory", { mode }));
    await copy(space, [content("", "directory"), ...again, content("d/f", "file", {}, "data")]);
    expect(lstatSync(path.join(space, "x/d")).mode & 0o7777).toBe(0o755);
    expect(readdirSync(path.join(space, "x/d"))).toEqual(["f"]);
  });

  test("leaves no half of a file", async ({ expect }) => {
    const space = temporaryDirectory();
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield Buffer.from("half");
      throw new Error("cut off");
    }
    const cut = { ...content("", "file", { size: 8 }), data: broken() };
    await expect(copy(space, [cut])).rejects.toThrow("cut off");
    expect(readdirSync(space)).toEqual([]);
  });
});

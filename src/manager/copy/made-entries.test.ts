import { describe, test } from "vitest";
import { MadeEntries } from "./made-entries.ts";

const ATTRIBUTES = { mode: 0o755, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0 };

describe("MadeEntries", () => {
  test("keeps what comes again once, with the last attributes", ({ expect }) => {
    const made = new MadeEntries({ entries: 3, pathBytes: 6 });
    for (let i = 0; i < 10; i++) {
      made.addFile("a");
      made.addDirectory("dd", { ...ATTRIBUTES, mode: i });
      made.addDirectory("d/e", ATTRIBUTES);
    }
    expect([made.hasFile("a"), made.hasFile("dd")]).toEqual([true, false]);
    expect(made.directoriesInsideFirst()).toEqual([
      ["d/e", ATTRIBUTES],
      ["dd", { ...ATTRIBUTES, mode: 9 }],
    ]);
  });

  test("keeps so many entries and so many bytes of paths", ({ expect }) => {
    const few = new MadeEntries({ entries: 2, pathBytes: 100 });
    few.addFile("a");
    few.addDirectory("b", ATTRIBUTES);
    const hint = "copy it as an archive: firectl cp VM:PATH - | tar -x";
    const tooMany = expect.objectContaining({
      code: "UNSUPPORTED",
      message: "the copy has more than 2 files and directories",
      hint,
    });
    expect(() => few.addFile("c")).toThrow(tooMany);
    expect(() => few.addDirectory("c", ATTRIBUTES)).toThrow(tooMany);
    const short = new MadeEntries({ entries: 100, pathBytes: 5 });
    short.addDirectory("aaa", ATTRIBUTES);
    short.addFile("bb");
    expect(() => short.addFile("c")).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED",
        message: "the copy has files and directories whose paths have more than 5 bytes",
        hint,
      }),
    );
  });
});

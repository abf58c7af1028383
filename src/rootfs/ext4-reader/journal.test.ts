import { copyFile, truncate, writeFile } from "node:fs/promises";
import { describe, test } from "vitest";
import { runProgram } from "../../host/process.ts";
import { debugfs, tool, type Workspace, workspace } from "../built-image.test-helper.ts";
import { openFilesystem } from "./filesystem.ts";

const [mke2fs, e2fsck, editor] = await Promise.all(["mke2fs", "e2fsck", "debugfs"].map(tool));

describe.skipIf(editor === undefined || mke2fs === undefined || e2fsck === undefined)(
  "journals (debugfs, e2fsck)",
  () => {
    /** A block of the disk that nothing uses, with `text` in it. */
    async function blockOf(space: Workspace, text: string): Promise<string> {
      const path = space.fresh();
      await writeFile(path, Buffer.alloc(1024, text));
      return path;
    }

    test.for([
      ["without checksums", "jo", "^64bit,^metadata_csum"],
      ["with 64-bit numbers", "jo", "64bit,^metadata_csum"],
      ["with checksums, version 2", "jo -c -v 2", "64bit,metadata_csum"],
      ["with checksums, version 3", "jo -c -v 3", "64bit,metadata_csum"],
    ] as const)("%s are replayed as e2fsck does", async ([, openJournal, features], { expect }) => {
      await using space = await workspace();
      const image = space.fresh(".ext4");
      await writeFile(image, "");
      await truncate(image, 16 * 2 ** 20);
      await runProgram(mke2fs ?? "", ["-q", "-F", "-t", "ext4", "-b", "1024", "-O", features, image]);
      const content = await blockOf(space, "on the disk. ");
      await runProgram(editor ?? "", ["-w", "-R", `write ${content} file`, image]);
      const [extents = ""] = await debugfs(image, ["blocks file"]);
      const block = Number(extents.trim().split(/\s+/)[0]);
      expect(block).toBeGreaterThan(0);
      const [first, second, third] = await Promise.all(
        ["first. ", "second. ", "third. "].map((text) => blockOf(space, text)),
      );
      // The magic of the journal itself must be escaped in it.
      const looksLikeJournal = space.fresh();
      await writeFile(
        looksLikeJournal,
        Buffer.concat([Buffer.from("c03b3998", "hex"), Buffer.alloc(1020, "m")]),
      );
      const states: Array<[script: string[], content: string]> = [
        [[openJournal, `jw -b ${block} ${first}`, "jc"], "first. "],
        [
          [openJournal, `jw -b ${block} ${first}`, "jc", openJournal, `jw -b ${block} ${second}`, "jc"],
          "second. ",
        ],
        [
          [openJournal, `jw -b ${block} ${first}`, "jc", openJournal, `jw -r ${block}`, "jc"],
          "on the disk. ",
        ],
        [
          [
            openJournal,
            `jw -b ${block} ${first}`,
            `jw -r ${block}`,
            "jc",
            openJournal,
            `jw -b ${block} ${third}`,
            "jc",
          ],
          "third. ",
        ],
        // A transaction without a commit does not count.
        [
          [openJournal, `jw -b ${block} ${first}`, "jc", openJournal, `jw -b ${block} -c ${second}`, "jc"],
          "first. ",
        ],
        [[openJournal, `jw -b ${block} ${looksLikeJournal}`, "jc"], "\xc0\x3b\x39\x98mm"],
      ];
      for (const [script, expected] of states) {
        const copy = space.fresh(".ext4");
        await copyFile(image, copy);
        await runProgram(editor ?? "", ["-w", "-f", "-", copy], { input: `${script.join("\n")}\n` });
        using volume = openFilesystem(copy);
        expect(volume.superblock.needsRecovery, script.join("; ")).toBe(true);
        const text = Buffer.from(volume.block(block)).toString("latin1");
        expect(text.slice(0, expected.length), script.join("; ")).toBe(expected);
        // e2fsck replays it, then finds nothing wrong; its answer tells that it changed something.
        await runProgram("sh", ["-c", '"$1" -fy "$2" >/dev/null; [ $? -le 1 ]', "sh", e2fsck ?? "", copy]);
        using replayed = openFilesystem(copy);
        expect(Buffer.from(replayed.block(block)).toString("latin1")).toBe(text);
      }
    });
  },
);

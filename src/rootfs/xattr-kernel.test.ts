import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { describe, test } from "vitest";
import { runProgram } from "../host/process.ts";
import { dir, file, hardLink, type TestEntry } from "../tar/tar-builder.test-helper.ts";
import { buildChecked, layersOf, tool, workspace } from "./built-image.test-helper.ts";

/* Attributes as the kernel reads them from an image, whatever their size and wherever ext4 keeps them. */

const required = ["e2fsck", "mount", "umount", "getfattr"];
const missing = (
  await Promise.all(required.map(async (name) => ((await tool(name)) === undefined ? name : [])))
)
  .flat()
  .join(", ");
const usable = missing === "" && process.getuid?.() === 0 && existsSync("/dev/loop-control");

/** All attributes of a mounted file, values in hexadecimal. */
async function attributesOf(place: string): Promise<Record<string, string>> {
  const text = await runProgram("getfattr", ["-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", place]);
  return Object.fromEntries(
    [...text.matchAll(/^([^#\s=]+)=0x([0-9a-f]*)$/gm)].map((each) => [each[1], each[2]]),
  );
}

describe.skipIf(!usable)(`attributes of a mounted image (root, loop devices, ${required.join(", ")})`, () => {
  test.for([
    ["in the inode", { "user.a": 20, "user.b": 4 }],
    ["in a block", { "user.a": 20, "user.b": 500, "trusted.c": 3000 }],
    ["a block to the last byte", { "user.abcd": 4040 }],
    ["one byte more than a block", { "user.abcd": 4041 }],
    ["the largest value", { "user.large": 65_536 }],
    ["several large values", { "user.a": 10_000, "user.b": 65_536, "security.c": 4096, "trusted.d": 100 }],
    ["an empty value beside a large one", { "user.a": 65_536, "user.empty": 0 }],
  ] as const)("%s", async ([, sizes], { expect }) => {
    await using space = await workspace();
    const values = Object.entries(sizes).map(([name, size]) => [name, randomBytes(size)] as const);
    const pax = values.map(([name, value]) => [`SCHILY.xattr.${name}`, value] as const);
    const entries: TestEntry[] = [
      file("file", "content", { pax }),
      hardLink("link", "file"),
      dir("directory", { pax }),
      {
        name: "null",
        type: "3",
        mode: 0o666,
        dev: [1, 3],
        pax: pax.filter(([key]) => !key.includes(".user.")),
      },
      // More than may share one block.
      ...Array.from({ length: 1100 }, (_, i) => file(`many/${i}`, "", { pax })),
    ];
    const built = await buildChecked(space, layersOf(entries));
    const expected = Object.fromEntries(values.map(([name, value]) => [name, value.toString("hex")]));
    const target = await mkdtemp(`${space.path}/mount-`);
    await runProgram("mount", ["-o", "loop,ro", built.path, target]);
    try {
      for (const name of ["file", "link", "directory", "many/0", "many/1023", "many/1024", "many/1099"]) {
        expect(await attributesOf(`${target}/${name}`)).toEqual(expected);
      }
    } finally {
      await runProgram("umount", [target]);
    }
  });
});

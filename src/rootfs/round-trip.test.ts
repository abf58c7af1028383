import { existsSync } from "node:fs";
import { lstat, mkdir, mkdtemp, open, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import path from "node:path";
import fc from "fast-check";
import { describe, test } from "vitest";
import { runProgram } from "../host/process.ts";
import { type TestEntry, tarOf } from "../tar/tar-builder.test-helper.ts";
import { buildChecked, layer, layersOf, tool, type Workspace, workspace } from "./built-image.test-helper.ts";
import { layerEntries } from "./layer-entries.test-helper.ts";
import { attributes, describeTree, mounted } from "./mounted-tree.test-helper.ts";

/*
 * Archives made by GNU tar of a tree with everything in it, built into an image, mounted by the kernel and
 * compared with what GNU tar itself extracts.
 */

const required = ["e2fsck", "tar", "mount", "umount", "setfattr", "getfattr", "setfacl", "setcap", "mknod"];
const missing = (
  await Promise.all(required.map(async (name) => ((await tool(name)) === undefined ? name : [])))
)
  .flat()
  .join(", ");
const usable = missing === "" && process.getuid?.() === 0 && existsSync("/dev/loop-control");

async function makeTree(root: string): Promise<void> {
  await mkdir(`${root}/dir/sub`, { recursive: true });
  await mkdir(`${root}/big`);
  for (let i = 0; i < 700; i++) await writeFile(`${root}/big/a-file-with-a-long-name-${i}`, `${i}`);
  await writeFile(`${root}/dir/file`, Buffer.alloc(300_001, 7));
  await writeFile(`${root}/dir/empty`, "");
  const long = `${"component/".repeat(30)}${"n".repeat(200)}`;
  await mkdir(`${root}/${path.dirname(long)}`, { recursive: true });
  await writeFile(`${root}/${long}`, "long name");
  await symlink("file", `${root}/dir/short-link`);
  await symlink("x/".repeat(150), `${root}/dir/long-link`);
  await writeFile(Buffer.concat([Buffer.from(`${root}/dir/`), Buffer.from([0xff, 0xfe, 0x0a, 0x80])]), "odd");
  await runProgram("ln", [`${root}/dir/file`, `${root}/dir/hard`]);
  await runProgram("ln", ["-P", `${root}/dir/short-link`, `${root}/dir/hard-link-to-link`]);
  for (const [name, ...rest] of [
    ["null", "c", "1", "3"],
    ["disk", "b", "259", "70000"],
    ["pipe", "p"],
  ]) {
    await runProgram("mknod", [`${root}/dir/${name}`, ...rest]);
  }
  await runProgram("chmod", ["6711", `${root}/dir/file`]);
  await runProgram("chmod", ["1777", `${root}/dir/sub`]);
  await runProgram("chown", ["-h", "70000:3000000", `${root}/dir/empty`, `${root}/dir/short-link`]);
  await writeFile(`${root}/ping`, "binary");
  await runProgram("setcap", ["cap_net_raw+ep", `${root}/ping`]);
  await runProgram("setfattr", ["-n", "user.small", "-v", "0x00ff80", `${root}/dir/empty`]);
  await runProgram("setfattr", ["-n", "user.large", "-v", `0x${"ab".repeat(2000)}`, `${root}/dir/file`]);
  await runProgram("setfattr", ["-n", "trusted.t", "-v", "t", `${root}/dir`]);
  await runProgram("setfacl", ["-m", "u:1234:rwx,g:70000:r", `${root}/dir/empty`, `${root}/dir/sub`]);
  await runProgram("setfacl", ["-d", "-m", "u:1234:rx", `${root}/dir/sub`]);
  const sparse = await open(`${root}/sparse`, "w");
  for (let i = 0; i < 40; i++) await sparse.write(Buffer.alloc(5000, i + 1), 0, 5000, i * 1_000_000);
  await sparse.truncate(9 * 2 ** 30);
  await sparse.close();
  await runProgram("touch", ["-d", "1960-05-06 07:08:09.123456789 UTC", `${root}/dir/empty`]);
  await runProgram("touch", ["-d", "2200-01-02 03:04:05.987654321 UTC", `${root}/ping`]);
}

/** Unpacks a layer the way overlayfs wants it: whiteouts are devices 0:0, opaque directories have an attribute. */
async function unpackForOverlay(space: Workspace, entries: readonly TestEntry[]): Promise<string> {
  const archive = space.fresh(".tar");
  const root = space.fresh();
  await mkdir(root);
  await writeFile(archive, tarOf(entries));
  await runProgram("tar", ["--numeric-owner", "-xpf", archive, "-C", root]);
  for (const { name } of entries) {
    const base = path.basename(name);
    if (!base.startsWith(".wh.")) continue;
    const directory = path.join(root, path.dirname(name));
    await rm(path.join(root, name), { force: true });
    if (base !== ".wh..wh..opq")
      await runProgram("mknod", [path.join(directory, base.slice(4)), "c", "0", "0"]);
    else await runProgram("setfattr", ["-n", "trusted.overlay.opaque", "-v", "y", directory]);
  }
  // What was changed in directories, by tar itself too, changed their times: all are those of the test entries.
  for (const { name } of entries.filter(({ type }) => type === "5")) {
    await utimes(path.join(root, name), 1_700_000_000, 1_700_000_000);
  }
  return root;
}

const overlay = usable && (await readFile("/proc/filesystems", "utf8")).includes("\toverlay\n");

test.skipIf(!overlay)(
  "random layers are what overlayfs makes of them (root, overlay)",
  async ({ expect }) => {
    await using space = await workspace();
    const kinds = ["file", "file", "dir", "whiteout", "opaque", "symlink", "link"] as const;
    const stack = fc.tuple(...[0o700, 0o710, 0o711, 0o755].map((mode) => layerEntries(mode, kinds)));
    const compare = async (layers: readonly TestEntry[][]) => {
      const roots = await Promise.all(layers.map((entries) => unpackForOverlay(space, entries)));
      const target = await mkdtemp(`${space.path}/overlay-`);
      await runProgram("mount", [
        "-t",
        "overlay",
        "overlay",
        "-o",
        `lowerdir=${roots.toReversed().join(":")}`,
        target,
      ]);
      try {
        const built = await buildChecked(space, layersOf(...layers));
        const lines = await mounted(space, built.path, describeTree);
        // overlayfs tells the links that a file has in its layer, hidden ones too.
        const withoutLinks = (all: readonly string[]) => all.map((line) => line.replace(/ links=\d+ /, " "));
        expect(withoutLinks(lines)).toEqual(withoutLinks(await describeTree(target)));
      } finally {
        await runProgram("umount", [target]);
      }
    };
    await fc.assert(fc.asyncProperty(stack, compare), { numRuns: 12, endOnFailure: true });
  },
);

describe.skipIf(!usable)(`what GNU tar extracts (root, loop devices, ${required.join(", ")})`, () => {
  const XATTRS = ["--xattrs", "--xattrs-include=*"];
  test.for<readonly [what: string, create: readonly string[], extract: readonly string[]]>([
    ["PAX with attributes", ["--format=pax", ...XATTRS], XATTRS],
    ["PAX, sparse 0.0", ["--format=pax", "-S", "--sparse-version=0.0"], []],
    ["PAX, sparse 0.1", ["--format=pax", "-S", "--sparse-version=0.1"], []],
    ["PAX, sparse 1.0, attributes", ["--format=pax", "-S", "--sparse-version=1.0", ...XATTRS], XATTRS],
    ["GNU, sparse", ["--format=gnu", "-S"], []],
    ["PAX, ACLs as text alone", ["--format=pax", "--acls"], ["--acls"]],
  ])("%s", async ([what, create, extract], { expect }) => {
    await using space = await workspace();
    const source = space.fresh();
    await makeTree(source);
    // Without -S the file of 9 GiB would be all zeros in the archive.
    if (!create.includes("-S")) await runProgram("truncate", ["-s", "50000000", `${source}/sparse`]);
    const archive = space.fresh(".tar");
    await runProgram("tar", [...create, "--numeric-owner", "-cf", archive, "-C", source, "."]);
    const extracted = space.fresh();
    await mkdir(extracted);
    await runProgram("tar", [...extract, "--numeric-owner", "-xpf", archive, "-C", extracted]);

    const built = await buildChecked(space, [layer(what, await readFile(archive), 100_000)]);
    const [lines, xattrs, blocks] = await mounted(space, built.path, async (root) => [
      await describeTree(root),
      await attributes(root),
      (await lstat(`${root}/sparse`)).blocks,
    ]);
    expect(lines.length).toBeGreaterThan(740);
    expect(lines).toEqual(await describeTree(extracted));
    if (extract.length > 0) expect(xattrs).toMatch(/posix_acl_access[\s\S]*posix_acl_default/);
    if (extract === XATTRS) expect(xattrs).toContain("security.capability");
    expect(xattrs).toBe(await attributes(extracted));
    if (create.includes("-S")) expect(blocks * 512).toBeLessThan(2 ** 20);
  });
});

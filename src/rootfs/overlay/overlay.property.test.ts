import { existsSync } from "node:fs";
import {
  appendFile,
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import fc from "fast-check";
import { describe, type ExpectStatic, test } from "vitest";
import { propertyRuns, SLOW_TEST_MS } from "../../core/property-runs.test-helper.ts";
import { runProgram } from "../../host/process.ts";
import { dir, file, hardLink, symlink as linkEntry } from "../../tar/tar-builder.test-helper.ts";
import { buildChecked, layersOf, tool, type Workspace, workspace } from "../built-image.test-helper.ts";
import { openFilesystem } from "../ext4-reader/filesystem.ts";
import { attributes, describeTree } from "../mounted-tree.test-helper.ts";
import { parseGetfattr, readView } from "../read-image.test-helper.ts";
import { createWritableDisk } from "../writable-disk.ts";

const usable =
  process.getuid?.() === 0 &&
  existsSync("/dev/loop-control") &&
  (await tool("mount")) !== undefined &&
  (await readFile("/proc/filesystems", "utf8")).includes("\toverlay\n");

const VALUE: readonly [string, string] = ["SCHILY.xattr.user.kept", "value"];
const BASE = ["", "a/", "b/", "a/b/", "c/"].flatMap((place) => [
  ...(place === "" ? [] : [dir(place.slice(0, -1), { mode: 0o750 })]),
  file(`${place}x`, `x of ${place}`, { pax: [VALUE] }),
  file(`${place}y`, Buffer.alloc(9000, "y"), { mode: 0o4711, uid: 5, gid: 70_000 }),
  hardLink(`${place}z`, `${place}y`),
  linkEntry(`${place}l`, "x"),
  dir(`${place}d`),
  file(`${place}d/x`, "below"),
]);

/** What a workload does; what cannot be done where it is tried is left undone. */
const OPERATIONS: Readonly<Record<string, (a: string, b: string) => Promise<unknown>>> = {
  write: (a, b) => writeFile(a, `written with ${b.slice(-5)}`),
  append: (a) => appendFile(a, "more"),
  truncate: (a) => truncate(a, 100_000),
  chmod: (a) => chmod(a, 0o2705),
  chown: (a) => chown(a, 100_000, 200_000),
  touch: (a) => utimes(a, 1_234_567_890, 1_234_567_890),
  mkdir: (a) => mkdir(a),
  remove: (a) => rm(a, { recursive: true }),
  replace: async (a) => {
    await rm(a, { recursive: true });
    await mkdir(a);
  },
  rename,
  renameIntoDirectory: (a, b) => rename(a, `${b}/x`),
  link,
  symlink: (a, b) => symlink(b.slice(-3), a),
  fifo: (a) => runProgram("mknod", [a, "p"]),
  device: (a) => runProgram("mknod", [a, "c", "7", "300"]),
  attribute: (a) => runProgram("setfattr", ["-n", "user.set", "-v", "0x00ff", a]),
};

const NAME = fc.constantFrom("a", "b", "c", "d", "x", "y", "z", "l", "new");
const PATH = fc.array(NAME, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
const OPERATION = fc.tuple(fc.constantFrom(...Object.keys(OPERATIONS)), PATH, PATH);

interface Mounted {
  readonly root: string;
  readonly base: string;
  readonly upper: string;
  readonly unmount: () => Promise<void>;
}

/** What the agent does in a guest: agent/src/mounts.rs. */
async function mountOverlay(space: Workspace, base: string, options: string): Promise<Mounted> {
  const upper = space.fresh(".ext4");
  const directories = ["upper", "work"].map((name) => ({ name, mode: 0o755 }));
  await createWritableDisk({ path: upper, sizeBytes: 64 * 2 ** 20, uuid: crypto.randomUUID(), directories });
  const [lowerRoot, upperRoot, root] = [
    await mkdtemp(`${space.path}/l`),
    await mkdtemp(`${space.path}/u`),
    await mkdtemp(`${space.path}/m`),
  ];
  await runProgram("mount", ["-o", "loop,ro", base, lowerRoot]);
  await runProgram("mount", ["-o", "loop,noatime", upper, upperRoot]);
  const data = `lowerdir=${lowerRoot},upperdir=${upperRoot}/upper,workdir=${upperRoot}/work,${options}`;
  await runProgram("mount", ["-t", "overlay", "overlay", "-o", data, root]);
  return {
    root,
    base,
    upper,
    unmount: async () => {
      for (const each of [root, upperRoot, lowerRoot]) await runProgram("umount", [each]);
    },
  };
}

async function perform(root: string, [name, a, b]: readonly [string, string, string]): Promise<void> {
  try {
    await OPERATIONS[name]?.(`${root}/${a}`, `${root}/${b}`);
  } catch {
    // It cannot be done here: the other operations go on.
  }
}

/** Without link counts: overlayfs tells those of the layers, hidden names among them. */
function comparable(lines: readonly string[]): string[] {
  return lines.map((line) => line.replace(/ links=\d+ /, " "));
}

async function expectSame(mounted: Mounted, expect: ExpectStatic): Promise<void> {
  using lower = openFilesystem(mounted.base);
  using upper = openFilesystem(mounted.upper);
  const read = await readView({ kind: "overlay", lower, upper, upperPath: "upper" });
  expect(comparable(read.lines)).toEqual(comparable(await describeTree(mounted.root)));
  const visible = parseGetfattr(await attributes(mounted.root));
  expect(read.xattrs).toEqual(visible.filter((line) => !/ trusted\.overlay\./.test(line)));
}

describe.skipIf(!usable)("what overlayfs shows (root, loop devices, overlay)", () => {
  test.for(["redirect_dir=on,index=off", "redirect_dir=on,index=off,metacopy=on", "redirect_dir=off"])(
    "with %s, while it is mounted and afterwards",
    { timeout: SLOW_TEST_MS },
    async (options, { expect }) => {
      await using space = await workspace();
      const { path: base } = await buildChecked(space, layersOf(BASE));
      const compare = async (operations: ReadonlyArray<[string, string, string]>) => {
        const mounted = await mountOverlay(space, base, options);
        try {
          for (const operation of operations) await perform(mounted.root, operation);
          await runProgram("sync", ["-f", mounted.root]);
          await expectSame(mounted, expect);
          await rm(`${mounted.root}/a`, { recursive: true, force: true });
          await runProgram("mount", ["-o", "remount,ro", mounted.root]).catch(() => {});
          await runProgram("sync", ["-f", mounted.root]);
          await expectSame(mounted, expect);
        } finally {
          await mounted.unmount();
        }
        await rm(mounted.upper);
      };
      await fc.assert(fc.asyncProperty(fc.array(OPERATION, { minLength: 5, maxLength: 40 }), compare), {
        ...propertyRuns(5),
        endOnFailure: true,
      });
    },
  );

  test("directories renamed over and into one another", async ({ expect }) => {
    await using space = await workspace();
    const { path: base } = await buildChecked(space, layersOf(BASE));
    const mounted = await mountOverlay(space, base, "redirect_dir=on,index=off");
    try {
      const { root } = mounted;
      await rename(`${root}/a/b`, `${root}/moved`);
      await rename(`${root}/a`, `${root}/moved/a`);
      await rename(`${root}/moved/d`, `${root}/moved/e`);
      await mkdir(`${root}/a`);
      await rename(`${root}/moved/a/d`, `${root}/a/d`);
      await rename(`${root}/c`, `${root}/a/c`);
      await writeFile(`${root}/a/c/d/new`, "new");
      await runProgram("sync", ["-f", root]);
      expect((await lstat(`${root}/moved/a/x`)).size).toBe("x of a/".length);
      await expectSame(mounted, expect);
    } finally {
      await mounted.unmount();
    }
  });
});

import fc from "fast-check";
import { describe, test } from "vitest";
import { newDirectory } from "./inodes.ts";
import { type DirectoryId, FileTree, findPlace, numberInodes, type PlaceId } from "./tree.ts";

/** A tree with two directories at its root, to put things into. */
function twoDirectories(): {
  tree: FileTree;
  root: PlaceId;
  directories: readonly [DirectoryId, DirectoryId];
} {
  const tree = new FileTree();
  const root = tree.addRoot(tree.inodes.add(newDirectory(0o755)));
  const made = (name: string): DirectoryId => {
    const directory = tree.directory(tree.addDirectory(root, name, newDirectory(0o700)));
    if (directory === undefined) throw new Error("it was made a directory");
    return directory;
  };
  return { tree, root, directories: [made("left"), made("right")] };
}

function namesIn(tree: FileTree, directory: DirectoryId): string[] {
  const names: string[] = [];
  for (let place = tree.first(directory); place !== undefined; place = tree.next(place)) {
    names.push(tree.name(place));
  }
  return names;
}

describe("FileTree", () => {
  test("does what maps of names would do, in their order", ({ expect }) => {
    const name = fc.constantFrom("a", "b", "c", "d", "\xff", "long".repeat(60));
    const act = fc.record({ what: fc.constantFrom("add", "move", "remove"), name, side: fc.nat(1) });
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
        const { tree, directories } = twoDirectories();
        const model = [new Set<string>(), new Set<string>()] as const;
        for (const { what, name: each, side } of acts) {
          const directory = directories[side === 0 ? 0 : 1];
          const names = model[side === 0 ? 0 : 1];
          const others = model[side === 0 ? 1 : 0];
          const place = tree.find(directory, each);
          expect(place !== undefined).toBe(names.has(each));
          if (what === "add" && place === undefined) {
            names.add(each);
            tree.add(directory, each, tree.inodes.add(newDirectory(0)));
          } else if (what === "remove" && place !== undefined) {
            names.delete(each);
            tree.filter(directory, (other) => other !== place);
          } else if (what === "move" && !others.has(each)) {
            // As merging does it: what is left behind is of no more use.
            const moved = place ?? tree.add(directory, each, tree.inodes.add(newDirectory(0)));
            if (place !== undefined) tree.filter(directory, (other) => other !== place);
            names.delete(each);
            others.add(each);
            tree.move(moved, directories[side === 0 ? 1 : 0]);
            if (place === undefined) return;
          }
          directories.forEach((one, i) => {
            expect(namesIn(tree, one)).toEqual([...(model[i] ?? [])]);
          });
        }
      }),
    );
  });

  test("finds each of many names, in the directory that has it and in no other", ({ expect }) => {
    const { tree, directories } = twoDirectories();
    const [left, right] = directories;
    const inode = tree.inodes.add(newDirectory(0));
    for (let i = 0; i < 20_000; i++) tree.add(i % 3 === 0 ? left : right, `name-${i}`, inode);
    for (let i = 0; i < 20_000; i++) {
      const [has, lacks] = i % 3 === 0 ? [left, right] : [right, left];
      const place = tree.find(has, `name-${i}`);
      if (place === undefined || tree.name(place) !== `name-${i}`) throw new Error(`name-${i} is lost`);
      if (tree.find(lacks, `name-${i}`) !== undefined) throw new Error(`name-${i} is in the wrong place`);
    }
    expect(tree.find(left, "name-20000")).toBeUndefined();
  });

  test("marks, paths and what a place is stay apart", ({ expect }) => {
    const { tree, root, directories } = twoDirectories();
    const [left] = directories;
    const place = tree.add(left, "n".repeat(255), tree.inodes.add(newDirectory(0)));
    tree.setMarks(place, 0xff_ffff);
    expect([tree.marks(place), tree.nameLength(place)]).toEqual([0xff_ffff, 255]);
    tree.setMarks(place, 1);
    expect([tree.marks(place), tree.name(place)]).toEqual([1, "n".repeat(255)]);
    expect(tree.path(place)).toBe(`left/${"n".repeat(255)}`);
    expect(tree.path(root)).toBe("");
    const made = tree.makeDirectory(place);
    expect([tree.directory(place), tree.place(made), tree.parent(place)]).toEqual([made, place, left]);
    tree.unmakeDirectory(place);
    expect(tree.directory(place)).toBeUndefined();
  });
});

describe("numberInodes", () => {
  test("numbers breadth first and counts links", ({ expect }) => {
    const { tree, root, directories } = twoDirectories();
    const [left, right] = directories;
    const file = tree.inodes.add({ ...newDirectory(0), mode: 0x8000 });
    tree.add(left, "one", file);
    tree.add(right, "two", file);
    const numbered = numberInodes(tree, root, { root: 2, first: 11 });
    expect(numbered.inodes.map((inode) => tree.inodes.number(inode))).toEqual([11, 12, 13]);
    expect(numbered.directories).toEqual([tree.directory(root), left, right]);
    expect([tree.inodes.links(tree.inode(root)), tree.inodes.links(file)]).toEqual([4, 2]);
    expect(findPlace(numbered, file)).toBe(tree.find(left, "one"));
  });
});

import fc from "fast-check";
import type { SparseSegment } from "../tar/pax.ts";
import type { EntryType, TarEntry } from "../tar/reader.ts";
import type { TarContent } from "../tar/writer.ts";

/*
 * Random stacks of layers with everything that a layer may hold, as a tool would write them: every directory has
 * its entry and comes before what is in it, no name comes twice in a layer, links lead to files that are there.
 */

type Kind =
  | "file"
  | "sparse"
  | "directory"
  | "opaque"
  | "opaque-late"
  | "whiteout"
  | "symlink"
  | "link"
  | "link-across"
  | "device"
  | "fifo";

/** An entry, and whatever it needs before it. */
export interface Thing {
  readonly path: string;
  readonly kind: Kind;
  readonly attributes: Attributes;
  readonly salt: number;
}

interface Attributes extends Pick<TarEntry, "mode" | "uid" | "gid" | "mtimeSec" | "mtimeNsec"> {
  /** Small in print: a value is its length. */
  readonly xattrs: ReadonlyArray<{ readonly name: string; readonly length: number }>;
}

const NAMES = ["a", "b", "c", "\xc3\xa9", "\xff\x01\xfe", "new\nline", " ", "n".repeat(200), "x".repeat(255)];

const path: fc.Arbitrary<string> = fc
  .array(fc.oneof({ weight: 4, arbitrary: fc.constantFrom("a", "b", "c") }, fc.constantFrom(...NAMES)), {
    minLength: 1,
    maxLength: 4,
  })
  .map((parts) => parts.join("/"));

const xattr = fc.record({
  name: fc.constantFrom("user.one", "user.two", "trusted.three", `user.${"n".repeat(60)}`),
  length: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 300, max: 900 })),
});

const attributes: fc.Arbitrary<Attributes> = fc.record({
  mode: fc.constantFrom(0o644, 0o755, 0o4711, 0o2755, 0o1777, 0o600, 0o7777, 0),
  uid: fc.constantFrom(0, 1000, 65_535, 65_536, 4_000_000_000),
  gid: fc.constantFrom(0, 1000, 65_536, 3_000_000),
  mtimeSec: fc.constantFrom(0, 1_700_000_000, -2_000_000_000, 2_147_483_647, 2_147_483_648, 8_000_000_000),
  mtimeNsec: fc.constantFrom(0, 1, 999_999_999),
  xattrs: fc.oneof(
    { weight: 2, arbitrary: fc.constant([]) },
    fc.uniqueArray(xattr, { selector: ({ name }) => name, maxLength: 3 }),
  ),
});

const thing: fc.Arbitrary<Thing> = fc.record({
  path,
  kind: fc.constantFrom<Kind>(
    ...(["file", "file", "sparse", "directory", "opaque", "opaque-late", "whiteout", "symlink"] as const),
    ...(["link", "link", "link-across", "device", "fifo"] as const),
  ),
  attributes,
  salt: fc.nat(1000),
});

/** What two to four layers are made of, bottom first. */
export const randomStack: fc.Arbitrary<Thing[][]> = fc.array(fc.array(thing, { maxLength: 12 }), {
  minLength: 2,
  maxLength: 4,
});

/** The layers themselves. */
export function layersOfStack(stack: ReadonlyArray<readonly Thing[]>): TarContent[][] {
  let below: ReadonlySet<string> = new Set();
  return stack.map((things) => {
    const layer = new RandomLayer(below);
    for (const each of things) if (each.kind !== "link-across") layer.add(each);
    for (const each of things) if (each.kind === "link-across") layer.add(each);
    below = layer.filesSeen();
    return layer.finish();
  });
}

const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
const baseOf = (path: string) => path.slice(path.lastIndexOf("/") + 1);
const within = (directory: string, name: string) => (directory === "" ? name : `${directory}/${name}`);

class RandomLayer {
  readonly #contents: TarContent[] = [];
  readonly #late: TarContent[] = [];
  /** Regular files that the layers below show. */
  readonly #below: ReadonlySet<string>;
  readonly #taken = new Set<string>();
  readonly #directories = new Set<string>();
  readonly #opaque = new Set<string>();
  readonly #files: string[] = [];

  constructor(below: ReadonlySet<string>) {
    this.#below = below;
  }

  add(thing: Thing): void {
    const { path, kind } = thing;
    if (!this.#enter(parentOf(path), thing)) return;
    if (kind === "directory" || kind === "opaque" || kind === "opaque-late") {
      this.#addDirectory(thing, kind);
      return;
    }
    if (this.#taken.has(path) || this.#directories.has(path)) return;
    if (kind === "link" || kind === "link-across") {
      const targets =
        kind === "link" ? this.#files : [...this.#below].filter((each) => this.#isUntouched(each));
      const target = targets[thing.salt % Math.max(1, targets.length)];
      // A link in the place of a directory cannot lead to what was in it.
      if (target === undefined || target === path || target.startsWith(`${path}/`)) return;
      this.#taken.add(path);
      this.#push(thing, "link", { path, linkPath: target });
      return;
    }
    if (kind === "whiteout" && baseOf(path).length > 250) return;
    this.#taken.add(path);
    this.#addLeaf(thing, kind);
  }

  /** The regular files that can be seen once this layer lies on those below. */
  filesSeen(): Set<string> {
    return new Set([...[...this.#below].filter((each) => this.#isUntouched(each)), ...this.#files]);
  }

  finish(): TarContent[] {
    return [...this.#contents, ...this.#late];
  }

  #addDirectory(thing: Thing, kind: "directory" | "opaque" | "opaque-late"): void {
    if (!this.#enter(thing.path, thing) || kind === "directory" || this.#opaque.has(thing.path)) return;
    this.#opaque.add(thing.path);
    const marker = { entry: entryOf({ path: `${thing.path}/.wh..wh..opq` }) };
    (kind === "opaque" ? this.#contents : this.#late).push(marker);
  }

  #addLeaf(
    thing: Thing,
    kind: Exclude<Kind, "directory" | "opaque" | "opaque-late" | "link" | "link-across">,
  ): void {
    const { path, salt } = thing;
    switch (kind) {
      case "whiteout":
        this.#contents.push({ entry: entryOf({ path: within(parentOf(path), `.wh.${baseOf(path)}`) }) });
        return;
      case "symlink":
        // Linux gives every symlink this mode.
        this.#push(thing, "symlink", {
          path,
          mode: 0o777,
          linkPath: salt % 2 === 0 ? "a" : "t/".repeat(20 + (salt % 80)),
        });
        return;
      case "device":
        this.#push(thing, salt % 2 === 0 ? "character-device" : "block-device", {
          path,
          // 0:0 would be a whiteout to overlayfs, not to a tar.
          devMajor: 1 + (salt % 300),
          devMinor: salt * 37,
        });
        return;
      case "fifo":
        this.#push(thing, "fifo", { path });
        return;
      case "file":
        this.#files.push(path);
        this.#push(thing, "file", { path, size: salt * 17 }, Buffer.alloc(salt * 17, `${salt} `));
        return;
      case "sparse":
        this.#files.push(path);
        this.#pushSparse(thing);
    }
  }

  #pushSparse(thing: Thing): void {
    const { salt } = thing;
    const sparse: SparseSegment[] = Array.from({ length: salt % 5 }, (_, i) => ({
      offset: i * 50_000 + (salt % 3) * 4096,
      length: 1 + ((salt * 7) % 9000),
    }));
    const data = Buffer.alloc(
      sparse.reduce((total, { length }) => total + length, 0),
      `${salt}.`,
    );
    this.#push(thing, "file", { path: thing.path, size: 300_000 + salt, sparse }, data);
  }

  #push(thing: Thing, type: EntryType, fields: Partial<TarEntry>, data?: Buffer): void {
    const { xattrs: described, ...rest } = thing.attributes;
    const xattrs = described.map(({ name, length }) => ({
      name,
      value: Buffer.alloc(length, `${length}\xff`),
    }));
    // Linux keeps attributes of users for files and directories only.
    const carries = type === "file" || type === "directory";
    const entry = entryOf({
      ...rest,
      ...fields,
      type,
      xattrs: carries && xattrs.length > 0 ? xattrs : undefined,
    });
    this.#contents.push(data === undefined ? { entry } : { entry, data: [data] });
  }

  /** Whether nothing of this layer hides a path of those below. */
  #isUntouched(path: string): boolean {
    if (this.#taken.has(path) || this.#directories.has(path)) return false;
    for (let place = parentOf(path); ; place = parentOf(place)) {
      if (this.#taken.has(place) || this.#opaque.has(place)) return false;
      if (place === "") return true;
    }
  }

  #enter(path: string, thing: Thing): boolean {
    if (path === "") return true;
    if (this.#taken.has(path) || !this.#enter(parentOf(path), thing)) return false;
    if (!this.#directories.has(path)) this.#push(thing, "directory", { path });
    this.#directories.add(path);
    return true;
  }
}

function entryOf(fields: Partial<TarEntry>): TarEntry {
  const entry = {
    path: "",
    type: "file" as const,
    mode: 0o644,
    uid: 0,
    gid: 0,
    size: 0,
    mtimeSec: 1_700_000_000,
    mtimeNsec: 0,
    linkPath: "",
    devMajor: 0,
    devMinor: 0,
    xattrs: undefined,
    sparse: undefined,
    ...fields,
  };
  return { ...entry, atimeSec: entry.mtimeSec, atimeNsec: entry.mtimeNsec };
}

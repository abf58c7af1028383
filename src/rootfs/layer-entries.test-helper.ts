import fc from "fast-check";
import { dir, file, hardLink, symlink, type TestEntry } from "../tar/tar-builder.test-helper.ts";

const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
const baseOf = (path: string) => path.slice(path.lastIndexOf("/") + 1);

type Kind = "file" | "dir" | "whiteout" | "opaque" | "symlink" | "link";

/**
 * Random layers in which every directory has its entry and comes before what is in it, and no name comes twice,
 * as tools write them. Modes and contents are those of `mode`, so that they tell layers apart.
 */
export function layerEntries(
  mode: number,
  kinds: readonly Kind[] = ["file", "dir", "whiteout", "opaque"],
): fc.Arbitrary<TestEntry[]> {
  const name = fc.constantFrom("a", "b", "c");
  const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
  const thing = fc.record({ path, kind: fc.constantFrom(...kinds) });
  return fc.array(thing, { maxLength: 8 }).map((things) => {
    const layer = new RandomLayer(mode);
    for (const each of things) layer.add(each.path, each.kind);
    return layer.entries;
  });
}

class RandomLayer {
  readonly entries: TestEntry[] = [];
  readonly #mode: number;
  readonly #taken = new Set<string>();
  readonly #files: string[] = [];
  readonly #directories = new Set<string>();

  constructor(mode: number) {
    this.#mode = mode;
  }

  add(path: string, kind: Kind): void {
    if (!this.#enter(parentOf(path))) return;
    if (kind === "dir" || kind === "opaque") {
      if (this.#enter(path) && kind === "opaque") this.entries.push(file(`${path}/.wh..wh..opq`, ""));
      return;
    }
    if (this.#taken.has(path) || this.#directories.has(path)) return;
    this.#taken.add(path);
    this.entries.push(this.#leaf(path, kind));
  }

  #leaf(path: string, kind: "file" | "whiteout" | "symlink" | "link"): TestEntry {
    const mode = this.#mode;
    const target = this.#files[path.length % Math.max(1, this.#files.length)];
    if (kind === "link" && target !== undefined) return hardLink(path, target);
    switch (kind) {
      case "whiteout":
        return file(`${parentOf(path)}${parentOf(path) === "" ? "" : "/"}.wh.${baseOf(path)}`, "");
      case "symlink":
        return symlink(path, `target-of-${mode}`);
      case "file":
      case "link":
        this.#files.push(path);
        return file(path, `${path} of ${mode}`, { mode });
    }
  }

  #enter(path: string): boolean {
    if (path === "") return true;
    if (this.#taken.has(path) || !this.#enter(parentOf(path))) return false;
    if (!this.#directories.has(path)) this.entries.push(dir(path, { mode: this.#mode }));
    this.#directories.add(path);
    return true;
  }
}

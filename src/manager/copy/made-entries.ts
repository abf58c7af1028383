import { FirectlError } from "../../core/errors.ts";
import { MIB } from "../../core/units.ts";
import type { TarEntry } from "../../tar/reader.ts";

/** What a directory gets when nothing is made in it any more. */
export type DirectoryAttributes = Pick<TarEntry, "mode" | "uid" | "gid" | "mtimeSec" | "mtimeNsec">;

/** How much may be kept of names that a guest chose. */
interface Limits {
  readonly entries: number;
  readonly pathBytes: number;
}

const LIMITS: Limits = { entries: 4_000_000, pathBytes: 256 * MIB };

/** The files and directories that a copy has made, each once, however often the guest names it. */
export class MadeEntries {
  readonly #limits: Limits;
  readonly #files = new Set<string>();
  readonly #directories = new Map<string, DirectoryAttributes>();
  #pathBytes = 0;

  constructor(limits: Limits = LIMITS) {
    this.#limits = limits;
  }

  /** @throws FirectlError UNSUPPORTED when more would have to be kept than there is room for. */
  addFile(path: string): void {
    if (!this.#files.has(path)) this.#takeRoom(path);
    this.#files.add(path);
  }

  hasFile(path: string): boolean {
    return this.#files.has(path);
  }

  /** Of a directory that comes again the last attributes count. @throws FirectlError as `addFile`. */
  addDirectory(path: string, { mode, uid, gid, mtimeSec, mtimeNsec }: DirectoryAttributes): void {
    if (!this.#directories.has(path)) this.#takeRoom(path);
    this.#directories.set(path, { mode, uid, gid, mtimeSec, mtimeNsec });
  }

  /** Those within a directory before the directory. */
  directoriesInsideFirst(): Array<readonly [path: string, attributes: DirectoryAttributes]> {
    return [...this.#directories].reverse();
  }

  #takeRoom(path: string): void {
    const { entries, pathBytes } = this.#limits;
    this.#pathBytes += path.length;
    const isFull = this.#files.size + this.#directories.size === entries;
    if (!isFull && this.#pathBytes <= pathBytes) return;
    const limit = isFull
      ? `more than ${entries} files and directories`
      : `files and directories whose paths have more than ${pathBytes} bytes`;
    throw new FirectlError("UNSUPPORTED", `the copy has ${limit}`, {
      hint: "copy it as an archive: firectl cp VM:PATH - | tar -x",
    });
  }
}

import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { readdir, readFile, rm, stat } from "node:fs/promises";
import path from "node:path";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { exists, ioError, makePrivateDirectory, readTextIfPresent, writeFileAtomic } from "../host/files.ts";
import { extractVmlinux } from "./extract-vmlinux.ts";
import { importKernel, type KernelSource, releaseOfImage } from "./import-kernel.ts";
import { type Kernel, MANIFEST_FILE, parseManifest } from "./kernel.ts";

export interface KernelStoreOptions {
  /** Holds a directory for each installed kernel. */
  readonly root: string;
  /** Holds what can be made again: kernels given by path. */
  readonly cacheDir: string;
}

/** Holds the name of the default kernel; a kernel's name cannot begin with a dot. */
const DEFAULT_FILE = ".default";
const NAME = /^[A-Za-z0-9][\w.+-]{0,63}$/;
const UNCOMPRESSED_FILE = "vmlinux";

/** The kernels that guests boot, each a directory of its own with a manifest. */
export class Kernels {
  readonly #root: string;
  readonly #cacheDir: string;

  constructor(options: KernelStoreOptions) {
    this.#root = options.root;
    this.#cacheDir = options.cacheDir;
  }

  /**
   * Installs a kernel under `name`, by default its release. The first kernel becomes the default.
   * @throws FirectlError NAME_IN_USE; INVALID_ARGUMENT when it is no kernel that a guest can boot.
   */
  async add(source: KernelSource & { readonly name?: string | undefined }): Promise<Kernel> {
    const name = source.name ?? (await releaseOfImage(source.image)) ?? path.basename(source.image);
    const directory = this.#directoryOf(name);
    await makePrivateDirectory(this.#root);
    await importKernel(source, directory);
    if ((await this.#defaultName()) === undefined) await this.setDefault(name);
    return this.#load(name, directory);
  }

  /** All installed kernels, by name. */
  async list(): Promise<Kernel[]> {
    let names: string[];
    try {
      names = (await readdir(this.#root)).filter((name) => NAME.test(name)).sort();
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return [];
      throw ioError(`cannot read ${this.#root}`, error);
    }
    return Promise.all(names.map((name) => this.#load(name, path.join(this.#root, name))));
  }

  /** The kernel of guests that name none; undefined when none is installed. */
  async default(): Promise<Kernel | undefined> {
    const name = await this.#defaultName();
    if (name === undefined) return undefined;
    return this.#load(name, this.#directoryOf(name));
  }

  /** @throws FirectlError KERNEL_NOT_FOUND. */
  async setDefault(name: string): Promise<void> {
    await this.#load(name, this.#directoryOf(name));
    await writeFileAtomic(path.join(this.#root, DEFAULT_FILE), `${name}\n`);
  }

  /** Removes an installed kernel; guests that run have it in memory. @throws FirectlError KERNEL_NOT_FOUND. */
  async remove(name: string): Promise<void> {
    const { directory } = await this.#load(name, this.#directoryOf(name));
    if ((await this.#defaultName()) === name) await rm(path.join(this.#root, DEFAULT_FILE), { force: true });
    try {
      await rm(directory, { recursive: true });
    } catch (error) {
      throw ioError(`cannot remove the kernel ${name}`, error);
    }
  }

  /**
   * The kernel that the user means: the name of an installed one, or, with a slash in it, a kernel file whose
   * modules lie in `modules/` beside it or in /lib/modules.
   * @throws FirectlError KERNEL_NOT_FOUND, FILE_NOT_FOUND, INVALID_ARGUMENT.
   */
  async find(nameOrPath: string): Promise<Kernel> {
    return nameOrPath.includes("/")
      ? this.#adopt(path.resolve(nameOrPath))
      : this.#load(nameOrPath, this.#directoryOf(nameOrPath));
  }

  /**
   * Path of the kernel's image in a form that the VMM loads: unpacked (once) when `compressed` is false and
   * the kernel is a bzImage.
   */
  async imagePath(kernel: Kernel, options: { readonly compressed: boolean }): Promise<string> {
    const image = path.join(kernel.directory, kernel.image);
    if (options.compressed || kernel.format !== "bzImage") return image;
    const unpacked = path.join(kernel.directory, UNCOMPRESSED_FILE);
    if (!(await exists(unpacked))) {
      await writeFileAtomic(unpacked, await extractVmlinux(await readFile(image), image));
    }
    return unpacked;
  }

  /** Takes a kernel file outside the store into the cache, once for each state of the file. */
  async #adopt(image: string): Promise<Kernel> {
    const found = await stat(image, { bigint: true }).catch((error: unknown) => {
      if (errnoOf(error) !== "ENOENT") throw ioError(`cannot look at ${image}`, error);
      throw new FirectlError("FILE_NOT_FOUND", `there is no kernel at ${image}`);
    });
    const key = createHash("sha256").update(`${image}\0${found.size}\0${found.mtimeNs}`).digest("hex");
    const directory = path.join(this.#cacheDir, key.slice(0, 32));
    if (!(await exists(path.join(directory, MANIFEST_FILE)))) {
      await makePrivateDirectory(this.#cacheDir);
      const modulesDirectory = await modulesOf(image);
      await importKernel({ image, modulesDirectory }, directory).catch((error: unknown) => {
        // Another firectl was faster: what it has made is the same.
        if (!(error instanceof FirectlError && error.code === "NAME_IN_USE")) throw error;
      });
    }
    return this.#load(image, directory);
  }

  async #load(name: string, directory: string): Promise<Kernel> {
    const text = await readTextIfPresent(path.join(directory, MANIFEST_FILE));
    if (text === undefined) {
      throw new FirectlError("KERNEL_NOT_FOUND", `no kernel "${name}" is installed`, {
        hint: "firectl kernel list shows those that are; firectl kernel add installs one",
      });
    }
    const kernel = parseManifest(text, { name, directory });
    if (kernel === undefined)
      throw damaged(directory, `${path.join(directory, MANIFEST_FILE)} cannot be read`);
    const image = path.join(directory, kernel.image);
    const size = statSync(image, { throwIfNoEntry: false })?.size ?? 0;
    if (size === kernel.size) return kernel;
    throw damaged(
      directory,
      `${image} has ${size} bytes, and kernel "${name}" was installed with ${kernel.size}`,
    );
  }

  async #defaultName(): Promise<string | undefined> {
    const name = (await readTextIfPresent(path.join(this.#root, DEFAULT_FILE)))?.trim();
    return name === undefined || !NAME.test(name) ? undefined : name;
  }

  #directoryOf(name: string): string {
    if (NAME.test(name)) return path.join(this.#root, name);
    throw new FirectlError("INVALID_ARGUMENT", `"${name}" cannot be the name of a kernel`, {
      hint: "use letters, digits, and . _ + - after the first; a path needs a slash",
    });
  }
}

function damaged(directory: string, message: string): FirectlError {
  return new FirectlError("STATE_CORRUPT", message, {
    hint: `remove ${directory} and add the kernel again`,
  });
}

async function modulesOf(image: string): Promise<string | undefined> {
  const release = await releaseOfImage(image);
  const candidates = [
    path.join(path.dirname(image), "modules"),
    ...(release === undefined ? [] : [path.join("/lib/modules", release)]),
  ];
  for (const candidate of candidates) {
    if (await exists(path.join(candidate, "modules.builtin"))) return candidate;
  }
  return undefined;
}

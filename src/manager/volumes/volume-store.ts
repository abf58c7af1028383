import { randomUUID } from "node:crypto";
import { rename, rm } from "node:fs/promises";
import path from "node:path";
import * as z from "zod/mini";
import { errnoOf, FirectlError, messageOf } from "../../core/errors.ts";
import { withFileLock } from "../../host/file-lock.ts";
import {
  ioError,
  makePrivateDirectory,
  namesIn,
  readTextIfPresent,
  syncDirectory,
  writeFileAtomic,
} from "../../host/files.ts";
import { createWritableDisk } from "../../rootfs/writable-disk.ts";
import { isVolumeName } from "./volume-names.ts";

/** The directory of a volume's disk that the workload sees. */
export const VOLUME_DATA = "data";
/** What marks a volume that nobody has named; Docker's own label. */
export const ANONYMOUS_LABEL = "com.docker.volume.anonymous";

/** Making and removing take milliseconds; fifty that wait for each other may take longer on a slow machine. */
const LOCK_TIMEOUT_MS = 60_000;
const DESCRIPTION = "volume.json";

const description = z.object({
  name: z.string(),
  /** RFC 3339. */
  createdAt: z.string(),
  labels: z.record(z.string(), z.string()),
  sizeBytes: z.int().check(z.positive()),
  /** As the user gave them. */
  options: z.record(z.string(), z.string()),
});

/** A volume as it stands in the store. */
export type StoredVolume = z.infer<typeof description>;

/**
 * The volumes of one data directory, each a directory with a description and an ext4 disk. A volume gets its name,
 * and loses it, by one rename: whoever is killed leaves what {@link sweep} removes. Readers need no lock.
 */
export class VolumeStore {
  readonly root: string;

  constructor(dataDirectory: string) {
    this.root = path.join(dataDirectory, "volumes");
  }

  /** The disk of the volume `name`, whether it is there or not. */
  diskPath(name: string): string {
    return path.join(this.root, name, "disk.ext4");
  }

  /** Makes a volume unless there is one of that name; returns the one that is there, and whether it is new. */
  async create(volume: StoredVolume): Promise<{ volume: StoredVolume; isNew: boolean }> {
    const existing = await this.find(volume.name);
    if (existing !== undefined) return { volume: existing, isNew: false };
    return this.#locked(async () => {
      const meanwhile = await this.find(volume.name);
      if (meanwhile !== undefined) return { volume: meanwhile, isNew: false };
      const temporary = this.#temporary();
      await makePrivateDirectory(temporary);
      try {
        await createWritableDisk({
          path: path.join(temporary, "disk.ext4"),
          sizeBytes: volume.sizeBytes,
          uuid: randomUUID(),
          directories: [{ name: VOLUME_DATA, mode: 0o755 }],
          sync: true,
        });
        await writeFileAtomic(path.join(temporary, DESCRIPTION), `${JSON.stringify(volume, null, 2)}\n`);
        await rename(temporary, path.join(this.root, volume.name));
      } catch (error) {
        await rm(temporary, { recursive: true, force: true });
        throw ioError(`cannot create the volume ${volume.name}`, error);
      }
      await syncDirectory(this.root);
      return { volume, isNew: true };
    });
  }

  /** @throws FirectlError STATE_CORRUPT when its description cannot be read. */
  async find(name: string): Promise<StoredVolume | undefined> {
    if (!isVolumeName(name)) return undefined;
    const file = path.join(this.root, name, DESCRIPTION);
    const text = await readTextIfPresent(file);
    if (text === undefined) return undefined;
    try {
      return description.parse(JSON.parse(text));
    } catch (error) {
      throw new FirectlError("STATE_CORRUPT", `${file} does not describe a volume: ${messageOf(error)}`, {
        hint: `mend it; the volume's files are in ${this.diskPath(name)}`,
        cause: error,
      });
    }
  }

  /** @throws FirectlError VOLUME_NOT_FOUND. */
  async get(name: string): Promise<StoredVolume> {
    const volume = await this.find(name);
    if (volume !== undefined) return volume;
    throw new FirectlError("VOLUME_NOT_FOUND", `there is no volume "${name}"`, {
      hint: "firectl volume ls shows all",
    });
  }

  /** All volumes, by name. */
  async list(): Promise<readonly StoredVolume[]> {
    const names = (await namesIn(this.root)).filter(isVolumeName).sort();
    const volumes = await Promise.all(names.map((name) => this.find(name)));
    return volumes.filter((volume) => volume !== undefined);
  }

  /**
   * Removes a volume; returns whether there was one. Whether it is in use is the caller's to know, who holds the
   * records meanwhile.
   */
  async remove(name: string): Promise<boolean> {
    if ((await this.find(name)) === undefined) return false;
    return this.#locked(async () => {
      const temporary = this.#temporary();
      try {
        await rename(path.join(this.root, name), temporary);
      } catch (error) {
        if (errnoOf(error) === "ENOENT") return false;
        throw ioError(`cannot remove the volume ${name}`, error);
      }
      await rm(temporary, { recursive: true, force: true });
      return true;
    });
  }

  /** Removes what those have left who were killed while they made or removed a volume. */
  async sweep(): Promise<void> {
    if ((await namesIn(this.root)).some(isTemporary)) await this.#locked(async () => {});
  }

  #temporary(): string {
    return path.join(this.root, `.${randomUUID()}.tmp`);
  }

  async #locked<T>(work: () => Promise<T>): Promise<T> {
    await makePrivateDirectory(this.root);
    return withFileLock(path.join(this.root, ".lock"), { timeoutMs: LOCK_TIMEOUT_MS }, async () => {
      // Whoever made them is gone: he would have the lock.
      for (const name of (await namesIn(this.root)).filter(isTemporary)) {
        await rm(path.join(this.root, name), { recursive: true, force: true });
      }
      return work();
    });
  }
}

function isTemporary(name: string): boolean {
  return /^\.[0-9a-f-]{36}\.tmp$/.test(name);
}

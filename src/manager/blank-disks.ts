import { readFileSync } from "node:fs";
import path from "node:path";
import { errnoOf, FirectlError } from "../core/errors.ts";
import { ioError, makePrivateDirectory, writeFileAtomic } from "../host/files.ts";
import { randomUuid } from "../host/random.ts";
import { createFromTemplate } from "../rootfs/disk-template.ts";

/** Where the templates of blank disks are kept: one for each size, some 50 KB. */
export function blankDisksDirectory(dataDirectory: string): string {
  return path.join(dataDirectory, "blank-disks");
}

/** The template for disks of a size, in bytes. */
export function blankDiskPath(dataDirectory: string, sizeBytes: number): string {
  return path.join(blankDisksDirectory(dataDirectory), String(sizeBytes));
}

/**
 * Makes a VM's blank writable disk. The first one of a size is worked out and leaves a template: the others are
 * copies of it, with the same UUID and the same times of their two directories, which nothing goes by.
 * @throws FirectlError NO_SPACE, IO_FAILED.
 */
export async function makeBlankDisk(options: {
  readonly path: string;
  readonly sizeBytes: number;
  readonly dataDirectory: string;
}): Promise<void> {
  const { sizeBytes } = options;
  const templatePath = blankDiskPath(options.dataDirectory, sizeBytes);
  const template = readTemplate(templatePath);
  if (template !== undefined && (await createFromTemplate(options.path, template, sizeBytes))) return;
  const { createWritableDisk } = await import("../rootfs/writable-disk.ts");
  let made: Buffer | undefined;
  await createWritableDisk({
    path: options.path,
    sizeBytes,
    uuid: randomUuid(),
    directories: [
      { name: "upper", mode: 0o755 },
      { name: "work", mode: 0o755 },
    ],
    onTemplate: (bytes) => {
      made = bytes;
    },
  });
  if (made !== undefined) await keepTemplate(templatePath, made);
}

/** The disk is made: that its template cannot be kept, or is collected meanwhile, is no reason to fail. */
async function keepTemplate(file: string, template: Buffer): Promise<void> {
  try {
    await makePrivateDirectory(path.dirname(file));
    await writeFileAtomic(file, template);
  } catch (error) {
    if (!(error instanceof FirectlError)) throw error;
  }
}

function readTemplate(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw ioError(`cannot read ${file}`, error);
  }
}

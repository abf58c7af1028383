import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import {
  gzipLayer,
  makeImage,
  type TarEntry,
  type TestImage,
  tar,
  writeLayout,
} from "../image/image.test-helper.ts";
import type { LocalImage } from "../image/images.ts";
import type { VmRecord } from "../state/vm-record.ts";
import { baseDirectoryOf } from "./base-files.ts";
import { obtainBaseImage } from "./base-image.ts";
import type { Context } from "./context.ts";
import { openContext } from "./open-context.ts";
import { createRecord } from "./record-for.ts";
import { changeRecord } from "./records.ts";
import { environmentIn } from "./store-worker.test-helper.ts";
import { vmPathsOf } from "./vm-paths.ts";

/** A firectl of its own, with directories that go away with the test. */
export async function freshContext(
  home: string = temporaryDirectory(),
  env: NodeJS.ProcessEnv = {},
): Promise<Context> {
  return openContext({ env: { ...environmentIn(home), ...env } });
}

/** A layer of one file. */
export function layerOf(name: string, content: string | Uint8Array = name): ReturnType<typeof gzipLayer> {
  const entry: TarEntry = { name, content: Buffer.from(content) };
  return gzipLayer(tar([entry]));
}

/** Puts an image into the store under `name`. */
export async function addImage(
  context: Context,
  name: string,
  image: TestImage = makeImage(),
): Promise<LocalImage> {
  const layout = temporaryDirectory();
  await writeLayout(layout, [{ image, tag: "x" }]);
  const images = await context.images();
  const reference = `oci:${layout}:x`;
  const { manifestDigest } = await images.obtain(reference, { pull: "always" });
  await images.tag(manifestDigest, name);
  const { items } = await images.select(reference);
  await images.forget({
    digests: new Set(),
    loses: (entry) => items.some((item) => item.entry.reference === entry.reference),
  });
  const local = await images.find(name);
  if (local === undefined) throw new Error(`${name} was just tagged`);
  return local;
}

export interface AddVmOptions {
  readonly name?: string;
  readonly state?: "exited" | "running";
  readonly storage?: "overlay" | "copy";
}

/** Puts a VM of the image on record, with its filesystem, as `run` would; nothing runs. */
export async function addVm(
  context: Context,
  image: LocalImage,
  options: AddVmOptions = {},
): Promise<VmRecord> {
  const base = await obtainBaseImage(context, image, {
    ...(options.storage === "copy" ? { writableBytes: 64 * 1024 * 1024 } : {}),
  });
  const begun = await beginVm(context, image.reference, options.name);
  const { rootfs } = vmPathsOf(context.directories, begun.id);
  await mkdir(path.dirname(rootfs), { recursive: true });
  await writeFile(rootfs, "disk");
  const drives = options.storage === "copy" ? [rootfs] : [base.path, rootfs];
  const record = await changeRecord(context.vms, begun.id, (record) => ({
    ...record,
    imageName: image.reference,
    imageDigest: image.manifestDigest,
    state: options.state ?? "exited",
    machine: {
      vcpuCount: 1,
      memoryMib: 128,
      bootSource: { kernelImagePath: "/k", initrdPath: "/i", kernelArguments: [] },
      drives: drives.map((file, index) => ({
        id: `${index}`,
        path: file,
        readOnly: false,
        cache: "unsafe" as const,
      })),
      vsock: { guestCid: 3, socketPath: "/s" },
    },
  }));
  if (record === undefined) throw new Error("it was just made");
  return record;
}

/** A VM that `run` has just begun to make, owned by this process. */
export function beginVm(context: Context, imageName: string, name?: string): Promise<VmRecord> {
  return createRecord(context, {
    name,
    imageName,
    size: { cpus: 1, memoryMib: 128, diskBytes: 1 << 30, logBytes: 16 * 1024 * 1024, stopTimeoutMs: 1000 },
    labels: {},
    autoRemove: false,
    attached: false,
  });
}

/** Removes a VM as `rm` would. */
export async function dropVm(context: Context, { id }: VmRecord): Promise<void> {
  await rm(vmPathsOf(context.directories, id).rootfs, { force: true });
  await context.vms.update((records) => ({
    records: records.filter((record) => record.id !== id),
    result: undefined,
  }));
}

/** Names of what lies there: blobs by the beginning of their digest, bases by that of their key. */
export async function contentsOf(context: Context): Promise<{ blobs: number; bases: number }> {
  const [blobs, bases] = await Promise.all(
    [path.join(context.directories.data, "images/blobs/sha256"), baseDirectoryOf(context)].map((directory) =>
      readdir(directory).catch(() => []),
    ),
  );
  return { blobs: blobs?.length ?? 0, bases: bases?.length ?? 0 };
}

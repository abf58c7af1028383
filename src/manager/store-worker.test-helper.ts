import { open, stat } from "node:fs/promises";
import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import type { LocalImage } from "../image/images.ts";
import { obtainBaseImage } from "./base-image.ts";
import type { Context } from "./context.ts";
import { openContext } from "./open-context.ts";
import { prune } from "./prune.ts";
import { createRecord } from "./record-for.ts";
import { changeRecord, dropRecord } from "./records.ts";
import { removeImage } from "./remove-image.ts";

/** The environment of a firectl that has its directories in `home`. */
export function environmentIn(home: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env["PATH"],
    FIRECTL_CONFIG_DIR: path.join(home, "config"),
    FIRECTL_DATA_DIR: path.join(home, "data"),
    FIRECTL_RUNTIME_DIR: path.join(home, "run"),
  };
}

/** What a process of the tests does, again and again. */
export type Work = "pull" | "tag" | "remove" | "prune" | "prune all" | "use";

/**
 * Does `work` with the firectl in `home` and the images `oci:LAYOUT:<0…>`, `times` times, and writes its pid to
 * stdout before. What other workers may rightly have come in the way of is no failure.
 */
export async function doWork(argv: readonly string[]): Promise<void> {
  const [work, home = "", layout = "", count = "1", times = "1"] = argv;
  const context = await openContext({ env: environmentIn(home) });
  process.stdout.write(`${process.pid}\n`);
  for (let turn = 0; turn < Number(times); turn++) {
    const name = `oci:${layout}:${turn % Number(count)}`;
    await once(context, { work, name, turn }).catch((error: unknown) => {
      const isRight =
        error instanceof FirectlError && (error.code === "IMAGE_NOT_FOUND" || error.code === "WRONG_STATE");
      if (!isRight || work === "use" || work === "prune") throw error;
    });
  }
}

async function once(
  context: Context,
  { work, name, turn }: { work: string | undefined; name: string; turn: number },
): Promise<void> {
  const images = await context.images();
  switch (work) {
    case "pull":
      await images.obtain(name, { pull: "always" });
      return;
    case "tag":
      await images.tag(name, `moving:${turn % 2}`);
      return;
    case "remove":
      await removeImage(context, turn % 2 === 0 ? name : `moving:${turn % 3}`, { force: turn % 5 === 0 });
      return;
    case "prune":
      await prune(context, {});
      return;
    case "prune all":
      await prune(context, { all: true });
      return;
    case "use":
      await useImage(context, name);
      return;
    default:
      throw new Error(`no such work: ${work}`);
  }
}

/** What `run` does with an image, up to the VM's removal; fails when anything is taken from under it. */
async function useImage(context: Context, name: string): Promise<void> {
  const images = await context.images();
  const record = await createRecord(context, {
    imageName: name,
    size: { cpus: 1, memoryMib: 128, diskBytes: 1 << 30, logBytes: 16 * 1024 * 1024, stopTimeoutMs: 1000 },
    labels: {},
    autoRemove: true,
    attached: true,
  });
  try {
    const image = await images.obtain(name, { pull: "missing" });
    const base = await obtainBaseImage(context, image, {});
    // What the VMM does with it, before the record says so and after.
    const { size } = await stat(base.path);
    await changeRecord(context.vms, record.id, (current) => ({
      ...current,
      state: "running",
      imageName: image.reference,
      imageDigest: image.manifestDigest,
      machine: {
        vcpuCount: 1,
        memoryMib: 128,
        bootSource: { kernelImagePath: "/k", initrdPath: "/i", kernelArguments: [] },
        drives: [{ id: "rootfs", path: base.path, readOnly: true, cache: "unsafe" }],
        vsock: { guestCid: 3, socketPath: "/s" },
      },
    }));
    await using file = await open(base.path, "r");
    if ((await file.stat()).size !== size) throw new Error(`${base.path} has changed`);
    await wholeImage(context, image);
  } finally {
    await dropRecord(context.vms, record.id);
  }
}

/** @throws FirectlError when anything of the image is missing or damaged. */
export async function wholeImage(context: Context, image: LocalImage): Promise<void> {
  const images = await context.images();
  await images.rawConfig(image);
  for (const layer of image.layers) for await (const _ of images.openLayer(layer));
}

import { readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { build } from "esbuild";
import { beforeAll, describe, expect, test } from "vitest";
import { bundleProgram } from "../core/bundle.test-helper.ts";
import { runProgram, streamProgram } from "../host/process.ts";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { makeImage, noise, type TestImage, writeLayout } from "../image/image.test-helper.ts";
import type { Context } from "./context.ts";
import { addImage, addVm, contentsOf, freshContext, layerOf } from "./images.test-helper.ts";
import { prune } from "./prune.ts";
import { doWork, type Work, wholeImage } from "./store-worker.test-helper.ts";

const IMAGES = 3;
let program: string;
let layout: string;

beforeAll(async () => {
  program = path.join(temporaryDirectory(), "work.mjs");
  // What tells firectl where it is installed.
  await writeFile(path.join(path.dirname(program), "package.json"), "{}");
  layout = temporaryDirectory();
  const shared = layerOf("shared", noise(300_000, "shared"));
  const images = Array.from({ length: IMAGES }, (_, index) => ({
    image: makeImage({ layers: [shared, layerOf("own", noise(200_000, `own ${index}`))] }),
    tag: `${index}`,
  }));
  await writeLayout(layout, images);
  await bundleProgram(
    program,
    `import { ${doWork.name} } from "./store-worker.test-helper.ts"; await ${doWork.name}(process.argv.slice(2));`,
    import.meta.dirname,
  );
  await build({
    entryPoints: [path.join(import.meta.dirname, "../image/unpack/worker.ts")],
    outfile: path.join(path.dirname(program), "dist/image/unpack/worker.cjs"),
    bundle: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    logLevel: "error",
  });
});

function argumentsOf(work: Work, home: string, times: number): string[] {
  return [program, work, home, layout, `${IMAGES}`, `${times}`];
}

/** An image and a VM of another one, which whatever the workers do must leave whole. */
async function withVm(home: string): Promise<{ context: Context; check: () => Promise<void> }> {
  const context = await freshContext(home);
  const make = (seed: string): TestImage => makeImage({ layers: [layerOf("a", noise(50_000, seed))] });
  const used = await addImage(context, "used:1", make("used"));
  const vm = await addVm(context, used);
  const base = vm.machine?.drives[0]?.path ?? "";
  const before = await readFile(base);
  return {
    context,
    async check() {
      const images = await context.images();
      const found = await images.find("used:1", {});
      expect(found?.manifestDigest).toBe(used.manifestDigest);
      await wholeImage(context, used);
      expect((await readFile(base)).equals(before)).toBe(true);
    },
  };
}

/** Everything that the index names is whole, and a prune leaves nothing else. */
async function checkStore(context: Context): Promise<void> {
  const store = path.join(context.directories.data, "images");
  const { manifests } = JSON.parse(await readFile(path.join(store, "index.json"), "utf8"));
  const images = await context.images();
  const stored = await images.list();
  expect(stored.length).toBeGreaterThanOrEqual(
    new Set(manifests.map(({ digest }: { digest: string }) => digest)).size,
  );
  for (const { image } of stored) await wholeImage(context, image);
  await prune(context, {});
  const left = await images.list();
  const blobs = new Set(
    left.flatMap(({ image }) => [
      image.manifestDigest,
      image.configDigest,
      ...image.layers.map((layer) => layer.digest),
    ]),
  );
  expect(await contentsOf(context)).toMatchObject({ blobs: blobs.size });
  expect(await readdir(path.join(store, "ingest"))).toEqual([]);
  expect((await readdir(store)).sort()).toEqual([
    "blobs",
    "images",
    "index.json",
    "ingest",
    "locks",
    "oci-layout",
  ]);
  for (const { image } of left) await wholeImage(context, image);
}

describe("processes side by side", () => {
  test("take nothing from one another, nor from VMs", { timeout: 120_000 }, async () => {
    const home = temporaryDirectory();
    const { context, check } = await withVm(home);
    const works: readonly [Work, number][] = [
      ["pull", 8],
      ["use", 8],
      ["use", 8],
      ["tag", 15],
      ["remove", 15],
      ["prune", 8],
      ["prune all", 8],
    ];
    await Promise.all(
      works.map(([work, times]) =>
        runProgram(process.execPath, argumentsOf(work, home, times), { env: { PATH: process.env["PATH"] } }),
      ),
    );
    await check();
    await checkStore(context);
  });
});

describe("a process killed at any moment", () => {
  test.each<[Work, number]>([
    ["prune all", 8],
    ["remove", 8],
    ["tag", 8],
    ["pull", 8],
    ["use", 8],
  ])("of %s leaves a store that is whole", { timeout: 120_000 }, async (work, kills) => {
    const home = temporaryDirectory();
    const { context, check } = await withVm(home);
    const images = await context.images();
    for (let count = 0; count < kills; count++) {
      for (let index = 0; index < IMAGES; index++) {
        await images.obtain(`oci:${layout}:${index}`, { pull: "always" });
      }
      await images.tag(`oci:${layout}:0`, "moving:0");
      const child = streamProgram(process.execPath, [...argumentsOf(work, home, 1000)]);
      await killAfter(child, 5 + Math.random() * 120);
      await check();
    }
    await context.vms.update((records) => ({
      // As `reconcile` does with what killed processes were making.
      records: records.filter(({ imageDigest, state }) => imageDigest !== null && state === "exited"),
      result: undefined,
    }));
    await checkStore(context);
    await check();
  });
});

/** Ends a worker `ms` after it has begun, in whatever it does. */
async function killAfter(child: ReturnType<typeof streamProgram>, ms: number): Promise<void> {
  for await (const line of child.stdout) {
    await sleep(ms);
    process.kill(Number(Buffer.from(line).toString("utf8")), "SIGKILL");
  }
  await expect(child.finished).rejects.toThrow("SIGKILL");
}

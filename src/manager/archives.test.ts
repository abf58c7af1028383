import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { dir, file, tarOf } from "../tar/tar-builder.test-helper.ts";
import { Firectl } from "./firectl.ts";

const root = tarOf([dir("bin/"), file("bin/true", "true")]);

async function openFirectl(): Promise<Firectl> {
  const directory = temporaryDirectory();
  return Firectl.open({
    env: {
      PATH: process.env["PATH"],
      FIRECTL_CONFIG_DIR: path.join(directory, "config"),
      FIRECTL_DATA_DIR: path.join(directory, "data"),
      FIRECTL_RUNTIME_DIR: path.join(directory, "run"),
    },
  });
}

async function* piecesOf(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 700) yield bytes.subarray(at, at + 700);
}

describe("importImage, saveImages, loadImages", () => {
  test("what is imported, saved and loaded elsewhere is the same image", async () => {
    const [here, there] = [await openFirectl(), await openFirectl()];
    const archive = path.join(temporaryDirectory(), "archive.tar");
    const imported = await here.importImage(piecesOf(root), {
      name: "app:1",
      changes: ['CMD ["/bin/true"]', "ENV A=b"],
      message: "by a test",
    });
    expect(imported.names).toEqual(["app:1"]);
    await here.saveImages(["app:1"], { output: archive });
    const chunks: Uint8Array[] = [];
    await here.saveImages(["app:1"], { output: (chunk) => chunks.push(chunk) });
    expect(Buffer.concat(chunks).equals(readFileSync(archive))).toBe(true);
    expect(await there.loadImages({ file: archive })).toEqual([imported]);
    expect(await there.loadImages({ input: piecesOf(readFileSync(archive)) })).toEqual([imported]);
    expect(await there.inspectImage("app:1")).toMatchObject({
      Config: { Cmd: ["/bin/true"], Env: ["A=b"] },
      History: [{ comment: "by a test" }],
    });
  });

  test("an image without a name is known by its digest, and can be given one", async () => {
    const firectl = await openFirectl();
    const archive = path.join(temporaryDirectory(), "root.tar");
    writeFileSync(archive, root);
    const imported = await firectl.importImage(archive);
    expect(imported.names).toEqual([]);
    const [listed] = await firectl.listImages();
    expect(listed).toMatchObject({ digest: imported.digest, dangling: true });
    await firectl.tagImage(imported.digest, "named");
    expect((await firectl.listImages()).map(({ repository }) => repository)).toEqual(["named"]);
  });

  test("a failure leaves no image, and no file that is not whole", async () => {
    const firectl = await openFirectl();
    const directory = temporaryDirectory();
    for (const name of ["docker:app", "app@sha256:x", "oci:dir"]) {
      await expect(firectl.importImage(piecesOf(root), { name })).rejects.toThrow();
    }
    await expect(firectl.importImage(piecesOf(root), { changes: ["RUN x"] })).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
    await expect(firectl.importImage(piecesOf(root.subarray(0, 100)))).rejects.toMatchObject({
      code: "ARCHIVE_INVALID",
    });
    await expect(
      firectl.saveImages(["none"], { output: path.join(directory, "x.tar") }),
    ).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
    });
    expect(await firectl.listImages()).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("an interrupted save is told by its reason", async () => {
    const firectl = await openFirectl();
    const directory = temporaryDirectory();
    await firectl.importImage(piecesOf(tarOf([file("big", Buffer.alloc(3_000_000, 1))])), { name: "big" });
    const controller = new AbortController();
    let pieces = 0;
    const saving = firectl.saveImages(["big"], {
      output: () => {
        pieces += 1;
        if (pieces === 6) controller.abort(new Error("enough"));
      },
      signal: controller.signal,
    });
    await expect(saving).rejects.toThrow("enough");
    const early = firectl.saveImages(["big"], {
      output: path.join(directory, "x.tar"),
      signal: controller.signal,
    });
    await expect(early).rejects.toThrow("enough");
    expect(readdirSync(directory)).toEqual([]);
  });
});

import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import { type Mutation, mutate, mutations } from "../core/mutations.test-helper.ts";
import { propertyRuns, SLOW_TEST_MS } from "../core/property-runs.test-helper.ts";
import { withChecksums } from "../tar/tar-builder.test-helper.ts";
import { writeTar } from "../tar/writer.ts";
import { buildRootfs } from "./build-rootfs.ts";
import { checkFilesystem, layer, UUID, workspace } from "./built-image.test-helper.ts";
import { layersOfStack, randomStack, type Thing } from "./random-stack.test-helper.ts";
import { readTree } from "./read-image.test-helper.ts";

async function tarsOf(things: ReadonlyArray<readonly Thing[]>): Promise<Buffer[]> {
  return await Promise.all(
    layersOfStack(things).map(async (contents) => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of writeTar(contents)) chunks.push(chunk);
      return Buffer.concat(chunks);
    }),
  );
}

const LIMITS = { maxEntries: 10_000, maxBytes: 64 * 2 ** 20, maxMetadataBytes: 2 ** 20 };

test("damaged layers become a sound image or are refused, and nothing is left (e2fsck where it is)", {
  timeout: SLOW_TEST_MS,
}, async () => {
  await using space = await workspace();
  let built = 0;
  const check = async (things: Thing[][], changes: Mutation[][]) => {
    const tars = await tarsOf(things);
    const layers = tars.map((tar, index) => {
      const own = changes[index];
      return layer(`layer-${index}`, own === undefined ? tar : withChecksums(mutate(tar, own)), 5000);
    });
    const path = space.fresh(".ext4");
    try {
      await buildRootfs({ layers, path, uuid: UUID, sync: false, limits: LIMITS });
    } catch (error) {
      if (!(error instanceof FirectlError)) throw error;
      expect(error.code).toBe("LAYER_INVALID");
      expect(existsSync(path)).toBe(false);
      return;
    }
    built++;
    await checkFilesystem(path);
    for (const name of (await readTree(path)).entries.keys()) {
      expect(name.startsWith("/") || name.split("/").some((part) => /^\.{0,2}$/.test(part))).toBe(false);
    }
    await rm(path);
  };
  const damage = fc.array(mutations, { minLength: 1, maxLength: 2 });
  await fc.assert(fc.asyncProperty(randomStack, damage, check), { ...propertyRuns(80), endOnFailure: true });
  expect(built).toBeGreaterThan(5);
});

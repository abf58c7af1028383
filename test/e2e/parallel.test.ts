import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { anyBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { type Registry, startRegistry } from "./support/registry.ts";

/** Of the fifty, so many boot a guest; the rest run on a VMM that only speaks Firecracker's API. */
const VMS = 50;
const REAL_GUESTS = 12;
const STAND_IN = path.resolve(import.meta.dirname, "../fixtures/standin-firecracker.mjs");

let sandbox: Sandbox;
let registry: Registry;
beforeAll(async () => {
  sandbox = await Sandbox.create();
  registry = await startRegistry();
});
afterAll(async () => {
  await registry[Symbol.asyncDispose]();
  await sandbox[Symbol.asyncDispose]();
});

test("fifty runs of one uncached image at once pull and build it once, and leave nothing", async (context) => {
  if (!existsSync("/dev/kvm")) context.skip("no /dev/kvm: firectl would not start the stand-in");
  const reference = await registry.push(`${IMAGES}/layers`, "org/layers");
  // Counted on the registry: configuration and layers, each asked for once.
  const blobs = 4;
  const before = registry.blobDownloads();
  const runs = Array.from({ length: VMS }, (_, index) => {
    const isReal = index < REAL_GUESTS;
    const flags = isReal ? ["--vmm", anyBackend(), "-m", "128m"] : ["--vmm", "firecracker"];
    return sandbox.call(
      [
        "run",
        "-d",
        "--name",
        `vm${index}`,
        ...flags,
        reference,
        "/bin/sh",
        "-c",
        "while :; do sleep 1; done",
      ],
      { env: isReal ? {} : { FIRECTL_FIRECRACKER: STAND_IN } },
    );
  });
  const finished = await Promise.all(runs);
  expect(finished.filter(({ status }) => status !== 0)).toEqual([]);
  expect(registry.blobDownloads() - before).toBe(blobs);
  expect(readdirSync(path.join(sandbox.data, "base"))).toHaveLength(1);

  const ids = (await sandbox.ok(["list", "-q", "--no-trunc"])).trim().split("\n");
  expect(ids.sort()).toEqual(finished.map(({ stdout }) => stdout.trim()).sort());

  const stopped = await sandbox.call(["stop", "-t", "2", ...ids]);
  expect(stopped).toMatchObject({ status: 0 });
  await sandbox.expectNothingLeft();
});

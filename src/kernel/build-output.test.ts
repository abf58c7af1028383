import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../host/temporary-directory.test-helper.ts";
import { readBuildOutput } from "./build-output.ts";
import { fakeVmlinux } from "./kernel.test-helper.ts";
import { Kernels } from "./kernel-store.ts";

const image = fakeVmlinux("6.1.9-firectl");
const manifest = {
  firectlKernel: 1,
  name: "firectl-6.1.9",
  key: "0123abcd",
  image: "vmlinux",
  sha256: createHash("sha256").update(image).digest("hex"),
  modules: [],
  features: ["ext4", "pmem", "32-bit"],
};

function output(changes: Readonly<Record<string, unknown>> | string = {}): string {
  const directory = temporaryDirectory();
  writeFileSync(path.join(directory, "vmlinux"), image);
  const text = typeof changes === "string" ? changes : JSON.stringify({ ...manifest, ...changes });
  writeFileSync(path.join(directory, "manifest.json"), text);
  return directory;
}

function kernels(): Kernels {
  const home = temporaryDirectory();
  return new Kernels({ root: path.join(home, "kernels"), cacheDir: path.join(home, "cache") });
}

test("a built kernel is installed with its name, its key and what it has", async () => {
  const store = kernels();
  await store.add(await readBuildOutput(output()));
  expect(await store.list()).toMatchObject([
    { name: "firectl-6.1.9", buildKey: "0123abcd", features: ["ext4", "pmem", "32-bit"], modules: [] },
  ]);
});

test("an image that is not the manifest's is refused", async () => {
  const built = await readBuildOutput(output({ sha256: "0".repeat(64) }));
  await expect(kernels().add(built)).rejects.toMatchObject({ code: "DIGEST_MISMATCH" });
});

test.each([
  ["text", "not JSON", /manifest\.json is not JSON/],
  ["a list", "[]", /the manifest: /],
  ["a later version", { firectlKernel: 2 }, /firectlKernel: /],
  ["a name that leaves the directory", { name: "../x" }, /name: /],
  ["an image somewhere else", { image: "../../etc/passwd" }, /image: /],
  ["modules", { modules: ["ext4"] }, /modules\.0: /],
  ["features that are no words", { features: ["a b"] }, /features\.0: /],
  ["no checksum", { sha256: undefined }, /sha256: /],
])("a manifest with %s is refused", async (_name, changes, message) => {
  const directory = output(changes);
  await expect(readBuildOutput(directory)).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
    message: expect.stringMatching(message),
  });
});

test("a directory without a manifest is named", async () => {
  const directory = temporaryDirectory();
  await expect(readBuildOutput(directory)).rejects.toMatchObject({
    code: "FILE_NOT_FOUND",
    message: expect.stringContaining(directory),
  });
});

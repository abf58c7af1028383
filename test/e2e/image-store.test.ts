import { readdirSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { anyBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { type Registry, startRegistry } from "./support/registry.ts";
import { run } from "./support/run.ts";

const vmm = anyBackend();
const HELLO = "hello from scratch\n";

describe("the image store", () => {
  let sandbox: Sandbox;
  let registry: Registry;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    registry = await startRegistry();
  });
  afterAll(async () => {
    await registry[Symbol.asyncDispose]();
    await sandbox.closeEmpty();
  });

  const bases = (): readonly string[] => readdirSync(path.join(sandbox.data, "base"));

  test("keeps a VM what it boots from, whatever happens to names", async () => {
    const reference = await registry.push(`${IMAGES}/scratch`, "moving");
    await sandbox.ok(["run", "-d", "--name", "old", "--vmm", vmm, reference]);
    await sandbox.ok(["wait", "old"]);
    const refused = await sandbox.call(["rmi", reference]);
    expect(refused).toMatchObject({ status: 4, stdout: "" });
    expect(refused.stderr).toContain("VM old uses it");
    expect(refused.stderr).toContain("hint: firectl rm old removes what uses it");

    // The tag goes to another image.
    await registry.push(`${IMAGES}/app`, "moving");
    await sandbox.ok(["pull", reference]);
    const images = await sandbox.ok(["images", "--format", "{{.Tag}} {{.Containers}}"]);
    expect(images).toBe("<none> 1\nlatest 0\n");
    const pruned = await sandbox.ok(["prune", "-a", "-f"]);
    expect(pruned).toContain(`Untagged: ${reference}`);
    expect(pruned).toMatch(/^Total reclaimed space: [\d.]+MB$/m);
    await sandbox.ok(["start", "old"]);
    await sandbox.ok(["wait", "old"]);
    expect(await sandbox.ok(["logs", "old"])).toBe(HELLO + HELLO);

    await sandbox.ok(["rm", "old"]);
    expect(await sandbox.ok(["prune", "-f"])).toMatch(/^Deleted: sha256:/m);
    expect(bases()).toEqual([]);
    expect(await sandbox.ok(["images", "-q"])).toBe("");
  });

  test("runs an image by its digest, by the beginning of that, and by a further name", async () => {
    const layout = `oci:${IMAGES}/scratch`;
    const digest = (await sandbox.ok(["pull", layout])).trim();
    await sandbox.ok(["tag", layout, "hello:1"]);
    const id = digest.slice("sha256:".length);
    for (const name of [digest, id, id.slice(0, 12), "hello:1", `hello@${digest}`]) {
      expect(await sandbox.ok(["run", "--rm", "--vmm", vmm, "--pull", "never", name])).toBe(HELLO);
    }
    const tags = await sandbox.ok(["inspect", "-f", "{{json .RepoTags}}", digest]);
    expect(JSON.parse(tags)).toContain("hello:1");
    await sandbox.ok(["rmi", "-f", digest]);
  });

  test("runs what skopeo has put there", async () => {
    const store = path.join(sandbox.data, "images");
    await run("skopeo", ["copy", `oci:${IMAGES}/scratch:latest`, `oci:${store}:theirs:1`]);
    expect(await sandbox.ok(["run", "--rm", "--vmm", vmm, "--pull", "never", "theirs:1"])).toBe(HELLO);
    expect(await sandbox.ok(["rmi", "theirs:1"])).toMatch(/^Untagged: theirs:1\nDeleted: sha256:/);
    expect(bases()).toEqual([]);
  });
});

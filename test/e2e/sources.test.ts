import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { anyBackend, machine } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { type Registry, startRegistry } from "./support/registry.ts";
import { run } from "./support/run.ts";

const vmm = anyBackend();
const APP = "user=1234:2345 groups=2345 3456 cwd=/srv/app home=/home/web greeting=hello\ndefault command\n";

describe("an image from a registry", () => {
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

  test("is pulled once, run, and then run from the store without asking", async () => {
    const reference = await registry.push(`${IMAGES}/app`, "org/app");
    expect(await sandbox.ok(["run", "--rm", "--vmm", vmm, reference])).toBe(APP);
    const downloads = registry.blobDownloads();
    expect(downloads).toBeGreaterThanOrEqual(2);
    expect(await sandbox.ok(["run", "--rm", "--vmm", vmm, "--pull", "never", reference])).toBe(APP);
    expect(registry.blobDownloads()).toBe(downloads);
    expect(await sandbox.ok(["images"])).toContain("org/app");
  });

  test("--pull never refuses what is not in the store; an unknown tag is named", async () => {
    const absent = `${registry.address}/org/absent:1`;
    const never = await sandbox.call(["run", "--rm", "--vmm", vmm, "--pull", "never", absent]);
    expect(never).toMatchObject({ status: 125, stdout: "" });
    expect(never.stderr).toContain("is not in the local store");
    const missing = await sandbox.call(["run", "--rm", "--vmm", vmm, absent]);
    expect(missing.status).toBe(125);
    expect(missing.stderr).toContain("org/absent:1");
  });

  test("rmi takes the image and its filesystem away", async () => {
    const reference = await registry.push(`${IMAGES}/scratch`, "org/scratch");
    expect(await sandbox.ok(["run", "--rm", "--vmm", vmm, reference])).toBe("hello from scratch\n");
    await sandbox.ok(["rmi", reference]);
    expect(await sandbox.ok(["images"])).not.toContain("org/scratch");
  });
});

describe("an OCI layout", () => {
  let sandbox: Sandbox;
  let directory: string;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    directory = await mkdtemp(path.join(os.tmpdir(), "firectl-layouts-"));
  });
  afterAll(async () => {
    await rm(directory, { recursive: true });
    await sandbox.closeEmpty();
  });

  test("copied by skopeo with zstd layers runs", async () => {
    const archive = path.join(directory, "app.tar");
    const layout = path.join(directory, "zstd");
    // Through an archive, whose layers are uncompressed: skopeo keeps the compression that it finds.
    await run("skopeo", ["copy", `oci:${IMAGES}/app:latest`, `docker-archive:${archive}:app:v1`]);
    await run("skopeo", [
      "copy",
      "--dest-compress-format",
      "zstd",
      `docker-archive:${archive}`,
      `oci:${layout}:v1`,
    ]);
    expect(await sandbox.ok(["run", "--rm", "--vmm", vmm, `oci:${layout}:v1`])).toBe(APP);
  });

  test("repacked by umoci, with what it removed gone, runs after the layout is gone", async () => {
    const layout = path.join(directory, "umoci");
    const bundle = path.join(directory, "bundle");
    await run("skopeo", ["copy", `oci:${IMAGES}/layers:latest`, `oci:${layout}:base`]);
    await run("umoci", ["unpack", "--image", `${layout}:base`, bundle]);
    await run("sh", ["-c", 'cd "$0/rootfs" && rm keep/kept && echo new >added && rm -r sticky', bundle]);
    await run("umoci", ["repack", "--image", `${layout}:changed`, bundle]);
    const script = "cat /added; ls /keep /sticky 2>&1 | grep -c 'No such'";
    const args = ["run", "--rm", "--vmm", vmm, `oci:${layout}:changed`, "/bin/sh", "-c", script];
    expect(await sandbox.ok(args)).toBe("new\n1\n");
  });
});

const { dockerHost, dockerMissing } = machine();

describe.skipIf(dockerHost === undefined)(
  `an image of the Docker Engine${dockerMissing === undefined ? "" : ` (skipped: ${dockerMissing})`}`,
  () => {
    let sandbox: Sandbox;
    const docker = (...args: string[]): Promise<string> => run("docker", ["-H", dockerHost ?? "", ...args]);
    beforeAll(async () => {
      sandbox = await Sandbox.create({ DOCKER_HOST: dockerHost });
      for (const [layout, name] of [
        ["app", "app"],
        ["layers-for-docker", "layers"],
      ]) {
        const archive = path.join(sandbox.directory, "image.tar");
        await run("skopeo", [
          "copy",
          `oci:${IMAGES}/${layout}:latest`,
          `docker-archive:${archive}:firectl-${name}:e2e`,
        ]);
        await docker("load", "-i", archive);
        await rm(archive);
      }
    });
    afterAll(async () => {
      await sandbox.closeEmpty();
    });

    test("runs with the configuration that docker inspect shows, and leaves no container", async () => {
      expect(await sandbox.ok(["run", "--rm", "--vmm", vmm, "docker:firectl-app:e2e"])).toBe(APP);
      expect(await docker("ps", "-aq")).toBe("");
    });

    test("comes with its links, owners and capabilities, and with nothing that docker puts in", async () => {
      const script = `ls -a / | grep -c dockerenv; stat -c '%u:%g %a' /data/owned /data/setuid
        /usr/sbin/grep CapPrm /proc/self/status | grep -c 3fff; ls /opaque`;
      const args = ["run", "--rm", "--vmm", vmm, "docker:firectl-layers:e2e", "/bin/sh", "-c", script];
      const lines = (await sandbox.ok(args)).split("\n");
      expect([lines[0], lines[1], lines[2], lines[4]]).toEqual(["0", "70000:80000 644", "0:0 4755", "above"]);
    });

    test("an image that Docker does not have and cannot pull is named", async () => {
      const finished = await sandbox.call(["run", "--rm", "--vmm", vmm, "docker:firectl-nowhere:e2e"]);
      expect(finished.status).toBe(125);
      expect(finished.stderr).toContain("firectl-nowhere:e2e");
      expect(await docker("ps", "-aq")).toBe("");
    });
  },
);

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { anyBackend } from "./support/backends.ts";
import { IMAGES, Sandbox } from "./support/firectl.ts";
import { run } from "./support/run.ts";

const vmm = anyBackend();
const APP = "user=1234:2345 groups=2345 3456 cwd=/srv/app home=/home/web greeting=hello\ndefault command\n";
/** What says nothing about running it is told everything. */
const SCRIPT = ["/bin/sh", "-c", "stat -c '%u:%g %a' /srv/app; cat /etc/made-here; id -u"];

let sandbox: Sandbox;
let directory: string;
beforeAll(async () => {
  sandbox = await Sandbox.create();
  directory = await mkdtemp(path.join(os.tmpdir(), "firectl-archives-"));
});
afterAll(async () => {
  await rm(directory, { recursive: true });
  await sandbox.closeEmpty();
});

const runImage = (...args: string[]): Promise<string> => sandbox.ok(["run", "--rm", "--vmm", vmm, ...args]);

describe("an archive", () => {
  test("of docker save's kind runs, compressed as a whole, and leaves the file alone", async () => {
    const archive = path.join(directory, "app.tar");
    await run("skopeo", ["copy", `oci:${IMAGES}/app:latest`, `docker-archive:${archive}:firectl/app:v1`]);
    await run("gzip", ["--keep", archive]);
    expect(await runImage(`docker-archive:${archive}.gz:firectl/app:v1`)).toBe(APP);
    // The same image by another name: neither fetched nor built again.
    expect(await runImage(`docker-archive:${archive}`)).toBe(APP);
    expect(await sandbox.ok(["images", "--format", "{{.Digest}}"])).toMatch(/^(\S+)\n\1\n$/);
  });

  test("of an OCI layout runs, from a file whose name has a colon", async () => {
    const archive = path.join(directory, "oci.tar");
    const renamed = path.join(directory, "app:v2.tar");
    await run("skopeo", ["copy", `oci:${IMAGES}/app:latest`, `oci-archive:${archive}:v2`]);
    await run("mv", [archive, renamed]);
    expect(await runImage(`oci-archive:${renamed}:v2`)).toBe(APP);
  });

  test("that firectl saves is loaded elsewhere, whole, by its names", async () => {
    const archive = path.join(directory, "saved.tar");
    await sandbox.ok(["load", "-i", path.join(directory, "app.tar")]);
    await sandbox.ok(["tag", "firectl/app:v1", "again"]);
    await sandbox.ok(["save", "-o", archive, "firectl/app:v1", "again"]);
    const other = await Sandbox.create();
    try {
      const loaded = await other.ok(["load"], { stdin: await readFile(archive) });
      expect(loaded).toBe("Loaded image: firectl/app:v1\nLoaded image: again:latest\n");
      expect(await other.ok(["run", "--rm", "--vmm", vmm, "--pull", "never", "again"])).toBe(APP);
    } finally {
      await other.closeEmpty();
    }
  });

  test("that is damaged is refused, and nothing of it stays", async () => {
    const archive = path.join(directory, "damaged.tar");
    const bytes = await readFile(path.join(directory, "app.tar"));
    bytes.fill(0xff, 100_000, 200_000);
    await writeFile(archive, bytes);
    // Where the layer is not here already.
    const other = await Sandbox.create();
    try {
      const finished = await other.call(["run", "--rm", "--vmm", vmm, `docker-archive:${archive}`]);
      expect(finished).toMatchObject({ status: 125, stdout: "" });
      expect(finished.stderr).toContain(`archive ${archive}, member `);
    } finally {
      await other.closeEmpty();
    }
  });
});

describe("a root filesystem", () => {
  let root: string;
  beforeAll(async () => {
    const bundle = path.join(directory, "bundle");
    await run("umoci", ["unpack", "--image", `${IMAGES}/app:latest`, bundle]);
    root = path.join(bundle, "rootfs");
    await writeFile(path.join(root, "etc/made-here"), "made here\n");
    await run("chown", ["70000:80000", path.join(root, "srv/app")]);
    await run("chmod", ["2750", path.join(root, "srv/app")]);
  });

  test("runs from its directory, and as it is now", async () => {
    expect(await runImage(`rootfs:${root}`, ...SCRIPT)).toBe("70000:80000 2750\nmade here\n0\n");
    await writeFile(path.join(root, "etc/made-here"), "made anew\n");
    expect(await runImage(`rootfs:${root}`, ...SCRIPT)).toBe("70000:80000 2750\nmade anew\n0\n");
  });

  test("runs from a tar on stdin", async () => {
    const archive = path.join(directory, "root.tar.gz");
    await run("tar", ["-C", root, "--numeric-owner", "-czf", archive, "."]);
    const args = ["run", "--rm", "--vmm", vmm, "rootfs:-", ...SCRIPT];
    expect(await sandbox.ok(args, { stdin: await readFile(archive) })).toBe(
      "70000:80000 2750\nmade anew\n0\n",
    );
  });

  test("that is imported runs as the changes say", async () => {
    const changes = [
      'CMD ["/bin/sh", "-c", "echo $GREETING from $PWD as $(id -u):$(id -g)"]',
      "ENV GREETING=hi WHERE=/srv",
      "WORKDIR $WHERE",
      "USER web",
    ];
    const flags = changes.flatMap((change) => ["-c", change]);
    const digest = await sandbox.ok(["import", ...flags, path.join(directory, "root.tar.gz"), "imported:1"]);
    expect(await runImage("--pull", "never", "imported:1")).toBe("hi from /srv as 1234:2345\n");
    expect(await sandbox.ok(["images", "--no-trunc"])).toContain(digest.trim());
  });

  test("without a command says that there is none", async () => {
    const finished = await sandbox.call(["run", "--rm", "--vmm", vmm, `rootfs:${root}`]);
    expect(finished.status).toBe(125);
    expect(finished.stderr).toContain("command");
  });
});

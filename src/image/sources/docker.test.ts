import { randomUUID } from "node:crypto";
import { readdir, writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runProgram } from "../../host/process.ts";
import { collect, noise, TemporaryDirectory, tar } from "../image.test-helper.ts";
import { Images, type PullProgress } from "../images.ts";

const hasDocker = await runProgram("docker", ["version"], { timeoutMs: 10_000 }).then(
  () => true,
  () => false,
);
const name = `firectl-test/${randomUUID()}`;
const archive = tar([
  { name: "etc/", type: "5" },
  { name: "etc/passwd", content: Buffer.from("root:x:0:0::/:\n") },
  { name: "big", content: noise(30_000_000, "big") },
]);

function imagesIn(directory: TemporaryDirectory): Images {
  return new Images({ root: directory.join("store"), env: process.env });
}

function temporaryContainers(): Promise<string> {
  return runProgram("docker", ["ps", "--all", "--quiet", "--filter", "label=firectl.temporary"]);
}

describe.skipIf(!hasDocker)("the Docker Engine (needs docker and its daemon)", () => {
  beforeAll(async () => {
    await using directory = await TemporaryDirectory.make();
    await writeFile(directory.join("rootfs.tar"), archive);
    const changes = [
      'ENTRYPOINT ["/big"]',
      'CMD ["a b"]',
      "ENV A=b",
      "USER 5:6",
      "WORKDIR /etc",
      "VOLUME /data",
      "EXPOSE 80/tcp",
      'LABEL x="y z"',
      "HEALTHCHECK --interval=5s CMD /big",
    ];
    const flags = changes.map((change) => `--change=${change}`);
    await runProgram("docker", ["import", ...flags, directory.join("rootfs.tar"), `${name}:1`]);
    await runProgram("docker", ["import", directory.join("rootfs.tar"), `${name}:bare`]);
    await runProgram("docker", ["tag", `${name}:1`, `${name}:2`]);
  });
  afterAll(async () => {
    await runProgram("docker", ["image", "rm", `${name}:1`, `${name}:2`, `${name}:bare`]);
  });

  it("gives an image with all that it says", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    const local = await images.obtain(`docker:${name}:1`, { pull: "missing" });
    expect(local).toMatchObject({
      reference: `docker:docker.io/${name}:1`,
      config: {
        entrypoint: ["/big"],
        cmd: ["a b"],
        env: expect.arrayContaining(["A=b"]),
        user: "5:6",
        workingDir: "/etc",
        volumes: ["/data"],
        exposedPorts: ["80/tcp"],
        labels: { x: "y z" },
        healthcheck: { test: ["CMD-SHELL", "/big"], intervalNs: 5_000_000_000 },
      },
    });
    const [layer] = local.layers;
    if (layer === undefined) throw new Error("it has a layer");
    await writeFile(directory.join("out.tar"), await collect(images.openLayer(layer)));
    const listing = (await runProgram("tar", ["tf", directory.join("out.tar")])).split("\n");
    expect(listing).toEqual(expect.arrayContaining(["big", "etc/passwd"]));
    expect(listing.filter((file) => /dockerenv|console|hosts|hostname|resolv/.test(file))).toEqual([]);
    expect(await images.find(`docker:${name}:1`)).toEqual(local);
    // The plain name means the registry's image, not Docker's.
    expect(await images.find(`${name}:1`)).toBeUndefined();
  });

  it("exports an image once, whatever its name, and once for many callers", async () => {
    await using directory = await TemporaryDirectory.make();
    const events: PullProgress[] = [];
    const obtain = (tag: string): Promise<unknown> =>
      imagesIn(directory).obtain(`docker:${name}:${tag}`, {
        pull: "missing",
        onProgress: (event) => void events.push(event),
      });
    await Promise.all(["1", "2", "1", "2"].map(obtain));
    const starts = events.filter((event) => event.type === "exporting" && event.received <= 512);
    expect(starts).toHaveLength(1);
    expect(await imagesIn(directory).list()).toHaveLength(2);
  });

  it("takes an image without a command", async () => {
    await using directory = await TemporaryDirectory.make();
    const local = await imagesIn(directory).obtain(`docker:${name}:bare`, { pull: "never" });
    expect(local.config).toMatchObject({ entrypoint: [], cmd: [] });
  });

  it("leaves no container behind, though it is aborted, and nothing in the store", async () => {
    await using directory = await TemporaryDirectory.make();
    const controller = new AbortController();
    const images = imagesIn(directory);
    const obtaining = images.obtain(`docker:${name}:1`, {
      pull: "missing",
      signal: controller.signal,
      onProgress: (event) => {
        if (event.type === "exporting" && event.received > 1_000_000) controller.abort(new Error("enough"));
      },
    });
    await expect(obtaining).rejects.toThrow("enough");
    expect(await temporaryContainers()).toBe("");
    expect(await images.list()).toEqual([]);
    await expect(images.collectGarbage({ timeoutMs: 1000 })).resolves.toMatchObject({ blobs: 0 });
  });

  it("sweeps the container of a firectl that was killed, and not that of one that lives", async () => {
    await using directory = await TemporaryDirectory.make();
    const scope = await runProgram("sh", [
      "-c",
      'printf "%s/%s" "$(cat /proc/sys/kernel/random/boot_id)" "$(readlink /proc/self/ns/pid)"',
    ]);
    const create = (owner: string, ownScope: string): Promise<string> => {
      const labels = [`--label=firectl.temporary=${owner}`, `--label=firectl.temporary.scope=${ownScope}`];
      return runProgram("docker", [
        "create",
        `--name=firectl-export-${randomUUID()}`,
        ...labels,
        "--entrypoint=/",
        `${name}:bare`,
      ]);
    };
    const stat = await runProgram("sh", ["-c", `cut -d" " -f22 /proc/${process.pid}/stat`]);
    const living = await create(`${process.pid}:${stat}`, scope);
    const foreign = await create("1:1", "another-boot/pid:[1]");
    const dead = await create(`${process.pid}:1`, scope);
    try {
      await imagesIn(directory).obtain(`docker:${name}:bare`, { pull: "missing" });
      const left = (await runProgram("docker", ["ps", "--all", "--quiet", "--no-trunc"])).split("\n");
      expect(left).toContain(living);
      expect(left).toContain(foreign);
      expect(left).not.toContain(dead);
    } finally {
      await runProgram("docker", ["rm", "--force", living, foreign]);
    }
  });

  it("is rid of a killed firectl's container by the next mend", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    await images.obtain(`docker:${name}:bare`, { pull: "missing" });
    const container = `firectl-export-${randomUUID()}`;
    await runProgram("docker", ["create", `--name=${container}`, "--entrypoint=/", `${name}:bare`]);
    const note = directory.join("store/ingest", `${process.pid}-1.${container}.container`);
    await writeFile(note, "");
    await images.collectGarbage({ timeoutMs: 1000 });
    const unreachable = { ...process.env, DOCKER_HOST: `unix://${directory.join("none.sock")}` };
    await new Images({ root: directory.join("store"), env: unreachable }).mend();
    expect(await readdir(directory.join("store/ingest"))).toHaveLength(1);
    await images.mend();
    expect(await readdir(directory.join("store/ingest"))).toEqual([]);
    expect(await runProgram("docker", ["ps", "--all", "--quiet", "--filter", `name=${container}`])).toBe("");
  });

  it("says what Docker does not have", async () => {
    await using directory = await TemporaryDirectory.make();
    const images = imagesIn(directory);
    await expect(images.obtain(`docker:${name}:none`, { pull: "never" })).rejects.toMatchObject({
      code: "IMAGE_NOT_FOUND",
    });
    await expect(images.obtain(`docker:127.0.0.1:1/${name}:none`, { pull: "missing" })).rejects.toMatchObject(
      { code: "DOCKER_FAILED" },
    );
    await expect(
      images.obtain(`docker:${name}:1`, { pull: "never", platform: "linux/s390x" }),
    ).rejects.toMatchObject({ code: "PLATFORM_MISSING" });
  });
});

describe("without a Docker Engine", () => {
  it("says that the daemon, or the program, is missing", async () => {
    await using directory = await TemporaryDirectory.make();
    const at = (env: NodeJS.ProcessEnv): Promise<unknown> =>
      new Images({ root: directory.join("store"), env }).obtain("docker:x", { pull: "missing" });
    await expect(at({ PATH: directory.path })).rejects.toMatchObject({ code: "TOOL_MISSING" });
    if (
      await runProgram("docker", ["--version"]).then(
        () => true,
        () => false,
      )
    ) {
      await expect(
        at({ PATH: process.env["PATH"], DOCKER_HOST: `unix://${directory.join("none.sock")}` }),
      ).rejects.toMatchObject({
        code: "DOCKER_FAILED",
        hint: expect.stringMatching(/start the Docker Engine/),
      });
    }
  });
});

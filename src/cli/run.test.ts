import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import type { RunConfigurationOptions, RunOptions } from "../manager/api.ts";
import { WorkloadStartError } from "../manager/workload-start-error.ts";
import { firectl, startedVm, testIo } from "./cli.test-helper.ts";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "firectl-run-"));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** The options that `run` hands to the library, without what every call has. */
async function optionsOf(argv: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Partial<RunOptions>> {
  let seen: RunOptions | undefined;
  const result = await firectl(["run", ...argv], {
    env,
    operations: {
      async run(options) {
        seen = options;
        return startedVm({});
      },
    },
  });
  expect(result.stderr).toBe("");
  const { signal: _signal, onProgress: _onProgress, ...rest } = seen ?? {};
  return rest;
}

describe("what run asks of the library", () => {
  test("nothing but the image", async () => {
    expect(await optionsOf(["nginx"])).toEqual({
      image: "nginx",
      command: [],
      env: [],
      labels: {},
      kernelArguments: [],
      readOnly: false,
      autoRemove: false,
      detach: false,
    });
  });

  test("every flag", async () => {
    const envFile = path.join(directory, "env");
    await writeFile(envFile, "FROM_FILE=1\n");
    const argv = [
      ...["--entrypoint", "sh", "-e", "A=1", "-e", "TOKEN", "-e", "UNSET", "--env-file", envFile],
      ...["-u", "1000:1000", "-w", "/src", "--read-only", "--stop-signal", "RTMIN+3", "--stop-timeout", "2m"],
      ...["--cpus", "2", "-m", "1g", "--disk-size", "4g", "--storage", "copy", "-h", "box", "--vmm", "qemu"],
      ...["--kernel", "mine", "--kernel-args", "quiet  debug", "--kernel-args", "x=1", "--pull", "never"],
      ...[
        "--platform",
        "linux/arm64",
        "-d",
        "--name",
        "web",
        "--rm",
        "-l",
        "app=web",
        "-q",
        "--timing=false",
      ],
      ...["img:1", "-c", "echo hi"],
    ];
    expect(await optionsOf(argv, { TOKEN: "t" })).toEqual({
      image: "img:1",
      command: ["-c", "echo hi"],
      entrypoint: ["sh"],
      env: ["FROM_FILE=1", "A=1", "TOKEN=t"],
      user: "1000:1000",
      workingDir: "/src",
      readOnly: true,
      stopSignal: "37",
      stopTimeoutMs: 120_000,
      cpus: 2,
      memoryBytes: 1024 ** 3,
      diskBytes: 4 * 1024 ** 3,
      storage: "copy",
      hostname: "box",
      vmm: "qemu",
      kernel: "mine",
      kernelArguments: ["quiet", "debug", "x=1"],
      pull: "never",
      platform: "linux/arm64",
      detach: true,
      name: "web",
      autoRemove: true,
      labels: { app: "web" },
    });
  });

  test("an empty entrypoint clears the image's", async () => {
    expect(await optionsOf(["--entrypoint", "", "img", "sh"])).toMatchObject({ entrypoint: [] });
  });

  test("--config", async () => {
    let seen: RunConfigurationOptions | undefined;
    const result = await firectl(["run", "-d", "--name", "raw", "--config", "vm.json"], {
      operations: {
        async runConfiguration(options) {
          seen = options;
          return startedVm({});
        },
      },
    });
    expect(result).toEqual({ status: 0, stdout: "3f2b8c1e-9d4a-4c6b-8e2f-0a1b2c3d4e5f\n", stderr: "" });
    expect(seen).toMatchObject({ configPath: "vm.json", name: "raw", detach: true });
  });
});

describe("a bad flag is refused before anything is opened, with 125", () => {
  test.each([
    [["--cpus", "0"], '--cpus: "0" is not a number of processors from 0.01 to 32'],
    [["--cpus", "32.1"], '--cpus: "32.1" is not a number of processors from 0.01 to 32'],
    [["--cpus", "1e1"], '--cpus: "1e1" is not a number of processors from 0.01 to 32'],
    [["-m", "63m"], '-m: "63m" is less than 64m, the least'],
    [
      ["--memory", "lots"],
      '--memory: "lots" is not a size\nhint: write a number with b, k, m or g, for example 512m or 2g',
    ],
    [["--disk-size", "1m"], '--disk-size: "1m" is less than 16m, the least'],
    [["--wait", "img"], "run: --wait goes with --detach\nhint: a foreground run waits for the process's end"],
    [
      ["--no-healthcheck", "--health-retries=1", "img"],
      "run: --no-healthcheck does not go with --health-retries",
    ],
    [["--vmm", "kvm"], '--vmm: "kvm" is not one of auto, firecracker, qemu\nhint: write --vmm auto'],
    [
      ["--vmm", "qeum"],
      '--vmm: "qeum" is not one of auto, firecracker, qemu\nhint: did you mean --vmm qemu?',
    ],
    [
      ["--pull", "sometimes"],
      '--pull: "sometimes" is not one of always, missing, never\nhint: write --pull always',
    ],
    [["--storage", ""], '--storage: "" is not one of overlay, copy\nhint: write --storage overlay'],
    [["-w", "src"], '-w: "src" is not an absolute path\nhint: it is one in the VM, for example -w /srv/app'],
    [["-e", "=1"], '-e: "=1" has no name before the "="\nhint: write -e NAME=VALUE'],
    [
      ["--kernel-args", "a\nb"],
      '--kernel-args: "a\\nb" is not text of printable ASCII characters'.replace("\\n", "\n"),
    ],
    [
      ["--stop-signal", "FOO"],
      '--stop-signal: "FOO" is not a signal\nhint: write a name (SIGTERM, HUP) or a number from 1 to 64',
    ],
    [
      ["--env-file", "/nonexistent"],
      "--env-file: cannot read /nonexistent: ENOENT: no such file or directory, open '/nonexistent'",
    ],
    [
      ["--cidfile", "/nonexistent/x"],
      "--cidfile: cannot create /nonexistent/x: ENOENT: no such file or directory, open '/nonexistent/x'",
    ],
    [
      ["--config", "vm.json"],
      'run: --config takes no image, got "img"\nhint: vm.json names kernel and disks',
    ],
    [
      ["--config", "vm.json", "-m", "1g"],
      "run: --memory does not go with --config\nhint: set it in vm.json instead",
    ],
  ])("%j", async (flags, message) => {
    const result = await firectl(["run", ...flags, "img"]);
    expect(result).toEqual({ status: 125, stdout: "", stderr: `firectl: ${message}\n` });
  });
});

describe("a foreground run", () => {
  test("keeps the workload's streams apart and exits with its status", async () => {
    const events: string[] = [];
    const vm = startedVm({
      output: [
        ["stdout", "out 1\n"],
        ["stderr", "err\n"],
        ["stdout", "out 2"],
      ],
      exitCode: 42,
      events,
    });
    const result = await firectl(["run", "img"], { operations: { run: async () => vm } });
    expect(result).toEqual({ status: 42, stdout: "out 1\nout 2", stderr: "err\n" });
    expect(events).toEqual(["disposed"]);
  });

  test("says why a workload has no status of its own", async () => {
    const vm = startedVm({ exitCode: 137, error: "the kernel panicked", oomKilled: true });
    const result = await firectl(["run", "img"], { operations: { run: async () => vm } });
    expect(result.status).toBe(137);
    expect(result.stderr).toBe(
      "firectl: the kernel panicked\nfirectl: the workload was killed: the virtual machine ran out of memory\nhint: give it more with --memory\n",
    );
  });

  test.each([
    [127, "sh: not found"],
    [126, "sh: permission denied"],
  ])("passes %d on when the workload cannot be started", async (exitCode, error) => {
    const result = await firectl(["run", "img"], {
      operations: {
        async run() {
          throw new WorkloadStartError({ exitCode, error, oomKilled: false });
        },
      },
    });
    expect(result).toEqual({ status: exitCode, stdout: "", stderr: `firectl: ${error}\n` });
  });

  test("passes it on from within a stage, too", async () => {
    const cause = new WorkloadStartError({ exitCode: 127, error: "sh: not found", oomKilled: false });
    const run = async () => {
      throw new FirectlError("GUEST_FAILED", `starting the microVM failed: ${cause.message}`, { cause });
    };
    expect(await firectl(["run", "img"], { operations: { run } })).toMatchObject({ status: 127 });
  });

  test("an own failure is 125, with the hint", async () => {
    const result = await firectl(["run", "img"], {
      operations: {
        async run() {
          throw new FirectlError("KVM_UNUSABLE", "/dev/kvm cannot be opened", { hint: "join the group kvm" });
        },
      },
    });
    expect(result).toEqual({
      status: 125,
      stdout: "",
      stderr: "firectl: /dev/kvm cannot be opened\nhint: join the group kvm\n",
    });
  });

  test("--timing prints a table on stderr", async () => {
    const result = await firectl(["run", "--timing", "img"], {
      operations: { run: async () => startedVm({}) },
    });
    expect(result.stderr).toMatchInlineSnapshot(`
      "STAGE         TIME
      load         40 ms
      prepare     120 ms
      VMM start    30 ms
      kernel      900 ms
      init         50 ms
      other       150 ms
      total       1.29 s
      "
    `);
  });
});

describe("--cidfile", () => {
  test("holds the id", async () => {
    const file = path.join(directory, "cid");
    await firectl(["run", "--cidfile", file, "img"], { operations: { run: async () => startedVm({}) } });
    expect(await readFile(file, "utf8")).toBe("3f2b8c1e-9d4a-4c6b-8e2f-0a1b2c3d4e5f");
  });

  test("is never taken from another VM", async () => {
    const file = path.join(directory, "taken");
    await writeFile(file, "other");
    const result = await firectl(["run", "--cidfile", file, "img"]);
    expect(result.status).toBe(125);
    expect(result.stderr).toBe(
      `firectl: --cidfile: ${file} exists already\nhint: make sure that no VM uses it, and remove it\n`,
    );
    expect(await readFile(file, "utf8")).toBe("other");
  });

  test("does not stay when run fails", async () => {
    const file = path.join(directory, "failed");
    const operations = { run: () => Promise.reject(new FirectlError("NO_SPACE", "full")) };
    await firectl(["run", "--cidfile", file, "img"], { operations });
    await expect(readFile(file)).rejects.toThrow("ENOENT");
  });
});

describe("signals", () => {
  test("while starting: the first aborts, and the status is the signal's", async () => {
    const io = testIo();
    const result = await firectl(["run", "img"], {
      io,
      operations: {
        run: ({ signal }) =>
          new Promise((_resolve, reject) => {
            signal?.addEventListener("abort", () => reject(signal.reason));
            io.send("SIGTERM");
          }),
      },
    });
    expect(result).toEqual({ status: 143, stdout: "", stderr: "firectl: interrupted by SIGTERM\n" });
    expect(io.listeners.size, "nothing is caught any more").toBe(0);
  });

  test("while starting: an abort error of Node's counts as the interrupt that it is", async () => {
    const io = testIo();
    const result = await firectl(["run", "img"], {
      io,
      operations: {
        async run({ signal }) {
          io.send("SIGINT");
          const aborted = signal?.aborted === true;
          throw Object.assign(new Error("The operation was aborted"), aborted ? { name: "AbortError" } : {});
        },
      },
    });
    expect(result).toEqual({ status: 130, stdout: "", stderr: "firectl: interrupted by SIGINT\n" });
  });

  test("while starting: the second ends the process at once", async () => {
    const io = testIo();
    await firectl(["run", "img"], {
      io,
      operations: {
        async run({ signal }) {
          io.send("SIGINT");
          io.send("SIGINT");
          throw signal?.reason;
        },
      },
    });
    expect(io.exits).toEqual([130]);
  });

  test("the first reaches the workload, whose status still counts", async () => {
    const io = testIo();
    const events: string[] = [];
    let end: () => void = () => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    const vm = startedVm({ ended, exitCode: 130, events });
    const running = firectl(["run", "img"], { io, operations: { run: async () => vm } });
    await expect.poll(() => io.listeners.size).toBe(1);
    await new Promise((resolve) => setImmediate(resolve));
    io.send("SIGINT");
    end();
    expect(await running).toEqual({ status: 130, stdout: "", stderr: "" });
    expect(events).toEqual(["signal SIGINT", "disposed"]);
    expect(io.listeners.size).toBe(0);
  });

  test("the second ends the wait", async () => {
    const io = testIo();
    const events: string[] = [];
    const vm = startedVm({ ended: new Promise(() => {}), events });
    const running = firectl(["run", "img"], { io, operations: { run: async () => vm } });
    await expect.poll(() => io.listeners.size).toBe(1);
    await new Promise((resolve) => setImmediate(resolve));
    io.send("SIGINT");
    io.send("SIGHUP");
    expect(await running).toMatchObject({ status: 129 });
    expect(events).toEqual(["signal SIGINT", "disposed"]);
  });

  test("one that comes just as the VM has started ends it", async () => {
    const io = testIo();
    const events: string[] = [];
    const operations = {
      async run() {
        io.send("SIGINT");
        return startedVm({ events });
      },
    };
    expect(await firectl(["run", "img"], { io, operations })).toMatchObject({ status: 130 });
    expect(events).toEqual(["disposed"]);
  });
});

test("nobody reading stdout is a clean end, and the VM is disposed of", async () => {
  const io = testIo();
  io.stdout.closed = true;
  const events: string[] = [];
  const vm = startedVm({ output: [["stdout", "y\n"]], events });
  const result = await firectl(["run", "img"], { io, operations: { run: async () => vm } });
  expect(result).toEqual({ status: 0, stdout: "", stderr: "" });
  expect(events).toEqual(["disposed"]);
});

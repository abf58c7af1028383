import { type ChildProcess, spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/**
 * bin/firectl as a real process with real pipes and signals. The library behind it is a small one, so that
 * the test needs no VM: 20,000 of them to list, and one that never ends to wait for.
 */
const LIBRARY = `
const vm = (i) => ({ id: "3f2b8c1e-9d4a-4c6b-8e2f-" + String(i).padStart(12, "0"), name: "vm" + i,
  imageName: "img", command: ["sh"], createdAt: "2026-01-01T00:00:00Z", startedAt: null, finishedAt: null,
  state: "running", exitCode: null, vmm: "qemu", pid: 1, cpus: 1, memoryMib: 64, labels: {}, ports: [] });
export class Firectl {
  static async open() { return new Firectl(); }
  async list() { return Array.from({ length: 20000 }, (_, i) => vm(i)); }
  async wait(name, { signal }) {
    if (name === "lost") await new Promise(() => {});
    const alive = setInterval(() => {}, 1000);
    process.stderr.write("waiting\\n");
    await new Promise((_resolve, reject) => signal.addEventListener("abort", () => {
      if (name !== "lingering") clearInterval(alive);
      reject(signal.reason);
    }));
  }
  async exec(name, { stdin, onOutput }) {
    if (name === "lost") await new Promise(() => {});
    for await (const data of stdin) { onOutput({ stream: "stdout", data }); break; }
    return { exitCode: 5, oomKilled: false };
  }
}`;

const source = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

let root = "";
let firectl = "";

beforeAll(async () => {
  root = await mkdtemp(path.join(tmpdir(), "firectl-process-"));
  firectl = path.join(root, "bin/firectl");
  await mkdir(path.join(root, "bin"));
  await copyFile(source("../../bin/firectl"), firectl);
  await writeFile(path.join(root, "library.mjs"), LIBRARY);
  await build({
    entryPoints: [source("main.ts")],
    bundle: true,
    platform: "node",
    target: "node20.11",
    format: "cjs",
    outfile: path.join(root, "dist/cli/main.cjs"),
    define: { FIRECTL_VERSION: '"1.2.3"' },
    logLevel: "error",
    plugins: [
      {
        name: "small-library",
        setup(plugin) {
          plugin.onResolve({ filter: /manager\/firectl\.ts$/ }, () => ({
            path: path.join(root, "library.mjs"),
          }));
        },
      },
    ],
  });
});
afterAll(async () => {
  await rm(root, { recursive: true, force: true });
});

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(argv: readonly string[], nodeFlags: readonly string[] = []): ChildProcess {
  return spawn(process.execPath, [...nodeFlags, firectl, ...argv], { stdio: ["pipe", "pipe", "pipe"] });
}

async function ended(child: ChildProcess): Promise<Ended> {
  let [stdout, stderr] = ["", ""];
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  return new Promise((resolve) => child.once("close", (status) => resolve({ status, stdout, stderr })));
}

/** A preload that changes what the program finds, as `node --require`. */
async function preload(name: string, code: string): Promise<string[]> {
  const file = path.join(root, `${name}.cjs`);
  await writeFile(file, code);
  return ["--require", file];
}

describe("the launcher", () => {
  test("is written for the oldest Node", async () => {
    const text = await readFile(firectl, "utf8");
    await expect(transform(text.replace(/^#!.*/, ""), { target: "es5" })).resolves.toBeDefined();
  });

  test("works through a symbolic link, as npm installs it", async () => {
    const link = path.join(root, "linked");
    await symlink(firectl, link);
    const child = spawn(link, ["--version"], { stdio: ["ignore", "pipe", "pipe"] });
    expect(await ended(child)).toEqual({ status: 0, stdout: "firectl 1.2.3\n", stderr: "" });
  });

  test("keeps Node from taking --env-file for its own", async () => {
    const child = spawn(firectl, ["exec", "-i", "vm", "cat", "--env-file", "/not/there"]);
    child.stdin.end("data");
    expect(await ended(child)).toEqual({ status: 5, stdout: "data", stderr: "" });
  });

  test.each([
    ["18.20.8", true],
    ["20.10.0", true],
    ["20.11.0", false],
    ["21.0.0", false],
    ["100.0.0", false],
  ])("Node %s", async (version, isRefused) => {
    const flags = await preload(
      `node-${version}`,
      `Object.defineProperty(process, "versions", { value: { ...process.versions, node: "${version}" } });`,
    );
    const result = await ended(start(["--version"], flags));
    expect(result).toEqual(
      isRefused
        ? {
            status: 5,
            stdout: "",
            stderr: `firectl: Node.js ${version} is too old: install Node.js 20.11 or newer (https://nodejs.org)\n`,
          }
        : { status: 0, stdout: "firectl 1.2.3\n", stderr: "" },
    );
  });

  test("not on Linux", async () => {
    const flags = await preload("darwin", 'Object.defineProperty(process, "platform", { value: "darwin" });');
    expect(await ended(start(["--version"], flags))).toEqual({
      status: 5,
      stdout: "",
      stderr:
        "firectl: this is darwin, and firectl runs on Linux only: use a Linux machine, or a virtual machine with /dev/kvm\n",
    });
  });

  test("not built", async () => {
    const bare = path.join(root, "bare/bin");
    await mkdir(bare, { recursive: true });
    await copyFile(firectl, path.join(bare, "firectl"));
    const child = spawn(process.execPath, [path.join(bare, "firectl")], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    expect(await ended(child)).toMatchObject({
      status: 5,
      stderr: "firectl: this checkout is not built: run make build\n",
    });
  });

  test("a code cache that is not V8's does no harm", async () => {
    const cache = path.join(root, "dist/cli/main.cache");
    for (const bytes of [Buffer.alloc(0), Buffer.from("no cache"), Buffer.alloc(100_000, 7)]) {
      await writeFile(cache, bytes);
      expect(await ended(start(["--version"]))).toEqual({ status: 0, stdout: "firectl 1.2.3\n", stderr: "" });
    }
    await rm(cache);
  });
});

describe("pipes", () => {
  const BYTES = 20_001 * '3f2b8c1e-9d4a   vm0       img     "sh"'.length;

  test("a slow reader gets everything", async () => {
    const child = start(["list"]);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { status, stdout } = await ended(child);
    expect(status).toBe(0);
    expect(stdout.length).toBeGreaterThan(BYTES);
    expect(stdout.trimEnd().split("\n")).toHaveLength(20_001);
  });

  test("so does one behind a pipe that does not block", async () => {
    // Opening process.stdout makes libuv set O_NONBLOCK on the pipe, as another process that shares it could.
    const child = start(["list"], await preload("non-blocking", "process.stdout;"));
    await new Promise((resolve) => setTimeout(resolve, 300));
    const { status, stdout } = await ended(child);
    expect(status).toBe(0);
    expect(stdout.trimEnd().split("\n")).toHaveLength(20_001);
  });

  test("a reader that goes away is a clean end", async () => {
    const child = start(["list"]);
    child.stdout?.destroy();
    expect(await ended(child)).toMatchObject({ status: 0, stderr: "" });
  });

  test("a full disk is an error that says so", async () => {
    const child = spawn("sh", ["-c", `exec "${process.execPath}" "${firectl}" list > /dev/full`], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { status, stderr } = await ended(child);
    expect(stderr).toBe("firectl: cannot write to stdout: ENOSPC: no space left on device, write\n");
    expect(status).toBe(5);
  });

  test("messages that nobody can read are dropped", async () => {
    const child = spawn("sh", ["-c", `exec "${process.execPath}" "${firectl}" nonsense 2> /dev/full`], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    expect(await ended(child)).toEqual({ status: 2, stdout: "", stderr: "" });
  });

  test("stdin that stays open does not keep exec from ending", async () => {
    const child = start(["exec", "-i", "web", "cat"]);
    child.stdin?.write("hello");
    expect(await ended(child)).toEqual({ status: 5, stdout: "hello", stderr: "" });
  });
});

describe("a command that waits for what cannot come", () => {
  test.each([
    ["wait", ["wait", "lost"], 1],
    ["exec, which passes on other programs' statuses", ["exec", "lost", "true"], 125],
  ])("is a bug, not a success: %s", async (_name, argv, status) => {
    const { stderr, ...result } = await ended(start(argv));
    expect(result).toEqual({ status, stdout: "" });
    expect(stderr).toMatch(
      /^firectl: unexpected error: the command waits for something that can no longer come\n/,
    );
    expect(stderr).toMatch(/please report/);
  });
});

describe("signals", () => {
  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)("%s", async (signal, status) => {
    const child = start(["wait", "web"]);
    child.stderr?.once("data", () => child.kill(signal));
    expect(await ended(child)).toEqual({
      status,
      stdout: "",
      stderr: `waiting\nfirectl: interrupted by ${signal}\n`,
    });
  });

  test("what is left open does not keep the process", async () => {
    const child = start(["wait", "lingering"]);
    child.stderr?.once("data", () => child.kill("SIGINT"));
    expect(await ended(child)).toMatchObject({ status: 130 });
  });
});

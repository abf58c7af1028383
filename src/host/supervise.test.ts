import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import { isAlive, signalProcess } from "./process-identity.ts";
import {
  findSupervised,
  killSupervised,
  readLogTail,
  readVmmStatus,
  type SuperviseOptions,
  superviseDetached,
} from "./supervise.ts";
import { temporaryDirectory } from "./temporary-directory.test-helper.ts";

let directory: string;
beforeEach(() => {
  directory = temporaryDirectory();
});
afterEach(async () => killSupervised(directory));

function options(argv: readonly string[], more: Partial<SuperviseOptions> = {}): SuperviseOptions {
  return {
    runtimeDirectory: directory,
    argv,
    sideProcesses: [],
    logPath: path.join(directory, "vmm.log"),
    console: { path: path.join(directory, "console"), limitBytes: 0, pipe: false },
    afterExit: [],
    sockets: [],
    ready: async () => {},
    timeoutMs: 10_000,
    ...more,
  };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2_000 && !condition(); i++) await sleep(10);
  expect(condition()).toBe(true);
}

const LISTENER = `
const server = require("node:net").createServer((socket) => socket.end("hello"));
server.listen(process.argv[1]);
`;

const AFTER_EXIT = `
env >"$0/after.env"
read -r pid rest <"$0/side.pid"
[ -d "/proc/$pid" ] && state=stayed || state=gone
echo "side has $state" >"$0/after.tmp"
mv "$0/after.tmp" "$0/after"
`;

function listener(socketPath: string): { name: string; argv: string[]; socketPath: string } {
  return { name: "side", argv: [process.execPath, "-e", LISTENER, socketPath], socketPath };
}

describe("superviseDetached", () => {
  test("hands back the process itself, in a session of its own, without descriptors or terminal", async () => {
    const { process: vmm, companions } = await superviseDetached(options(["sleep", "60"]));
    await until(() => readFileSync(`/proc/${vmm.pid}/cmdline`, "latin1") === "sleep\x0060\x00");
    expect(companions).toHaveLength(1);
    const stat = readFileSync(`/proc/${vmm.pid}/stat`, "latin1").split(") ")[1]?.split(" ");
    expect(Number(stat?.[3])).toBe(companions[0]?.pid);
    // Node marks its first descriptors close-on-exec; one far above them is the test runner's own affair.
    const descriptors = readdirSync(`/proc/${vmm.pid}/fd`)
      .filter((fd) => Number(fd) < 16)
      .map((fd) => readlinkSync(`/proc/${vmm.pid}/fd/${fd}`));
    expect(descriptors).toEqual([
      "/dev/null",
      path.join(directory, "vmm.log"),
      path.join(directory, "vmm.log"),
    ]);
  });

  test("passes arguments through unharmed", async () => {
    const words = ["a b", "$(touch pwned)", "`id`", "", "'", '"', "\\", "*", "-n", "é\n"];
    const output = path.join(directory, "words");
    const script = `require("node:fs").writeFileSync(process.argv[1], JSON.stringify(process.argv.slice(2)))`;
    const afterOutput = path.join(directory, "after words");
    await superviseDetached(
      options([process.execPath, "-e", script, output, ...words], {
        afterExit: [process.execPath, "-e", script, afterOutput, ...words],
      }),
    );
    await until(() => existsSync(afterOutput) && readFileSync(afterOutput, "utf8").endsWith("]"));
    expect(JSON.parse(readFileSync(output, "utf8"))).toEqual(words);
    expect(JSON.parse(readFileSync(afterOutput, "utf8"))).toEqual(words);
  });

  test("ends side processes after the VMM, then becomes afterExit, unmarked", async () => {
    const side = listener(path.join(directory, "side.sock"));
    const { process: vmm, companions } = await superviseDetached(
      options(["sleep", "60"], {
        sideProcesses: [side],
        afterExit: ["sh", "-c", AFTER_EXIT, directory],
      }),
    );
    expect(companions).toHaveLength(2);
    expect(await greeting(side.socketPath)).toBe("hello");
    expect(readVmmStatus(directory)).toBeUndefined();
    signalProcess(vmm, "SIGKILL");
    await until(() => existsSync(path.join(directory, "after")));
    expect(readVmmStatus(directory)).toBe(137);
    expect(readFileSync(path.join(directory, "after"), "utf8")).toBe("side has gone\n");
    expect(readFileSync(path.join(directory, "after.env"), "utf8")).not.toContain("FIRECTL_SUPERVISED");
    await until(() => findSupervised(directory).length === 0);
    for (const companion of companions) expect(isAlive(companion)).toBe(false);
  });

  test("a side process that dies before its socket is there fails the start with its words", async () => {
    const side = {
      name: "side",
      argv: ["sh", "-c", "echo no such luck; exit 3"],
      socketPath: path.join(directory, "s"),
    };
    await expect(superviseDetached(options(["sleep", "60"], { sideProcesses: [side] }))).rejects.toThrow(
      /could not be started; its last words:\nno such luck\nfirectl: side has ended/,
    );
    expect(findSupervised(directory)).toEqual([]);
  });

  test("an aborted start leaves nothing", async () => {
    const side = { name: "side", argv: ["sleep", "60"], socketPath: path.join(directory, "never") };
    const signal = AbortSignal.timeout(200);
    await expect(
      superviseDetached(options(["sleep", "60"], { sideProcesses: [side], signal })),
    ).rejects.toThrow();
    await until(() => findSupervised(directory).length === 0);
  });

  test("a VMM that does not become ready leaves nothing, its words are quoted", async () => {
    const side = listener(path.join(directory, "side.sock"));
    const failing = superviseDetached(
      options(["sh", "-c", "echo cannot; sleep 60"], {
        sideProcesses: [side],
        sockets: [side.socketPath],
        console: { path: path.join(directory, "console"), limitBytes: 10, pipe: true },
        afterExit: ["touch", path.join(directory, "after")],
        ready: async () => {
          await sleep(200);
          throw new FirectlError("VMM_REFUSED", "it refused");
        },
      }),
    );
    await expect(failing).rejects.toThrow("it refused");
    expect(findSupervised(directory)).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
  });

  test("the console is bounded, live and complete, and its flood does not stop the VMM", async () => {
    const console = { path: path.join(directory, "console"), limitBytes: 10_000, pipe: true };
    const flood = `trap '' PIPE; echo first; sleep 0.2; dd if=/dev/zero bs=1000 count=1000 2>/dev/null; echo lived >&2; sleep 60`;
    const { process: vmm } = await superviseDetached(options(["sh", "-c", flood], { console }));
    await until(() => existsSync(console.path) && readFileSync(console.path, "utf8").startsWith("first\n"));
    await until(() => readFileSync(path.join(directory, "vmm.log"), "utf8").includes("lived"));
    expect(readFileSync(console.path)).toHaveLength(10_000);
    expect(isAlive(vmm)).toBe(true);
  });

  test("what the VMM says is bounded too, and its flood does not stop it", async () => {
    const console = { path: path.join(directory, "console"), limitBytes: 10_000, pipe: true };
    const log = path.join(directory, "vmm.log");
    const flood = `trap '' PIPE; echo first >&2; sleep 0.2; seq 100000 >&2; echo lived; exec sleep 60`;
    const { process: vmm, companions } = await superviseDetached(options(["sh", "-c", flood], { console }));
    await until(() => readFileSync(log, "utf8").startsWith("first\n"));
    await until(() => existsSync(console.path) && readFileSync(console.path, "utf8").includes("lived"));
    expect(readFileSync(log, "utf8").startsWith("first\n1\n2\n3\n")).toBe(true);
    await until(() => /\n\d+\n$/.test(readFileSync(log, "utf8")));
    expect(readFileSync(log).length).toBeGreaterThan(9_900);
    expect(readFileSync(log).length).toBeLessThanOrEqual(10_000);
    expect(isAlive(vmm)).toBe(true);
    // The supervisor and the console's reader: nobody more for the log.
    expect(companions).toHaveLength(2);
    signalProcess(vmm, "SIGKILL");
    await until(() => readVmmStatus(directory) === 137);
  });

  test("what the VMM says arrives as it is, and nothing of the pipes is open in the VMM", async () => {
    const console = { path: path.join(directory, "console"), limitBytes: 10_000, pipe: true };
    const end = path.join(directory, "end");
    const words = `  a\\tb "c" $HOME \`id\` %s -n é`;
    const { process: vmm } = await superviseDetached(
      options(["sh", "-c", `mkfifo "$1"; printf '%s\\n\\nno newline' "$0" >&2; exec cat "$1"`, words, end], {
        console,
      }),
    );
    await until(() => readFileSync(`/proc/${vmm.pid}/cmdline`, "latin1").startsWith("cat"));
    // Not at once: the loader of cat's libraries opens them one after another.
    const descriptors = () => readdirSync(`/proc/${vmm.pid}/fd`).filter((fd) => Number(fd) < 16);
    await until(() => descriptors().join() === "0,1,2");
    writeFileSync(end, "");
    await until(() => readVmmStatus(directory) !== undefined);
    expect(readFileSync(path.join(directory, "vmm.log"), "utf8")).toBe(`${words}\n\nno newline\n`);
  });

  test("a VMM that ends at once has been started all the same", async () => {
    for (let i = 0; i < 100; i++) {
      const { process: vmm } = await superviseDetached(options(["sh", "-c", "exit 3"]));
      await until(() => readVmmStatus(directory) === 3);
      expect(isAlive(vmm)).toBe(false);
    }
  });

  test("the last words of a VMM that ends at once are quoted, whole", async () => {
    const failing = superviseDetached(
      options(["sh", "-c", "seq 300 >&2; echo cannot open the disk >&2; exit 1"], {
        console: { path: path.join(directory, "console"), limitBytes: 10_000, pipe: true },
        ready: async (vmm) => {
          while (isAlive(vmm)) await sleep(1);
          throw new FirectlError("VMM_FAILED", "it has ended");
        },
      }),
    );
    await expect(failing).rejects.toThrow(
      /^it has ended; its last words:\n1\n2\n(?:\d+\n)*300\ncannot open the disk$/,
    );
  });

  test("a side process that says much is bounded, and lives on", async () => {
    const socketPath = path.join(directory, "side.sock");
    const flood = `
${LISTENER}
const { writeSync } = require("node:fs");
for (let i = 0; i < 1000; i++) try { writeSync(2, "a packet that makes no sense\\n"); } catch {}
`;
    const side = { name: "side", argv: [process.execPath, "-e", flood, socketPath], socketPath };
    const { companions } = await superviseDetached(
      options(["sleep", "60"], { sideProcesses: [{ ...side, logLimitBytes: 10_000 }] }),
    );
    const log = path.join(directory, "vmm.log");
    await until(() => readFileSync(log).length >= 10_000);
    expect(await greeting(socketPath)).toBe("hello");
    expect(readFileSync(log).length).toBeLessThan(10_500);
    expect(companions.every(isAlive)).toBe(true);
  });

  test("an earlier life's log is not added to", async () => {
    writeFileSync(path.join(directory, "vmm.log"), "old");
    await superviseDetached(options(["sh", "-c", "echo new; sleep 60"]));
    await until(() => readFileSync(path.join(directory, "vmm.log"), "utf8") === "new\n");
  });

  test("a short console is whole when the VMM has ended", async () => {
    const console = { path: path.join(directory, "console"), limitBytes: 10_000, pipe: true };
    await superviseDetached(
      options(["sh", "-c", "printf Kernel; sleep 0.1; printf ' panic'"], {
        console,
        afterExit: ["touch", path.join(directory, "after")],
      }),
    );
    await until(() => existsSync(path.join(directory, "after")));
    expect(readFileSync(console.path, "utf8")).toBe("Kernel panic");
  });

  test("what the VMM's program leaves beside it is known once the VMM is ready, and killed with it", async () => {
    const launcher = `cd "$0"; sleep 60 & { read -r line <"/proc/$!/stat"; echo "$line" >h; mv h helper.pid; }; exec sleep 50`;
    const { process: vmm, companions } = await superviseDetached(
      options(["sh", "-c", launcher, directory], {
        companions: ["helper"],
        ready: async () => until(() => existsSync(path.join(directory, "helper.pid"))),
      }),
    );
    const helper = companions[1];
    if (helper === undefined) throw new Error("the helper is not known");
    expect(isAlive(helper)).toBe(true);
    await killSupervised(directory);
    expect([isAlive(helper), isAlive(vmm)]).toEqual([false, false]);
  });

  test("a killed supervisor leaves processes that are still found, noted or not", async () => {
    const side = listener(path.join(directory, "side.sock"));
    const { process: vmm, companions } = await superviseDetached(
      options(["sleep", "60"], { sideProcesses: [side] }),
    );
    const [supervisor] = companions;
    if (supervisor === undefined) throw new Error("no supervisor");
    signalProcess(supervisor, "SIGKILL");
    await until(() => !isAlive(supervisor));
    rmSync(path.join(directory, "vmm.pid"));
    expect(
      findSupervised(directory)
        .map(({ pid }) => pid)
        .sort(),
    ).toEqual([vmm.pid, companions[1]?.pid].sort());
    await killSupervised(directory);
    expect(findSupervised(directory)).toEqual([]);
  });

  test("a socket path that the kernel would cut is refused, a file in a socket's place is kept", async () => {
    const longest = path.join(directory, "x".repeat(106 - directory.length));
    writeFileSync(longest, "a file of the user's");
    await superviseDetached(options(["true"], { sockets: [longest] }));
    expect(existsSync(longest)).toBe(true);
    await expect(superviseDetached(options(["true"], { sockets: [`${longest}x`] }))).rejects.toThrow(
      "has 108 bytes; 107 are the most",
    );
  });

  test("a directory that has gone is an error", async () => {
    await expect(
      superviseDetached(options(["true"], { runtimeDirectory: path.join(directory, "gone") })),
    ).rejects.toThrow();
  });
});

test("readLogTail quotes the end without control characters and secrets", async () => {
  const log = path.join(directory, "log");
  writeFileSync(log, `${"x".repeat(100)}\n\x1b[31mred\x07\n`);
  expect(await readLogTail(log, 9)).toBe("[31mred");
  writeFileSync(log, "login with token: s3cret\n");
  expect(await readLogTail(log, 100)).toBe("login with token: ***");
  expect(await readLogTail(path.join(directory, "none"), 9)).toBe("");
});

function greeting(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    createConnection(socketPath)
      .setEncoding("utf8")
      .on("data", (data) => {
        text += String(data);
      })
      .on("end", () => resolve(text))
      .on("error", reject);
  });
}

import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import type { ExecOptions, ListOptions, LogEntry, LogsOptions, StopOptions } from "../manager/api.ts";
import { WorkloadStartError } from "../manager/workload-start-error.ts";
import { firectl, startedVm, testIo, vmSummary } from "./cli.test-helper.ts";

const HOUR_AGO = new Date(Date.now() - 3_700_000).toISOString();
const VMS = [
  vmSummary(),
  vmSummary({
    id: "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
    name: "job",
    imageName: `registry.example:5000/team/job@sha256:${"0123".repeat(16)}`,
    command: ["sh", "-c", "echo \x1b[31mred; exit 3"],
    createdAt: HOUR_AGO,
    startedAt: HOUR_AGO,
    finishedAt: HOUR_AGO,
    state: "exited",
    exitCode: 3,
    vmm: "qemu",
    pid: null,
    labels: { app: "batch", tier: "" },
  }),
];
const list = async ({ all }: { all?: boolean } = {}) =>
  VMS.filter((vm) => all === true || vm.state === "running");

describe("list", () => {
  const show = (...argv: string[]) => firectl(["list", ...argv], { operations: { list } });

  test("running ones as a table", async () => {
    const result = await show();
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toMatchInlineSnapshot(`
      "VM ID          NAME   IMAGE          COMMAND                  CREATED         STATUS         PORTS   VMM
      3f2b8c1e-9d4   web    nginx:latest   "nginx -g daemon off;"   5 minutes ago   Up 5 minutes           firecracker
      "
    `);
  });

  test("all, with what a hostile image wrote made harmless", async () => {
    const { stdout } = await show("-a");
    expect(stdout).toMatchInlineSnapshot(`
      "VM ID          NAME   IMAGE                                      COMMAND                     CREATED             STATUS                         PORTS   VMM
      3f2b8c1e-9d4   web    nginx:latest                               "nginx -g daemon off;"      5 minutes ago       Up 5 minutes                           firecracker
      aaaaaaaa-bbb   job    registry.example:5000/team/job@sha256:0…   "sh -c echo \\x1b[31mred…"   About an hour ago   Exited (3) About an hour ago           qemu
      "
    `);
  });

  test.each([
    ["oci:", "oci:…ep/deep/deep/deep/deep/images/nginx"],
    ["docker-archive:", "docker-archive:…p/deep/deep/images/nginx"],
  ])("a path's beginning is cut: %s", async (transport, shown) => {
    const imageName = `${transport}/home/ann/${"deep/".repeat(8)}images/nginx`;
    const vms = async () => [vmSummary({ imageName })];
    const table = (...argv: string[]) => firectl(["list", ...argv], { operations: { list: vms } });
    expect((await table()).stdout).toContain(`   ${shown}   `);
    expect((await table("--no-trunc")).stdout).toContain(`   ${imageName}   `);
  });

  test.each([
    ["docker.io/library/nginx:1.27", "nginx:1.27"],
    ["docker.io/team/app:1", "team/app:1"],
    ["docker:docker.io/library/app:1", "docker:app:1"],
    ["oci:/srv/layout:v1", "oci:/srv/layout:v1"],
  ])("%s is called as users write it", async (imageName, shown) => {
    const vms = async () => [vmSummary({ imageName })];
    const { stdout } = await firectl(["list"], { operations: { list: vms } });
    expect(stdout).toContain(`   ${shown}   `);
  });

  test("VMs of an image are asked for, and the other filters hold among them", async () => {
    const asked: unknown[] = [];
    const operations = {
      list: async (options?: ListOptions) => {
        asked.push(options);
        return VMS;
      },
    };
    const { stdout } = await firectl(
      ["ps", "-aq", "-f", "ancestor=nginx", "-f", "name=job", "-f", "ancestor=b"],
      { operations },
    );
    expect(asked).toEqual([{ all: true, images: ["nginx", "b"] }]);
    expect(stdout).toBe("aaaaaaaa-bbb\n");
  });

  test("an expression that never comes to an end is given up", async () => {
    const vms = async () => [vmSummary({ name: "a".repeat(60) })];
    expect(await firectl(["ps", "-f", "name=(a+)+b"], { operations: { list: vms } })).toEqual({
      status: 2,
      stdout: "",
      stderr: `firectl: --filter: the expression "(a+)+b" takes too long on the name "${"a".repeat(60)}"\nhint: write it without a repetition of a repetition, such as (a+)+\n`,
    });
  });

  test("nothing is a heading", async () => {
    const { stdout } = await firectl(["ps"], { operations: { list: async () => [] } });
    expect(stdout).toBe("VM ID   NAME   IMAGE   COMMAND   CREATED   STATUS   PORTS   VMM\n");
  });

  test.each([
    [["-aq"], "3f2b8c1e-9d4\naaaaaaaa-bbb\n"],
    [["-aq", "--no-trunc"], "3f2b8c1e-9d4a-4c6b-8e2f-0a1b2c3d4e5f\naaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee\n"],
    [["-a", "--format", "{{.Names}}\\t{{.State}}"], "web\trunning\njob\texited\n"],
    [["-a", "--format", '{{.Label "app"}}'], "\nbatch\n"],
    [["-a", "--format", "{{.Name}} {{.Labels}}"], "web \njob app=batch,tier=\n"],
    [["-a", "--format", "table {{.Name}}\\t{{if .Labels}}yes{{end}}"], "NAME   LABELS\nweb\njob    yes\n"],
    [["-a", "--format", "table {{.Name}}\\t{{.ExitCode}}"], "NAME   EXITCODE\nweb\njob    3\n"],
    [["-q", "--filter", "status=exited"], "aaaaaaaa-bbb\n"],
    [["-aq", "--filter", "label=app"], "aaaaaaaa-bbb\n"],
    [["-aq", "--filter", "label=app=web"], ""],
    [["-aq", "--filter", "label=app=batch", "-f", "label=tier"], "aaaaaaaa-bbb\n"],
    [["-aq", "--filter", "name=e"], "3f2b8c1e-9d4\n"],
    [["-aq", "--filter", "name=web", "--filter", "name=job"], "3f2b8c1e-9d4\naaaaaaaa-bbb\n"],
    [["-aq", "--filter", "id=aaaa"], "aaaaaaaa-bbb\n"],
    [["-aq", "--filter", "name=^web$"], "3f2b8c1e-9d4\n"],
    [["-aq", "--filter", "name=^/web$"], "3f2b8c1e-9d4\n"],
    [["-aq", "--filter", "name=we.*"], "3f2b8c1e-9d4\n"],
    [["-aq", "--filter", "name=^eb$"], ""],
    [["-aq", "--filter", "name=^(web|job)$"], "3f2b8c1e-9d4\naaaaaaaa-bbb\n"],
    [["-aq", "--filter", "vmm=qemu", "--filter", "name=web"], ""],
  ])("%j", async (argv, stdout) => {
    expect(await show(...argv)).toEqual({ status: 0, stdout, stderr: "" });
  });

  test("JSON is an object a line, and --json asks for it too", async () => {
    const { stdout } = await show("-a", "--format", "json");
    const [, job] = stdout.trim().split("\n");
    expect(JSON.parse(job ?? "")).toMatchObject({ Name: "job", ExitCode: 3, Labels: { app: "batch" } });
    expect((await firectl(["--json", "list"], { operations: { list } })).stdout).toContain(
      '"ID":"3f2b8c1e-9d4a-4c6b-8e2f-0a1b2c3d4e5f"',
    );
  });

  test.each([
    [
      ["--filter", "name"],
      '--filter: "name" is not a filter\nhint: write KEY=VALUE with one of the keys name, status, label, id, ancestor, vmm, health',
    ],
    [
      ["--filter", "toString=x"],
      '--filter: "toString=x" is not a filter\nhint: write KEY=VALUE with one of the keys name, status, label, id, ancestor, vmm, health',
    ],
    [
      ["--filter", "name=we("],
      '--filter: "we(" is not a regular expression\nhint: write a part of the name, or an expression such as ^web-[0-9]+$',
    ],
    [
      ["-f", "status=up"],
      '-f: "up" is not a status\nhint: write one of creating, running, exited, dead, removing',
    ],
    [
      ["--format", "{{.Nope}}"],
      "--format: there is no field Nope\nhint: the fields are .ID .Name .Names .Image .Command .CreatedAt .RunningFor .StartedAt .FinishedAt .State .Status .Health .Ports .ExitCode .VMM .PID .CPUs .MemoryBytes .Labels",
    ],
  ])("%j is refused", async (argv, message) => {
    expect(await show(...argv)).toEqual({ status: 2, stdout: "", stderr: `firectl: ${message}\n` });
  });
});

test("attach: what firectl fails at is told from what the workload ends with", async () => {
  const gone = async () => {
    throw new FirectlError("VM_NOT_FOUND", 'there is no VM "gone"');
  };
  expect(await firectl(["attach", "gone"], { operations: { attach: gone } })).toMatchObject({ status: 125 });
  expect(await firectl(["attach", "--foo", "a"])).toMatchObject({ status: 125 });
  const attach = async () => startedVm({ exitCode: 3 });
  expect(await firectl(["attach", "a"], { operations: { attach } })).toMatchObject({ status: 3 });
});

test("restart: each VM is stopped as it is told, and named when it runs again", async () => {
  const asked: unknown[] = [];
  const result = await firectl(["restart", "-t", "5", "-s", "INT", "a", "gone"], {
    operations: {
      async restart(vm, options) {
        asked.push({ vm, stopSignal: options?.stopSignal, timeoutMs: options?.timeoutMs });
        if (vm === "gone") throw new FirectlError("VM_NOT_FOUND", 'there is no VM "gone"');
        return vmSummary().id;
      },
    },
  });
  expect(asked).toEqual(["a", "gone"].map((vm) => ({ vm, stopSignal: "SIGINT", timeoutMs: 5000 })));
  expect(result).toEqual({ status: 3, stdout: "a\n", stderr: 'firectl: there is no VM "gone"\n' });
});

describe("several VMs at once", () => {
  test("each is named as the user did; a failure does not stop the others", async () => {
    const result = await firectl(["stop", "-t", "5", "a", "gone", "b"], {
      operations: {
        async stop(vm, options?: StopOptions) {
          expect(options).toMatchObject({ timeoutMs: 5000, keep: false });
          if (vm === "gone") throw new FirectlError("VM_NOT_FOUND", 'there is no VM "gone"');
          return vmSummary().id;
        },
      },
    });
    expect(result).toEqual({ status: 3, stdout: "a\nb\n", stderr: 'firectl: there is no VM "gone"\n' });
  });

  test("rm -f does not mind one that is not there", async () => {
    const remove = async () => {
      throw new FirectlError("VM_NOT_FOUND", "there is none");
    };
    expect(await firectl(["rm", "-f", "x"], { operations: { remove } })).toEqual({
      status: 0,
      stdout: "",
      stderr: "",
    });
    expect(await firectl(["rm", "x"], { operations: { remove } })).toMatchObject({ status: 3 });
  });

  test("kill sends SIGKILL unless told otherwise", async () => {
    const sent: string[] = [];
    const kill = async (_vm: string, signal: string) => {
      sent.push(signal);
      return vmSummary().id;
    };
    await firectl(["kill", "a"], { operations: { kill } });
    await firectl(["kill", "-s", "hup", "a"], { operations: { kill } });
    expect(sent).toEqual(["SIGKILL", "SIGHUP"]);
  });

  test("wait prints exit statuses", async () => {
    const wait = async (vm: string) => ({ exitCode: vm === "a" ? 0 : 7, oomKilled: false });
    expect(await firectl(["wait", "a", "b"], { operations: { wait } })).toMatchObject({
      status: 0,
      stdout: "0\n7\n",
    });
  });

  test("Ctrl-C ends a wait", async () => {
    const io = testIo();
    const result = await firectl(["wait", "a"], {
      io,
      operations: {
        wait: (_vm, options) =>
          new Promise((_resolve, reject) => {
            options?.signal?.addEventListener("abort", () => reject(options.signal?.reason));
            io.send("SIGINT");
          }),
      },
    });
    expect(result).toMatchObject({ status: 130, stderr: "firectl: interrupted by SIGINT\n" });
  });
});

describe("inspect", () => {
  const inspect = async (vm: string) => {
    if (vm === "gone") throw new FirectlError("VM_NOT_FOUND", 'there is no VM "gone"');
    return { id: vm, state: "exited", exitCode: 3 };
  };
  const inspectImage = async (name: string) => {
    if (name === "gone") throw new FirectlError("IMAGE_NOT_FOUND", "image gone is not in the local store");
    return { Id: "sha256:00", RepoTags: [name] };
  };
  test("an array of records, and the missing one is reported", async () => {
    const result = await firectl(["inspect", "a", "gone"], { operations: { inspect, inspectImage } });
    expect(result).toMatchObject({
      status: 3,
      stderr:
        'firectl: there is no VM and no image "gone"\nhint: firectl list -a and firectl images show all\n',
    });
    expect(JSON.parse(result.stdout)).toEqual([{ id: "a", state: "exited", exitCode: 3 }]);
  });
  test("an image where there is no VM of that name, or where one is asked for", async () => {
    const tags = (...argv: string[]) =>
      firectl(["inspect", "-f", "{{.RepoTags}}", ...argv], {
        operations: {
          inspectImage,
          inspect: async (vm) => {
            if (vm === "nginx") throw new FirectlError("VM_NOT_FOUND", "there is none");
            return { id: vm };
          },
        },
      });
    expect(await tags("nginx")).toMatchObject({ status: 0, stdout: "[nginx]\n" });
    expect(await tags("--type", "image", "a")).toMatchObject({ status: 0, stdout: "[a]\n" });
    expect(await tags("--type", "vm", "nginx")).toMatchObject({
      status: 3,
      stderr: "firectl: there is none\n",
    });
    expect(await tags("--type", "image", "gone")).toMatchObject({ status: 3 });
    expect(await tags("--type", "pod", "a")).toMatchObject({ status: 2 });
  });
  test("--format", async () => {
    const format = (text: string) => firectl(["inspect", "-f", text, "a", "b"], { operations: { inspect } });
    expect((await format("{{.State}} {{.ExitCode}}")).stdout).toBe("exited 3\nexited 3\n");
    expect((await format("json")).stdout.split("\n")).toHaveLength(3);
  });
});

test.each([
  [{}, "\x1b[H\x1b[2JVM ID"],
  [{ TERM: "dumb" }, "VM ID"],
])("stats of a terminal with %j begins with %j", async (env, expected) => {
  const io = testIo({ env, stdoutIsTerminal: true });
  async function* stats() {
    yield [];
  }
  expect(await firectl(["stats"], { io, operations: { stats } })).toMatchObject({ status: 0 });
  expect(io.stdout.text.slice(0, expected.length)).toBe(expected);
});

describe("logs", () => {
  const entry = (stream: LogEntry["stream"], text: string, seconds: number): LogEntry => ({
    stream,
    data: Buffer.from(text),
    timeUnixNs: BigInt(seconds) * 1_000_000_000n + 5n,
  });
  async function* entries(): AsyncIterable<LogEntry> {
    yield entry("stdout", "one\ntw", 1);
    yield entry("stderr", "oops\n", 2);
    yield entry("stdout", "o\n\n", 3);
  }

  test("streams stay apart", async () => {
    const result = await firectl(["logs", "a"], { operations: { logs: entries } });
    expect(result).toEqual({ status: 0, stdout: "one\ntwo\n\n", stderr: "oops\n" });
  });

  test("-t puts the time before each line, not before the rest of one", async () => {
    const result = await firectl(["logs", "-t", "a"], { operations: { logs: entries } });
    expect(result.stdout).toBe(
      "1970-01-01T00:00:01.000000005Z one\n1970-01-01T00:00:01.000000005Z two\n1970-01-01T00:00:03.000000005Z \n",
    );
    expect(result.stderr).toBe("1970-01-01T00:00:02.000000005Z oops\n");
  });

  test("options", async () => {
    let seen: LogsOptions | undefined;
    const logs = (_vm: string, options?: LogsOptions) => {
      seen = options;
      return entries();
    };
    await firectl(["logs", "-fn", "10", "--since", "5", "--until=6.5", "a"], { operations: { logs } });
    expect(seen).toMatchObject({
      follow: true,
      tail: 10,
      sinceUnixNs: 5_000_000_000n,
      untilUnixNs: 6_500_000_000n,
    });
    await firectl(["logs", "--tail", "all", "a"], { operations: { logs } });
    expect(seen).toEqual({ follow: false });
  });

  test.each([
    ["SIGINT", { status: 130, stderr: "oops\n" }],
    ["SIGTERM", { status: 143, stderr: "oops\nfirectl: interrupted by SIGTERM\n" }],
  ] as const)("%s ends following, and Ctrl-C without a word, as in docker", async (signal, expected) => {
    const io = testIo();
    async function* logs(_vm: string, options?: LogsOptions) {
      yield* entries();
      io.send(signal);
      options?.signal?.throwIfAborted();
    }
    expect(await firectl(["logs", "-f", "a"], { io, operations: { logs } })).toMatchObject(expected);
    expect(io.stdout.text).not.toBe("");
  });

  test("--console", async () => {
    async function* consoleLog() {
      yield Buffer.from("[    0.0] Linux\n");
    }
    const result = await firectl(["logs", "--console", "a"], { operations: { consoleLog } });
    expect(result.stdout).toBe("[    0.0] Linux\n");
    expect(await firectl(["logs", "--console", "-t", "a"])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("logs: --timestamps does not go with --console"),
    });
  });

  test("a reader that has gone is a clean end", async () => {
    const io = testIo();
    io.stdout.closed = true;
    expect(await firectl(["logs", "a"], { io, operations: { logs: entries } })).toMatchObject({
      status: 0,
      stderr: "",
    });
  });
});

describe("exec", () => {
  test("flags after the VM belong to the command; status and streams are passed on", async () => {
    let seen: ExecOptions | undefined;
    const input: string[] = [];
    const result = await firectl(["exec", "-ie", "A=1", "-u", "nginx", "-w", "/", "web", "sh", "-e", "x"], {
      stdin: ["hello ", "guest"],
      operations: {
        async exec(_vm, options) {
          seen = options;
          for await (const chunk of options.stdin ?? []) input.push(Buffer.from(chunk).toString());
          options.onOutput({ stream: "stdout", data: Buffer.from("out") });
          options.onOutput({ stream: "stderr", data: Buffer.from("err") });
          return { exitCode: 9, oomKilled: false };
        },
      },
    });
    expect(result).toEqual({ status: 9, stdout: "out", stderr: "err" });
    expect(seen).toMatchObject({ command: ["sh", "-e", "x"], env: ["A=1"], user: "nginx", workingDir: "/" });
    expect(input.join("")).toBe("hello guest");
  });

  test("is given up when nobody reads its output", async () => {
    const io = testIo();
    io.stdout.closed = true;
    const result = await firectl(["exec", "web", "yes"], {
      io,
      operations: {
        async exec(_vm, { onOutput, signal }) {
          onOutput({ stream: "stdout", data: Buffer.from("y\n") });
          expect(signal?.aborted).toBe(true);
          throw new Error("aborted");
        },
      },
    });
    expect(result).toEqual({ status: 0, stdout: "", stderr: "" });
  });

  test("without -i nothing is read from stdin", async () => {
    await firectl(["exec", "web", "true"], {
      operations: {
        async exec(_vm, options) {
          expect(options.stdin).toBeUndefined();
          return { exitCode: 0, oomKilled: false };
        },
      },
    });
  });
});

describe("export", () => {
  async function* exportVm(vm: string, options?: { signal?: AbortSignal }): AsyncGenerator<Uint8Array> {
    expect(options?.signal?.aborted).toBe(false);
    yield Buffer.from(`tar of ${vm}`);
  }

  test("writes the archive to stdout", async () => {
    const result = await firectl(["export", "web"], { operations: { exportVm } });
    expect(result).toEqual({ status: 0, stdout: "tar of web", stderr: "" });
  });

  test("refuses a terminal, and names what to do", async () => {
    const result = await firectl(["export", "web"], { operations: { exportVm }, stdoutIsTerminal: true });
    expect(result).toMatchObject({
      status: 2,
      stdout: "",
      stderr: expect.stringContaining("name a file with -o"),
    });
  });
});

describe("start", () => {
  test("detached by default", async () => {
    const events: string[] = [];
    const start = async (_vm: string, options?: { detach?: boolean }) => {
      events.push(`detach ${options?.detach}`);
      return startedVm({ events });
    };
    expect(await firectl(["start", "a"], { operations: { start } })).toEqual({
      status: 0,
      stdout: "a\n",
      stderr: "",
    });
    expect(events).toEqual(["detach true", "disposed"]);
  });

  test("a VM that runs already is left as it is, and joined with -a", async () => {
    const events: string[] = [];
    const operations = {
      async start() {
        throw new FirectlError("WRONG_STATE", "cannot start a: it is running, and must be exited or dead");
      },
      inspect: async () => ({ state: "running" }),
      attach: async () => startedVm({ output: [["stdout", "hi"]], exitCode: 4, events }),
    };
    expect(await firectl(["start", "a"], { operations })).toEqual({ status: 0, stdout: "a\n", stderr: "" });
    expect(await firectl(["start", "-a", "a"], { operations })).toMatchObject({ status: 4, stdout: "hi" });
    expect(events).toEqual(["disposed"]);
    // One that is being started may yet fail.
    const inspect = async () => ({ state: "creating" });
    expect(await firectl(["start", "a"], { operations: { ...operations, inspect } })).toMatchObject({
      status: 4,
      stdout: "",
    });
  });

  test("-a stays and passes the status on", async () => {
    const start = async () => startedVm({ output: [["stdout", "hi"]], exitCode: 4 });
    expect(await firectl(["start", "-a", "a"], { operations: { start } })).toMatchObject({
      status: 4,
      stdout: "hi",
    });
    for (const wrong of [["-a", "a", "b"], ["-a", "a", "--foo"], ["--foo", "-ai", "a"], ["-i"]]) {
      expect(await firectl(["start", ...wrong])).toMatchObject({ status: 125, stdout: "" });
    }
    expect(await firectl(["start", "a", "--foo"])).toMatchObject({ status: 2 });
    expect(await firectl(["start", "--attach=false", "a", "--foo"])).toMatchObject({ status: 2 });
    const fail = async () => {
      throw new WorkloadStartError({ exitCode: 127, error: "sh: not found", oomKilled: false });
    };
    expect(await firectl(["start", "-a", "a"], { operations: { start: fail } })).toMatchObject({
      status: 127,
    });
    expect(await firectl(["start", "a"], { operations: { start: fail } })).toMatchObject({ status: 7 });
  });
});

describe("kernels, images, setup", () => {
  const OWN_KERNEL = {
    name: "own",
    version: "6.1.0-firectl",
    path: "/o",
    isDefault: false,
    sizeBytes: 18_000_000,
    addedAt: HOUR_AGO,
    modules: [],
    features: ["ext4", "pmem", "dax", "containers"],
  };

  test("kernel add: a download needs its checksum", async () => {
    expect(await firectl(["kernel", "add", "https://example.com/vmlinux"])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("kernel add: a download needs --sha256 (https://example.com/vmlinux)"),
    });
    expect(await firectl(["kernel", "add", "--sha256", "abc", "x"])).toMatchObject({ status: 2 });
  });

  test("kernel list", async () => {
    const listKernels = async () => [
      {
        name: "cloud",
        version: "6.1.0",
        path: "/k",
        isDefault: true,
        sizeBytes: 8_000_000,
        addedAt: HOUR_AGO,
        modules: ["virtio", "virtio_blk"],
      },
      OWN_KERNEL,
    ];
    const operations = { listKernels };
    expect((await firectl(["kernel", "ls"], { operations })).stdout).toBe(
      [
        "NAME    VERSION         DEFAULT   ADDED               SIZE   MODULES   FEATURES",
        "cloud   6.1.0           *         About an hour ago   8MB    2         unknown",
        "own     6.1.0-firectl             About an hour ago   18MB   0         pmem,dax,containers",
        "",
      ].join("\n"),
    );
    const json = (await firectl(["kernel", "ls", "--format", "json"], { operations })).stdout;
    expect(
      json
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toMatchObject([
      { Name: "cloud", Modules: ["virtio", "virtio_blk"], Features: null },
      { Name: "own", Modules: [], Features: ["ext4", "pmem", "dax", "containers"] },
    ]);
  });

  test("kernel build: everything is passed on, the name is printed", async () => {
    const asked: unknown[] = [];
    const buildKernel = async (options: unknown) => {
      asked.push(options);
      return { ...OWN_KERNEL, isDefault: true };
    };
    const argv = [
      "kernel",
      "build",
      "--with",
      "nfs",
      "--with",
      "xfs",
      "-j",
      "2",
      "--name",
      "own",
      "--no-default",
    ];
    expect(await firectl(argv, { operations: { buildKernel } })).toMatchObject({
      status: 0,
      stdout: "own\n",
    });
    expect(asked).toMatchObject([{ parts: ["nfs", "xfs"], jobs: 2, name: "own", makeDefault: false }]);
    expect(await firectl(["kernel", "build", "-j", "0"])).toMatchObject({ status: 2 });
    expect(await firectl(["kernel", "build", "--sha256", "12"])).toMatchObject({ status: 2 });
  });

  test("setup says what is missing, and its status whether run can work", async () => {
    const steps = [
      { what: "KVM", status: "missing", detail: "/dev/kvm is not there: QEMU emulates" },
      { what: "kernel", status: "done", detail: "cloud" },
    ] as const;
    const setup = (ready: boolean) => ({ operations: { setup: async () => ({ steps, ready }) } });
    expect(await firectl(["setup"], setup(true))).toEqual({
      status: 0,
      stdout: "missing   KVM      /dev/kvm is not there: QEMU emulates\ndone      kernel   cloud\n",
      stderr: "",
    });
    expect(await firectl(["setup"], setup(false))).toMatchObject({
      status: 5,
      stderr: "firectl: this machine cannot run VMs yet\nhint: see the lines marked missing\n",
    });
    const [kvm, kernel] = steps;
    const hinted = { ready: false, steps: [{ ...kvm, hint: "load kvm" }, kernel] };
    expect(await firectl(["setup"], { operations: { setup: async () => hinted } })).toMatchObject({
      status: 5,
      stderr: "firectl: this machine cannot run VMs yet\nhint: load kvm; then firectl setup again\n",
    });
  });
});

describe("errors", () => {
  const failing = (error: unknown) => ({
    operations: {
      list: async () => {
        throw error;
      },
    },
  });

  test("hostile text and credentials are cleaned", async () => {
    const error = new FirectlError("REGISTRY_REFUSED", "https://u:p@reg/ said \x1b[2J\u202e", {
      hint: "log\rin",
    });
    expect((await firectl(["list"], failing(error))).stderr).toBe(
      "firectl: https://***@reg/ said \\x1b[2J\\u202e\nhint: log\\rin\n",
    );
  });

  test("what a user typed is shown as it is, and the words of a bug are not trusted", async () => {
    const message = "image token:latest is not in the local store";
    const known = new FirectlError("IMAGE_NOT_FOUND", message, { hint: "firectl pull token:latest" });
    expect((await firectl(["list"], failing(known))).stderr).toBe(
      `firectl: ${message}\nhint: firectl pull token:latest\n`,
    );
    const cause = new Error("the server said token: s3cret");
    for (const error of [cause, new FirectlError("IO_FAILED", "no answer", { cause })]) {
      for (const env of [{ FIRECTL_DEBUG: "1" }, { FIRECTL_DEBUG: "1", FIRECTL_ERROR_FORMAT: "json" }]) {
        const { stderr } = await firectl(["list"], { ...failing(error), env });
        expect(stderr).toContain("token: ***");
        expect(stderr).not.toContain("s3cret");
      }
    }
  });

  test.each([
    [["--json", "list"], {}],
    [["list", "--json"], {}],
    [["list"], { FIRECTL_ERROR_FORMAT: "json" }],
  ])("as JSON: %j %j", async (argv, env) => {
    const error = new FirectlError("VM_NOT_FOUND", "none", { hint: "look" });
    const { status, stderr } = await firectl(argv, { ...failing(error), env });
    expect(status).toBe(3);
    expect(stderr.endsWith("}\n")).toBe(true);
    expect(JSON.parse(stderr)).toEqual({
      error: { code: "VM_NOT_FOUND", kind: "not-found", message: "none", hint: "look", exitStatus: 3 },
    });
  });

  test("JSON carries the exit status that run really has", async () => {
    const { stderr } = await firectl(["run", "--json", "--cpus", "0", "img"]);
    // The flags could not be read, so --json among them does not count; the variable does.
    expect(stderr).toContain("firectl: --cpus");
    const asJson = await firectl(["--json", "run", "--cpus", "0", "img"]);
    expect(JSON.parse(asJson.stderr)).toMatchObject({ error: { code: "INVALID_ARGUMENT", exitStatus: 125 } });
  });

  test("a bug shows its stack and asks for a report", async () => {
    const { status, stderr } = await firectl(["list"], failing(new TypeError("x is not a function")));
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^firectl: unexpected error: x is not a function\nTypeError: x is not a function\n {4}at /,
    );
    expect(stderr).toMatch(/\nhint: this is a bug of firectl: please report it with the lines above\n$/);
  });

  test("what is thrown may be anything", async () => {
    expect(await firectl(["list"], failing("text"))).toMatchObject({ status: 1 });
    expect(await firectl(["list"], failing(undefined))).toMatchObject({ status: 1 });
  });

  test("FIRECTL_DEBUG shows stacks and causes of known errors", async () => {
    const error = new FirectlError("IO_FAILED", "cannot write", { cause: new Error("EIO") });
    const quiet = await firectl(["list"], failing(error));
    expect(quiet.stderr).toBe("firectl: cannot write\n");
    const loud = await firectl(["list"], { ...failing(error), env: { FIRECTL_DEBUG: "1" } });
    expect(loud.stderr).toContain("caused by: Error: EIO");
  });
});

describe("cp", () => {
  test("names the devices that it leaves out, made harmless, and says how many more there are", async () => {
    const copyFromVm = async () => ({ bytes: 5, leftOut: ["x/a", "x/\x1b[2Jb"], leftOutCount: 2_000_000 });
    const result = await firectl(["cp", "-q", "web:/x", "."], { operations: { copyFromVm } });
    expect(result).toMatchObject({ status: 1, stdout: "" });
    expect(result.stderr).toMatchInlineSnapshot(`
      "firectl: x/a is a device, which a VM must not put on this machine: left out
      firectl: x/\\x1b[2Jb is a device, which a VM must not put on this machine: left out
      firectl: and 1999998 more devices: left out
      "
    `);
    const one = async () => ({ bytes: 5, leftOut: ["x/a"], leftOutCount: 1 });
    const named = await firectl(["cp", "-q", "web:/x", "."], { operations: { copyFromVm: one } });
    expect(named.stderr).toBe(
      "firectl: x/a is a device, which a VM must not put on this machine: left out\n",
    );
  });

  test.each([
    [["web:", "/tmp"], "web:"],
    [["-", "web:"], "web:"],
  ])("cp %j: a whole VM is not meant by leaving its path out", async (argv, place) => {
    expect(await firectl(["cp", ...argv])).toEqual({
      status: 2,
      stdout: "",
      stderr: `firectl: cp: "${place}" has no path\nhint: write web:/ for all of the VM, or web:PATH\n`,
    });
  });
});

import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { onEveryBackend } from "./support/backends.ts";
import { BIN, IMAGES, Sandbox } from "./support/firectl.ts";
import { run } from "./support/run.ts";

const IMAGE = `oci:${IMAGES}/layers`;
const FULL_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;
/** A guest says nothing for seconds while it boots, and longer on a busy machine. */
const SOON = { timeout: 120_000, interval: 200 };

/** Says what it is asked with signals; ends with 5 when asked to stop. */
const ATTENTIVE = [
  "trap 'echo asked to stop; exit 5' TERM",
  "trap 'echo heard USR1' USR1",
  `echo "started, greeting $GREETING, from file $FROM_FILE"; echo a warning >&2`,
  "[ ! -e /kept ] || cat /kept",
  "while :; do sleep 1000 & wait; done",
].join("\n");
const STARTED = "started, greeting hello, from file yes it is\n";

onEveryBackend("a detached VM", (vmm) => {
  let sandbox: Sandbox;
  let id: string;
  let timing: string;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
    const envFile = path.join(sandbox.directory, "env");
    await writeFile(envFile, "# a comment\n\nFROM_FILE=yes it is\nGREETING=replaced\n");
    const started = await sandbox.call([
      ...["run", "-d", "--vmm", vmm, "--name", "web", "--cpus", "2", "-m", "200m", "--timing"],
      ...["--label", "tier=front", "-l", "fast", "--cidfile", path.join(sandbox.directory, "id")],
      ...["--env-file", envFile, "-e", "GREETING=hello", IMAGE, "/bin/sh", "-c", ATTENTIVE],
    ]);
    expect(started, started.stderr).toMatchObject({ status: 0 });
    id = started.stdout.trimEnd();
    timing = started.stderr;
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });

  const logsHave = (text: string) => expect.poll(() => sandbox.ok(["logs", "web"]), SOON).toContain(text);

  test("run -d prints the full id once the workload runs, and writes it to the --cidfile", async () => {
    expect(id).toMatch(FULL_ID);
    expect(await readFile(path.join(sandbox.directory, "id"), "utf8")).toBe(id);
    expect(sandbox.records()).toMatchObject([{ id, state: "running" }]);
    await logsHave(STARTED);
  });

  test("--timing tells where the time went", () => {
    const [heading, ...rows] = timing.trimEnd().split("\n");
    expect(heading).toMatch(/^STAGE +TIME$/);
    const stages = rows.map((row) => /^(.+?) +(\d+ ms|\d+\.\d\d s)$/.exec(row)?.[1]);
    const expected = ["load", "pull", "build", "prepare", "VMM start", "kernel load", "kernel", "init"];
    expect(stages.filter((stage) => stage !== "other")).toEqual([...expected, "total"]);
  });

  test("list shows it as a table, as ids, as JSON and by template", async () => {
    const [heading, row] = (await sandbox.ok(["list"])).split("\n");
    expect(heading).toMatch(/^VM ID +NAME +IMAGE +COMMAND +CREATED +STATUS +PORTS +VMM$/);
    expect(row).toMatch(
      new RegExp(`^${id.slice(0, 12)} +web +oci:.*/layers.* +"/bin/sh -c.*" .* ago +Up .* +${vmm}$`),
    );
    for (const name of ["ls", "ps"]) expect(await sandbox.ok([name, "-q"])).toBe(`${id.slice(0, 12)}\n`);
    expect(await sandbox.ok(["list", "-q", "--no-trunc"])).toBe(`${id}\n`);
    expect(await sandbox.ok(["list", "--no-trunc"])).toContain(`${IMAGES}/layers`);
    expect(JSON.parse(await sandbox.ok(["list", "--format", "json", "--no-trunc"]))).toMatchObject({
      ID: id,
      Name: "web",
      State: "running",
      CPUs: 2,
      Labels: { tier: "front", fast: "" },
      VMM: vmm,
    });
    const template = '{{.Name}}\\t{{.State}} {{.Label "tier"}}';
    expect(await sandbox.ok(["list", "--format", template])).toBe("web\trunning front\n");
  });

  test("list --filter takes name, status, label and ancestor", async () => {
    const found = async (...filters: readonly string[]): Promise<boolean> =>
      (await sandbox.ok(["list", "-q", ...filters.flatMap((filter) => ["--filter", filter])])) !== "";
    for (const filter of ["name=we", "status=running", "label=tier", "label=tier=front", `ancestor=${IMAGE}`])
      expect([filter, await found(filter)]).toEqual([filter, true]);
    for (const filter of ["name=db", "status=exited", "label=tier=back", "label=none", "ancestor=other"])
      expect([filter, await found(filter)]).toEqual([filter, false]);
    expect(await found("label=tier=front", "label=fast", "name=nobody", "name=web")).toBe(true);
    expect(await found("label=tier=front", "label=slow")).toBe(false);
  });

  test("inspect says what is on record, and it is true", async () => {
    const [record] = JSON.parse(await sandbox.ok(["inspect", "web"]));
    expect(record).toMatchObject({
      id,
      name: "web",
      state: "running",
      vmm,
      cpus: 2,
      memoryMib: 200,
      labels: { tier: "front", fast: "" },
    });
    expect(record.imageName).toContain(IMAGE);
    expect(record.createdAt).toMatch(RFC_3339);
    const commandLine = await readFile(`/proc/${record.firecrackerPid}/cmdline`, "latin1");
    expect(commandLine).toContain(vmm === "qemu" ? "qemu-system" : "firecracker");
    for (const file of [record.vmSocketPath, record.rootfsPath, record.kernelPath]) {
      expect(path.isAbsolute(file)).toBe(true);
      await expect(run("stat", ["-L", file])).resolves.toContain(file);
    }
    expect(await sandbox.ok(["inspect", "-f", "{{.state}} {{.workload.hostname}}", "web"])).toBe(
      `running ${id.slice(0, 12)}\n`,
    );
  });

  test("id, unique beginning of the id, and name all name it; nothing else does", async () => {
    for (const name of [id, id.slice(0, 12), id.slice(0, 5), "web"])
      expect(await sandbox.ok(["inspect", "-f", "{{.id}}", name])).toBe(`${id}\n`);
    const unknown = await sandbox.call(["inspect", "nobody"]);
    expect(unknown).toMatchObject({ status: 3, stdout: "[]\n" });
    expect(unknown.stderr).toContain('"nobody"');
  });

  test("a name that is taken is refused, and the other VM is not touched", async () => {
    const second = await sandbox.call(["run", "-d", "--vmm", vmm, "--name", "web", IMAGE, "/bin/true"]);
    expect(second).toMatchObject({ status: 125, stdout: "" });
    expect(second.stderr).toContain(`the name "web" belongs to VM ${id}`);
    expect(sandbox.records().map((record) => record["id"])).toEqual([id]);
  });

  test("--cpus and -m are what the guest has", async () => {
    expect(await sandbox.ok(["exec", "web", "/bin/nproc"])).toBe("2\n");
    const memory = await sandbox.ok(["exec", "web", "/bin/grep", "MemTotal", "/proc/meminfo"]);
    const kib = Number(/(\d+) kB/.exec(memory)?.[1]);
    // The kernel keeps some of it to itself.
    expect(kib).toBeGreaterThan(130 * 1024);
    expect(kib).toBeLessThanOrEqual(200 * 1024);
  });

  test("exec runs beside the workload, as whom and where it is told", async () => {
    const script = 'echo "$(id -u):$(id -g) $PWD $GREETING $MORE"; echo complaint >&2; exit 9';
    const flags = ["-u", "12:34", "-w", "/data", "-e", "MORE=more"];
    expect(await sandbox.call(["exec", ...flags, "web", "/bin/sh", "-c", script])).toEqual({
      stdout: "12:34 /data hello more\n",
      stderr: "complaint\n",
      status: 9,
    });
    const comm = await sandbox.ok(["exec", "web", "/bin/cat", "/proc/1/comm"]);
    expect(comm).toBe("sh\n");
  });

  test("exec ends with 127, 126 and 128 + n as docker's does", async () => {
    const missing = await sandbox.call(["exec", "web", "/bin/nowhere"]);
    expect(missing).toMatchObject({ status: 127, stdout: "" });
    expect(missing.stderr).toContain("/bin/nowhere");
    expect(await sandbox.call(["exec", "web", "/keep/kept"])).toMatchObject({ status: 126, stdout: "" });
    expect(await sandbox.call(["exec", "web", "/bin/sh", "-c", "kill -9 $$"])).toMatchObject({ status: 137 });
    const nobody = await sandbox.call(["exec", "-u", "nobody-here", "web", "/bin/true"]);
    expect(nobody.status).toBe(125);
    expect(nobody.stderr).toContain("nobody-here");
  });

  test("exec -i passes stdin on and back, byte for byte; without -i there is none", async () => {
    const sent = randomBytes(1024 * 1024);
    const file = path.join(sandbox.directory, "sent");
    await writeFile(file, sent);
    const shell = '"$@" <"$0" >"$0.back"';
    const command = [BIN, "exec", "-i", "web", "/bin/cat"];
    await run("/bin/sh", ["-c", shell, file, ...command], { env: sandbox.env });
    expect(sent.equals(await readFile(`${file}.back`))).toBe(true);
    expect(await sandbox.ok(["exec", "web", "/bin/cat"], { stdin: "not asked for" })).toBe("");
  });

  test("logs keeps the streams apart; --tail, --since, -t and --console", async () => {
    const all = await sandbox.call(["logs", "web"]);
    expect(all).toMatchObject({ stdout: STARTED, stderr: "a warning\n", status: 0 });
    await sandbox.ok(["kill", "-s", "USR1", "web"]);
    await logsHave("heard USR1\n");
    expect(await sandbox.call(["logs", "--tail", "1", "web"])).toMatchObject({
      stdout: "heard USR1\n",
      stderr: "",
    });
    const stamped = await sandbox.ok(["logs", "-t", "web"]);
    expect(stamped).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z started.*\n\d{4}-.*Z heard USR1\n$/);
    const [firstTime = "", lastTime = ""] = stamped.split("\n").map((line) => line.split(" ", 1)[0]);
    expect(Math.abs(Date.parse(lastTime) - Date.now())).toBeLessThan(60_000);
    expect(Date.parse(lastTime)).toBeGreaterThan(Date.parse(firstTime));
    expect(await sandbox.ok(["logs", "--since", lastTime, "web"])).toBe("heard USR1\n");
    expect(await sandbox.ok(["logs", "--until", firstTime, "web"])).toBe(STARTED);
    expect(await sandbox.ok(["logs", "--console", "web"])).not.toContain("heard USR1");
  });

  test("a running VM is not removed without -f, and left alone by start", async () => {
    const refused = await sandbox.call(["rm", "web"]);
    expect(refused).toMatchObject({ status: 4, stdout: "" });
    expect(refused.stderr).toContain("it is running");
    const records = sandbox.records();
    expect(await sandbox.ok(["start", "web"])).toBe("web\n");
    expect(sandbox.records()).toEqual(records);
  });

  test("stop --keep asks the workload to stop; logs -f and wait end with it", async () => {
    await sandbox.ok(["exec", "web", "/bin/sh", "-c", "echo from before >/kept"]);
    const following = sandbox.start(["logs", "-f", "web"]);
    await expect.poll(following.stdout, SOON).toContain("heard USR1\n");
    const waiting = sandbox.start(["wait", "web"]);
    expect(await sandbox.ok(["stop", "--keep", "web"])).toBe("web\n");
    expect(await following.finished).toMatchObject({
      stdout: `${STARTED}heard USR1\nasked to stop\n`,
      status: 0,
    });
    expect(await waiting.finished).toMatchObject({ stdout: "5\n", status: 0 });
    expect(sandbox.records()).toMatchObject([{ id, state: "exited", exitCode: 5, firecrackerPid: null }]);
    expect(await sandbox.ok(["wait", "web"])).toBe("5\n");
    expect(await sandbox.ok(["list", "-q"])).toBe("");
    expect(await sandbox.ok(["list", "-a"])).toMatch(/ Exited \(5\) .* ago /);
    expect(await sandbox.ok(["logs", "-f", "web"])).toContain("asked to stop\n");
    const exec = await sandbox.call(["exec", "web", "/bin/true"]);
    expect(exec.status).toBe(125);
    expect(exec.stderr).toContain("exited");
  });

  test("an id that begins like another's is ambiguous", async () => {
    const [record] = sandbox.records();
    const twin = { ...record, id: `${id.slice(0, -1)}${id.endsWith("0") ? "1" : "0"}`, name: "twin" };
    await writeFile(sandbox.stateFile, JSON.stringify([record, twin]));
    const ambiguous = await sandbox.call(["inspect", id.slice(0, 12)]);
    expect(ambiguous.status).toBe(4);
    expect(ambiguous.stderr).toContain(id);
    expect(ambiguous.stderr).toContain(twin.id);
    expect(await sandbox.ok(["rm", "twin"])).toBe("twin\n");
    expect(sandbox.records()).toMatchObject([{ id }]);
  });

  test("start -a goes on with the same disk, shows what is new, and passes a signal and the status", async () => {
    const attached = sandbox.start(["start", "-a", "web"]);
    await expect.poll(attached.stdout, SOON).toContain("from before\n");
    attached.kill("SIGTERM");
    expect(await attached.finished).toEqual({
      stdout: `${STARTED}from before\nasked to stop\n`,
      stderr: "a warning\n",
      status: 5,
    });
    expect(sandbox.records()).toMatchObject([{ id, state: "exited", exitCode: 5 }]);
    expect(await sandbox.ok(["logs", "web"])).toBe(
      `${STARTED}heard USR1\nasked to stop\n${STARTED}from before\nasked to stop\n`,
    );
  });

  test("start without -a leaves it running; rm -f ends and removes it", async () => {
    expect(await sandbox.ok(["start", "web"])).toBe("web\n");
    expect(sandbox.records()).toMatchObject([{ id, state: "running", exitCode: null }]);
    expect(await sandbox.ok(["exec", "web", "/bin/cat", "/kept"])).toBe("from before\n");
    expect(await sandbox.ok(["rm", "-f", "web"])).toBe("web\n");
    await sandbox.expectNothingLeft();
  });
});

onEveryBackend("stop and kill", (vmm) => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await Sandbox.create();
  });
  afterAll(async () => {
    await sandbox.closeEmpty();
  });
  const detach = (flags: readonly string[], script: string) =>
    sandbox.ok(["run", "-d", "--vmm", vmm, ...flags, IMAGE, "/bin/sh", "-c", script]);

  test("what ignores the stop signal is killed after -t seconds, and everything of it is gone", async () => {
    // A minute unless -t says otherwise: what takes far less was killed after -t.
    await detach(
      ["--name", "deaf", "--stop-timeout", "60"],
      "trap '' TERM; echo deaf; while :; do sleep 1; done",
    );
    const following = sandbox.start(["logs", "-f", "deaf"]);
    await expect.poll(following.stdout, SOON).toBe("deaf\n");
    const before = performance.now();
    expect(await sandbox.ok(["stop", "-t", "1", "deaf"])).toBe("deaf\n");
    const tookMs = performance.now() - before;
    expect(tookMs).toBeGreaterThan(1000);
    expect(tookMs).toBeLessThan(30_000);
    expect(await following.finished).toMatchObject({ status: 0 });
    await sandbox.expectNothingLeft();
  });

  test("restart begins anew on the same disk; what is to be removed at its end still is", async () => {
    const script =
      "trap 'exit 0' TERM; echo life >>/lives; wc -l </lives; while [ ! -e /end ]; do sleep 1 & wait; done";
    await detach(["--name", "again", "--rm"], script);
    await expect.poll(() => sandbox.ok(["logs", "again"]), SOON).toBe("1\n");
    const [before] = sandbox.records();
    expect(await sandbox.ok(["restart", "-t", "60", "again"])).toBe("again\n");
    const [after] = sandbox.records();
    expect(after).toMatchObject({ id: before?.["id"], state: "running", autoRemove: true, attached: false });
    expect(after?.["startedAt"]).not.toBe(before?.["startedAt"]);
    await expect.poll(() => sandbox.ok(["logs", "again"]), SOON).toBe("1\n2\n");
    await sandbox.ok(["stop", "--keep", "again"]);
    expect(await sandbox.ok(["restart", "again"])).toBe("again\n");
    await expect.poll(() => sandbox.ok(["logs", "again"]), SOON).toBe("1\n2\n3\n");
    await sandbox.ok(["exec", "again", "/bin/touch", "/end"]);
    // Its `stop --keep` was the last word on that.
    expect(await sandbox.ok(["wait", "again"])).toBe("0\n");
    expect(await sandbox.ok(["rm", "again"])).toBe("again\n");
    await sandbox.expectNothingLeft();
  });

  test("--stop-signal is what stop sends", async () => {
    const script = "trap 'echo two; exit 0' USR2; echo ready; while :; do sleep 1000 & wait; done";
    await detach(["--name", "other", "--stop-signal", "usr2"], script);
    const following = sandbox.start(["logs", "-f", "other"]);
    await expect.poll(following.stdout, SOON).toBe("ready\n");
    await sandbox.ok(["stop", "other"]);
    expect(await following.finished).toMatchObject({ stdout: "ready\ntwo\n", status: 0 });
    await sandbox.expectNothingLeft();
  });

  test("run -d of what cannot start says why and leaves nothing", async () => {
    const started = await sandbox.call(["run", "-d", "--vmm", vmm, IMAGE, "/bin/not-there"]);
    expect(started).toMatchObject({ status: 127, stdout: "" });
    expect(started.stderr).toContain("/bin/not-there");
    await sandbox.expectNothingLeft();
  });

  test("a workload that ends by itself ends its VM; wait waits for that", async () => {
    await detach(["--name", "brief"], "sleep 2; echo done; exit 3");
    expect(await sandbox.ok(["wait", "brief"])).toBe("3\n");
    expect(sandbox.records()).toMatchObject([{ name: "brief", state: "exited", exitCode: 3 }]);
    expect(await sandbox.ok(["logs", "brief"])).toBe("done\n");
    expect(await sandbox.call(["kill", "brief"])).toMatchObject({ status: 4 });
    expect(await sandbox.ok(["stop", "brief"])).toBe("brief\n");
    await sandbox.expectNothingLeft();
  });

  test("--read-only keeps the workload from writing to its root filesystem", async () => {
    const script = "echo x >/x || echo refused; echo y >/dev/shm/y && cat /dev/shm/y";
    const finished = await sandbox.call([
      ...["run", "--rm", "--vmm", vmm, "--read-only", IMAGE, "/bin/sh", "-c", script],
    ]);
    expect(finished).toMatchObject({ stdout: "refused\ny\n", status: 0 });
    expect(finished.stderr).toContain("Read-only file system");
  });
});

describe("several VMs in one command", () => {
  test("each is dealt with, each failure told, and the first failure is the status", async () => {
    await using sandbox = await Sandbox.create();
    const finished = await sandbox.call(["stop", "one", "two"]);
    expect(finished).toMatchObject({ stdout: "", status: 3 });
    expect(finished.stderr).toContain('"one"');
    expect(finished.stderr).toContain('"two"');
  });
});

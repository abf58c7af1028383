import { existsSync, readdirSync } from "node:fs";
import { createServer, type Server } from "node:http";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { anyBackend } from "./support/backends.ts";
import { IMAGES, type Running, Sandbox } from "./support/firectl.ts";
import { type Registry, startRegistry } from "./support/registry.ts";

const vmm = anyBackend();

/** A stage of `run`, recognised from outside by what it leaves on the host. */
interface Stage {
  readonly name: string;
  readonly reached: (sandbox: Sandbox, running: Running) => boolean;
}

const entries = (directory: string): string[] => (existsSync(directory) ? readdirSync(directory) : []);
const belowVm = (sandbox: Sandbox): string[] =>
  entries(path.join(sandbox.data, "vms")).flatMap((id) => entries(path.join(sandbox.data, "vms", id)));
const inRuntime = (sandbox: Sandbox): string[] =>
  entries(sandbox.runtime).flatMap((name) => {
    const directory = path.join(sandbox.runtime, name);
    return /^[0-9a-f-]{36}$/.test(name) ? entries(directory) : [];
  });

const STAGES: readonly Stage[] = [
  { name: "started", reached: () => true },
  { name: "on record", reached: (sandbox) => existsSync(sandbox.stateFile) },
  {
    name: "the image is in the store",
    reached: (sandbox) => entries(path.join(sandbox.data, "images")).includes("index.json"),
  },
  {
    name: "the root filesystem is being built",
    reached: (sandbox) => entries(path.join(sandbox.data, "base")).some((name) => name.endsWith(".tmp")),
  },
  {
    name: "the writable disk is there",
    reached: (sandbox) => entries(path.join(sandbox.data, "rootfs")).length > 0,
  },
  { name: "the control drive is there", reached: (sandbox) => belowVm(sandbox).includes("control.img") },
  { name: "the supervisor runs", reached: (sandbox) => inRuntime(sandbox).includes("supervisor.pid") },
  { name: "the VMM runs", reached: (sandbox) => inRuntime(sandbox).includes("vmm.pid") },
  { name: "the guest boots", reached: (sandbox) => inRuntime(sandbox).includes("v.sock") },
  { name: "the workload runs", reached: (_sandbox, running) => running.stdout().includes("running") },
];

async function until(condition: () => boolean, running: Running): Promise<void> {
  let ended = false;
  running.finished.then(
    () => {
      ended = true;
    },
    () => {
      ended = true;
    },
  );
  while (!condition() && !ended) await new Promise((resolve) => setImmediate(resolve));
}

describe("firectl killed with SIGKILL", () => {
  test.each(STAGES)("when $name: one more command leaves nothing", async ({ reached }) => {
    await using sandbox = await Sandbox.create();
    const running = sandbox.start([
      ...["run", "--vmm", vmm, `oci:${IMAGES}/layers`, "/bin/sh", "-c"],
      "echo running; while :; do sleep 1; done",
    ]);
    await until(() => reached(sandbox, running), running);
    running.kill("SIGKILL");
    expect((await running.finished).status).toBe(137);
    expect(await sandbox.ok(["list", "-a", "-q"])).toBe("");
    await sandbox.expectNothingLeft();
  });

  test("while a detached VM is made: one more command leaves nothing", async () => {
    await using sandbox = await Sandbox.create();
    const running = sandbox.start(["run", "-d", "--vmm", vmm, `oci:${IMAGES}/layers`, "/bin/sleep", "1000"]);
    await until(() => inRuntime(sandbox).includes("vmm.pid"), running);
    running.kill("SIGKILL");
    await running.finished;
    expect(await sandbox.ok(["list", "-a", "-q"])).toBe("");
    await sandbox.expectNothingLeft();
  });
});

describe("firectl killed while it pulls", () => {
  let registry: Registry;
  let stalling: Server;
  let address: string;
  let asked: () => void = () => {};
  beforeAll(async () => {
    registry = await startRegistry();
    await registry.push(`${IMAGES}/layers`, "org/layers");
    // Hands out manifests and half of each layer, and then is silent.
    stalling = createServer(async (request, response) => {
      const answer = await fetch(`http://${registry.address}${request.url}`, {
        headers: { accept: request.headers.accept ?? "*/*" },
      });
      const body = Buffer.from(await answer.arrayBuffer());
      for (const name of ["content-type", "docker-content-digest"]) {
        const value = answer.headers.get(name);
        if (value !== null) response.setHeader(name, value);
      }
      response.setHeader("content-length", body.length);
      response.statusCode = answer.status;
      if (!(request.url ?? "").includes("/blobs/") || body.length < 10_000) {
        response.end(request.method === "HEAD" ? undefined : body);
        return;
      }
      response.write(body.subarray(0, body.length / 2));
      asked();
    });
    await new Promise<void>((resolve) => stalling.listen(0, "127.0.0.1", resolve));
    const bound = stalling.address();
    address = typeof bound === "object" && bound !== null ? `127.0.0.1:${bound.port}` : "";
  });
  afterAll(async () => {
    stalling.closeAllConnections();
    stalling.close();
    await registry[Symbol.asyncDispose]();
  });

  test.each(["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"] as const)(
    "with %s: nothing is left",
    async (signal) => {
      await using sandbox = await Sandbox.create();
      const half = new Promise<void>((resolve) => {
        asked = resolve;
      });
      const running = sandbox.start(["run", "--vmm", vmm, `${address}/org/layers:latest`]);
      await half;
      running.kill(signal);
      const finished = await running.finished;
      if (signal !== "SIGKILL") {
        expect(finished.status).toBe({ SIGTERM: 143, SIGINT: 130, SIGHUP: 129 }[signal]);
        expect(finished.stderr).toContain("interrupted while obtaining image");
        expect(sandbox.records()).toEqual([]);
      }
      expect(await sandbox.ok(["list", "-a", "-q"])).toBe("");
      await sandbox.expectNothingLeft();
    },
  );
});

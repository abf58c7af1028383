import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Http2Server, type ServerHttp2Session } from "node:http2";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import { GuestClient } from "./client.ts";
import { AgentService } from "./gen/firectl/agent/v1/agent_pb.ts";
import { Phase } from "./gen/firectl/agent/v1/control_pb.ts";

/** A gRPC server that speaks the agent's contract over a unix socket, as the guest does over vsock. */
const agent = (router: ConnectRouter): ConnectRouter =>
  router.service(AgentService, {
    ping: () => ({ agentVersion: "1.2.3", status: { phase: Phase.RUNNING } }),
    wait: (_request, context) =>
      new Promise((_resolve, reject) => {
        context.signal.addEventListener("abort", () => reject(context.signal.reason));
      }),
    signal: ({ signal }) => {
      received.push(`signal ${signal}`);
      if (signal === 1) throw new ConnectError("the workload does not run", Code.FailedPrecondition);
      if (signal === 2) throw new ConnectError("evil \u001b[2J text, token: s3cret", Code.Internal);
      return {};
    },
    freeze: ({ limitMs }) => {
      received.push(`freeze ${limitMs}`);
      return {};
    },
    thaw: () => ({ expired: received.at(-1) !== "freeze 500" }),
    statPath: ({ path }) => {
      throw new ConnectError(`${Buffer.from(path)}: no such file or directory`, Code.NotFound);
    },
    shutdown: ({ signal, graceMs }) => {
      received.push(`shutdown ${signal} ${graceMs}`);
      return {};
    },
    async *exec(requests, context) {
      context.signal.addEventListener("abort", () => received.push("cancelled"));
      let mode = "";
      let input = 0;
      for await (const { request } of requests) {
        if (request.case === "start") {
          mode = request.value.args[0] ?? "";
          if (mode === "missing") {
            yield { response: { case: "exited", value: { exit: { code: 127 }, error: "not found" } } };
            return;
          }
          yield { response: { case: "started", value: { pid: 7 } } };
          yield { response: { case: "stdout", value: Buffer.from("out") } };
          yield { response: { case: "stderr", value: Buffer.from("err") } };
          if (mode === "hang")
            await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
          if (mode === "early") break;
          if (mode === "silent") return;
          if (mode === "huge") yield { response: { case: "stdout", value: Buffer.alloc(5 << 20) } };
        }
        if (request.case === "stdin") input += request.value.length;
        if (request.case === "closeStdin") break;
      }
      received.push(`input ${input}`);
      yield { response: { case: "exited", value: { exit: { code: 70_000, signal: 9 } } } };
    },
  });

let received: string[];
let directory: string;
let server: Http2Server;
let sessions: Set<ServerHttp2Session>;
let client: GuestClient;
let dials: number;

async function dial(): Promise<Socket> {
  dials++;
  const socket = connect(join(directory, "agent.sock"));
  await once(socket, "connect");
  return socket;
}

beforeEach(async () => {
  received = [];
  dials = 0;
  directory = await mkdtemp(join(tmpdir(), "firectl-client-"));
  server = createServer(connectNodeAdapter({ routes: agent }));
  sessions = new Set();
  server.on("session", (session) => sessions.add(session));
  server.listen(join(directory, "agent.sock"));
  await once(server, "listening");
  client = new GuestClient(dial);
});

afterEach(async () => {
  client.close();
  for (const session of sessions) session.destroy();
  server.close();
  await rm(directory, { recursive: true, force: true });
});

const collected = (): {
  out: string[];
  onStdout: (data: Uint8Array) => void;
  onStderr: (data: Uint8Array) => void;
} => {
  const out: string[] = [];
  return {
    out,
    onStdout: (data) => void out.push(`1 ${Buffer.from(data).toString()}`),
    onStderr: (data) => void out.push(`2 ${Buffer.from(data).toString()}`),
  };
};

test("calls share one connection", async () => {
  expect(await client.ping()).toMatchObject({ agentVersion: "1.2.3", status: { phase: Phase.RUNNING } });
  await client.signal(15);
  await client.shutdown({ signal: 0, graceMs: 10_000 });
  expect(received).toEqual(["signal 15", "shutdown 0 10000"]);
  expect(dials).toBe(1);
});

test("a thaw tells whether writes were held back until then", async () => {
  await client.freeze(500);
  expect(await client.thaw()).toBe(true);
  await client.freeze(1000);
  expect(await client.thaw()).toBe(false);
  expect(received).toEqual(["freeze 500", "freeze 1000"]);
});

test("a lost connection is made again", async () => {
  await client.ping();
  for (const session of sessions) session.destroy();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await client.ping();
  expect(dials).toBe(2);
});

test("a connection that the guest has said goodbye on is made again", async () => {
  await client.ping();
  for (const session of sessions) session.close();
  await new Promise((resolve) => setTimeout(resolve, 20));
  await client.ping();
  expect(dials).toBe(2);
});

test("a closed client makes no calls", async () => {
  await client.ping();
  client.close();
  await expect(client.ping()).rejects.toMatchObject({ code: "WRONG_STATE" });
});

describe("failures have their codes:", () => {
  test("a refusal of the agent", async () => {
    await expect(client.signal(1)).rejects.toMatchObject({ code: "WRONG_STATE" });
    await expect(client.signal(2)).rejects.toMatchObject({
      code: "AGENT_FAILED",
      message: "the guest's agent could not signal: evil \ufffd[2J text, token: ***",
    });
  });

  test("a path that is not there, with what paths are", async () => {
    await expect(client.statPath({ path: Buffer.from("/nosuch"), follow: true })).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
      message: "the guest's agent could not look: /nosuch: no such file or directory",
      hint: expect.stringMatching(/^the path is one in the VM, from its root/),
    });
  });

  test("nobody there", async () => {
    const lonely = new GuestClient(() => Promise.reject(new FirectlError("AGENT_UNREACHABLE", "no vsock")));
    await expect(lonely.ping()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE", message: "no vsock" });
  });

  test("a guest that dies during a call", async () => {
    await client.ping();
    const waiting = client.wait();
    setTimeout(() => {
      for (const session of sessions) session.destroy();
    }, 20);
    await expect(waiting).rejects.toMatchObject({ code: "AGENT_UNREACHABLE" });
  });

  test("no answer in time", async () => {
    await expect(client.wait({ timeoutMs: 50 })).rejects.toMatchObject({ code: "TIMEOUT" });
  });

  test("the caller's own abort is the caller's own reason", async () => {
    const reason = new Error("enough");
    const stop = new AbortController();
    setTimeout(() => stop.abort(reason), 20);
    await expect(client.wait({ signal: stop.signal })).rejects.toBe(reason);
    await expect(client.ping({ signal: stop.signal })).rejects.toBe(reason);
  });
});

describe("exec", () => {
  test("carries input, output and the end", async () => {
    const { out, ...sinks } = collected();
    const pids: number[] = [];
    const stdin = (async function* () {
      for (let piece = 0; piece < 10; piece++) yield Buffer.alloc(100_000);
    })();
    const result = await client.exec({
      process: { args: ["x"] },
      stdin,
      onStarted: (pid) => pids.push(pid),
      ...sinks,
    });
    expect(result).toEqual({ exitCode: 255, signal: 9, error: undefined });
    expect(out).toEqual(["1 out", "2 err"]);
    expect(pids).toEqual([7]);
    expect(received).toContain("input 1000000");
  });

  test("closes an input that was not given", async () => {
    await client.exec({ process: { args: ["x"] }, ...collected() });
    expect(received).toContain("input 0");
  });

  test("ends although its input does not", async () => {
    const stdin = (async function* (): AsyncGenerator<Uint8Array> {
      await new Promise(() => {});
    })();
    const result = await client.exec({ process: { args: ["early"] }, stdin, ...collected() });
    expect(result.signal).toBe(9);
  });

  test("tells why a process did not start", async () => {
    const result = await client.exec({ process: { args: ["missing"] }, ...collected() });
    expect(result).toEqual({ exitCode: 127, signal: 0, error: "not found" });
  });

  test("is cancelled by its signal", async () => {
    const stop = new AbortController();
    const reason = new Error("enough");
    const running = client.exec({
      process: { args: ["hang"] },
      signal: stop.signal,
      ...collected(),
      onStderr: () => stop.abort(reason),
    });
    await expect(running).rejects.toBe(reason);
    await expect.poll(() => received).toContain("cancelled");
  });

  test.each([
    ["silent", "the guest's agent ended exec without an exit status"],
    ["huge", /could not exec/],
  ])("does not believe an agent that is %s", async (mode, message) => {
    const running = client.exec({ process: { args: [mode] }, ...collected() });
    await expect(running).rejects.toMatchObject({ code: "AGENT_FAILED" });
    await expect(running).rejects.toThrow(message);
  });

  test("lets a consumer's own error through", async () => {
    const failure = new Error("disk full");
    const running = client.exec({
      process: { args: ["x"] },
      onStdout: () => Promise.reject(failure),
      onStderr: () => {},
    });
    await expect(running).rejects.toBe(failure);
  });
});

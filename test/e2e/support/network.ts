import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { realpathSync } from "node:fs";
import { mkdtemp, readlink, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "./run.ts";

/** Of the machine on which firectl is run, as the far one sees it. */
export const NEAR_ADDRESS = "198.51.100.1";
/** Of the machine that is far away. */
export const FAR_ADDRESS = "198.51.100.2";
export const FAR_PORT = 8000;
/** Only the far machine's name server knows it, in the domain that is searched. */
export const FAR_NAME = "far.firectl.test";

/**
 * Two machines and a cable: network namespaces of this test's own. In the near one firectl is run; in the far one, to
 * which its default route leads, are a web server and a name server.
 */
export interface TestNetwork extends AsyncDisposable {
  /** What to put before a command that is to run on the near machine. */
  readonly near: readonly string[];
  readonly far: readonly string[];
}

/** The near machine has the far one's name server, and nothing of this machine's. */
const RESOLVER = `nameserver ${FAR_ADDRESS}\nsearch firectl.test\n`;

/**
 * Sends back what is posted, and `/bytes/N` as N bytes of zeroes; says who asks. Answers every question for
 * FAR_NAME's address with FAR_ADDRESS, and others with "no such name"; RFC 1035, section 4.
 */
const FAR_SERVER = `
const http = require("node:http");
const server = http.createServer((request, response) => {
  const bytes = /^\\/bytes\\/(\\d+)$/.exec(request.url);
  if (request.method === "POST") request.pipe(response);
  else if (bytes !== null) response.end(Buffer.alloc(Number(bytes[1])));
  else response.end("hello " + request.socket.remoteAddress + "\\n");
});
const socket = require("node:dgram").createSocket("udp4");
socket.on("message", (query, from) => {
  let at = 12;
  const labels = [];
  while (query[at] > 0) { labels.push(query.toString("latin1", at + 1, at + 1 + query[at])); at += query[at] + 1; }
  const question = query.subarray(12, at + 5);
  const isKnown = labels.join(".").toLowerCase() === process.argv[1];
  const hasAnswer = isKnown && query.readUInt16BE(at + 1) === 1;
  const head = Buffer.from([query[0], query[1], 0x85, isKnown ? 0x80 : 0x83, 0, 1, 0, hasAnswer ? 1 : 0, 0, 0, 0, 0]);
  const answer = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...process.argv[2].split(".").map(Number)]);
  socket.send(Buffer.concat([head, question, ...(hasAnswer ? [answer] : [])]), from.port, from.address);
});
server.listen(Number(process.argv[3]), () => socket.bind(53, () => console.log("ready")));
`;

/** Makes the network. Root's, as network namespaces are. */
export async function startNetwork(): Promise<TestNetwork> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "firectl-network-"));
  const resolver = path.join(directory, "resolv.conf");
  await writeFile(resolver, RESOLVER);
  const children: ChildProcess[] = [];
  const dispose = async (): Promise<void> => {
    for (const child of children) {
      const ended = once(child, "exit");
      if (child.exitCode === null && child.signalCode === null && child.kill("SIGKILL")) await ended;
    }
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const near = await machine(children);
    const far = await machine(children);
    // From inside: where this machine has an eth0, older kernels make none for others.
    const cable = ["link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", pidOf(far)];
    await run(...inside(near, ["ip", ...cable]));
    await setUp(near, NEAR_ADDRESS);
    await setUp(far, FAR_ADDRESS);
    await run(...inside(near, ["ip", "route", "add", "default", "via", FAR_ADDRESS]));
    await run(...inside(near, ["mount", "--bind", resolver, "/etc/resolv.conf"]));
    const server = [process.execPath, "-e", FAR_SERVER, FAR_NAME, FAR_ADDRESS, String(FAR_PORT)];
    children.push(await serve(inside(far, server)));
    return { near: enter(near), far: enter(far), [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** Starts a server, which says "ready" when it is. */
export async function serve([program, args]: [string, string[]]): Promise<ChildProcess> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === "ready") return child;
  }
  throw new Error(`${program} ${args.join(" ")} is not ready`);
}

/** Where coreutils are one program, sleep is it. */
const SLEEP = path.basename(realpathSync("/bin/sleep"));

/** Namespaces that live as long as the process in them, which waits. */
async function machine(children: ChildProcess[]): Promise<ChildProcess> {
  const child = spawn("unshare", ["--net", "--mount", "sleep", "infinity"], { stdio: "ignore" });
  children.push(child);
  // It has become the sleep once it is in its namespaces.
  for (let attempt = 0; attempt < 500; attempt++) {
    const program = await readlink(`/proc/${pidOf(child)}/exe`);
    if (path.basename(program) === SLEEP) return child;
    await sleep(10);
  }
  throw new Error("unshare does not become sleep");
}

function pidOf({ pid }: ChildProcess): string {
  if (pid === undefined) throw new Error("unshare could not be started");
  return String(pid);
}

function enter(child: ChildProcess): readonly string[] {
  return ["nsenter", "--target", pidOf(child), "--net", "--mount", "--"];
}

function inside(child: ChildProcess, command: readonly string[]): [string, string[]] {
  const [program = "", ...args] = [...enter(child), ...command];
  return [program, args];
}

async function setUp(child: ChildProcess, address: string): Promise<void> {
  await run(...inside(child, ["ip", "link", "set", "lo", "up"]));
  await run(...inside(child, ["ip", "address", "add", `${address}/24`, "dev", "eth0"]));
  await run(...inside(child, ["ip", "link", "set", "eth0", "up"]));
}

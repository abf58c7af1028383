import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { run } from "./run.ts";

/** Debian's docker-registry on a loopback port of its own. */
export interface Registry extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  readonly address: string;
  /** Pushes an OCI layout's `latest` as NAME:latest. */
  push(layout: string, name: string): Promise<string>;
  /** How many blobs have been asked for with GET so far. */
  blobDownloads(): number;
}

/** Starts a registry and waits until it answers. */
export async function startRegistry(): Promise<Registry> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "firectl-registry-"));
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  const configuration = path.join(directory, "config.yml");
  await writeFile(
    configuration,
    `version: 0.1
log: {accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: ${directory}/data}}
http: {addr: "${address}"}
`,
  );
  const server = spawn("docker-registry", ["serve", configuration], { stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  for (const stream of [server.stdout, server.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      log += text;
    });
  }
  const stop = async (): Promise<void> => {
    const ended = new Promise((resolve) => server.once("exit", resolve));
    if (server.exitCode === null && server.kill("SIGKILL")) await ended;
    await rm(directory, { recursive: true, force: true });
  };
  for (let attempt = 0; ; attempt++) {
    const answer = await fetch(`http://${address}/v2/`).catch(() => undefined);
    if (answer?.ok === true) break;
    if (attempt > 200 || server.exitCode !== null) {
      await stop();
      throw new Error(`docker-registry does not answer: ${log.slice(-2000)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    address,
    push: async (layout, name) => {
      const reference = `${address}/${name}:latest`;
      await run("skopeo", [
        "copy",
        "--dest-tls-verify=false",
        `oci:${layout}:latest`,
        `docker://${reference}`,
      ]);
      return reference;
    },
    blobDownloads: () => log.match(/"GET \/v2\/[^"]*\/blobs\/sha256:[^"]*" 200/g)?.length ?? 0,
    [Symbol.asyncDispose]: stop,
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}

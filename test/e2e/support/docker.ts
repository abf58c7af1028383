import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { run } from "./run.ts";

/** A Docker Engine of the tests' own: own socket, own data, no network, nothing of the host touched. */
export interface DockerEngine extends AsyncDisposable {
  readonly host: string;
}

/** Starts dockerd and waits until it answers. */
export async function startDocker(): Promise<DockerEngine> {
  const directory = await mkdtemp(path.join(os.tmpdir(), "firectl-dockerd-"));
  const host = `unix://${directory}/docker.sock`;
  const log = path.join(directory, "log");
  const configuration = path.join(directory, "daemon.json");
  await writeFile(configuration, "{}");
  const daemon = spawn(
    "/bin/sh",
    [
      "-c",
      'exec "$@" >"$0" 2>&1',
      log,
      "dockerd",
      ...["--host", host, "--data-root", `${directory}/data`, "--exec-root", `${directory}/exec`],
      ...["--pidfile", `${directory}/pid`, "--config-file", configuration],
      ...["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none"],
    ],
    { detached: true, stdio: "ignore" },
  );
  const stop = async (): Promise<void> => {
    const ended = new Promise((resolve) => daemon.once("exit", resolve));
    if (daemon.exitCode === null && daemon.kill("SIGTERM")) await ended;
    await rm(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 });
  };
  for (let attempt = 0; attempt < 240; attempt++) {
    const answer = await run("docker", ["-H", host, "version"]).catch(() => undefined);
    if (answer !== undefined) return { host, [Symbol.asyncDispose]: stop };
    if (daemon.exitCode !== null) break;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  const said = await readFile(log, "utf8").catch(() => "");
  await stop();
  throw new Error(`dockerd does not answer: ${said.slice(-2000)}`);
}

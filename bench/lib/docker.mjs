import { rmSync, writeFileSync } from "node:fs";
import { startDaemon } from "./daemon.mjs";
import { plainEnvironment, run } from "./programs.mjs";

export const DOCKER = "docker pull";
export const CLASSIC = "classic (docker pull, create, export, mkfs, mount, tar x, umount)";

/** A dockerd with data of its own, and its two ways: those are timed in one go, since each pulls only once. */
export async function docker({ scratch, current }) {
  const host = `unix://${scratch.at("docker.sock")}`;
  const client = (...args) => run("docker", ["--host", host, ...args], { env }).trim();
  const env = plainEnvironment({ DOCKER_CONFIG: scratch.make("docker", "client") });
  const config = scratch.at("docker", "daemon.json");
  writeFileSync(config, "{}");
  const flags = [
    "--log-level=error",
    "--host",
    host,
    "--config-file",
    config,
    "--pidfile",
    scratch.at("docker", "pid"),
  ];
  const places = [
    "--data-root",
    scratch.make("docker", "data"),
    "--exec-root",
    scratch.make("docker", "exec"),
  ];
  const network = [
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
  ];
  const daemon = await startDaemon(
    "dockerd",
    [...flags, ...places, ...network, "--storage-driver=overlay2"],
    {
      isUp: async () => client("version") !== "",
      log: scratch.at("docker", "log"),
    },
  );
  return {
    name: DOCKER,
    run: () => {
      const { reference } = current();
      const start = performance.now();
      client("pull", "--quiet", reference);
      const pulled = performance.now() - start;
      toFilesystem(client, { host, reference, scratch });
      const ms = performance.now() - start;
      return {
        several: [
          { name: DOCKER, ms: pulled },
          { name: CLASSIC, ms },
        ],
      };
    },
    tidy: () => rmSync(scratch.at("classic.ext4"), { force: true }),
    stop: daemon.stop,
  };
}

function toFilesystem(client, { host, reference, scratch }) {
  const disk = scratch.at("classic.ext4");
  const mountPoint = scratch.make("classic");
  const bytes =
    Math.ceil(Number(client("image", "inspect", "--format", "{{.Size}}", reference)) * 1.3) + 2 ** 26;
  const container = client("create", "--network=none", reference);
  run("truncate", ["-s", String(bytes), disk]);
  run("mkfs.ext4", ["-q", "-F", disk]);
  run("mount", ["-o", "loop", disk, mountPoint]);
  try {
    const script = 'docker --host "$1" export "$2" | tar -xp -C "$3"';
    run("bash", ["-o", "pipefail", "-c", script, "bash", host, container, mountPoint]);
  } finally {
    run("umount", [mountPoint]);
  }
}

import { writeFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { startDaemon } from "./daemon.mjs";

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";

/** A docker-registry (Debian's package of that name) of its own, on loopback and a free port. */
export async function startRegistry(scratch) {
  const port = await freePort();
  const config = scratch.at("registry.yml");
  writeFileSync(
    config,
    [
      "version: 0.1",
      "log: { level: error }",
      `storage: { filesystem: { rootdirectory: ${scratch.make("registry")} } }`,
      `http: { addr: "127.0.0.1:${port}" }`,
    ].join("\n"),
  );
  const host = `127.0.0.1:${port}`;
  const daemon = await startDaemon("docker-registry", ["serve", config], {
    isUp: async () => (await exchange(`http://${host}/v2/`)).status === 200,
    log: scratch.at("registry.log"),
  });
  return { host, stop: daemon.stop };
}

/** Puts an image of freshVariant()'s kind there as `name` (`repository:tag`), and returns its reference. */
export async function push(registry, name, image) {
  const [repository, tag] = name.split(":");
  const base = `http://${registry.host}/v2/${repository}`;
  for (const blob of image.blobs) {
    const { headers } = await exchange(`${base}/blobs/uploads/`, { method: "POST" });
    const target = new URL(headers.location, base);
    target.searchParams.set("digest", blob.digest);
    await exchange(target, { method: "PUT", type: "application/octet-stream", ...blob });
  }
  await exchange(`${base}/manifests/${tag}`, { method: "PUT", type: MANIFEST_TYPE, ...image.manifest });
  return `${registry.host}/${name}`;
}

/** The bytes of a blob, as they come. */
export async function openBlob(registry, repository, { digest }) {
  const { response } = await request(`http://${registry.host}/v2/${repository}/blobs/${digest}`, {});
  return response;
}

async function exchange(url, options = {}) {
  const { response } = await request(url, options);
  response.resume();
  return { status: response.statusCode, headers: response.headers };
}

function request(url, { method = "GET", type, size, chunks = () => [] }) {
  return new Promise((resolve, reject) => {
    const headers = size === undefined ? {} : { "content-type": type, "content-length": size };
    const sent = http.request(url, { method, headers }, (response) => {
      if (response.statusCode < 300) resolve({ response });
      else reject(new Error(`${method} ${url} answered ${response.statusCode}`));
    });
    sent.on("error", reject);
    pipeline(Readable.from(chunks()), sent).catch(reject);
  });
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/*
 * The ways of getting an image from a registry that bench/pull.mjs times. Each works in directories of its own
 * below the scratch directory. What they unpack stays there until the end, since removing many files would slow
 * down whoever comes next.
 */
import { createHash } from "node:crypto";
import { createWriteStream, readdirSync, rmSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import zlib from "node:zlib";
import { diskBytesOf } from "./files.mjs";
import {
  directoriesBelow,
  FIRECTL,
  findProgram,
  measured,
  plainEnvironment,
  ROOT,
  run,
} from "./programs.mjs";
import { openBlob } from "./registry.mjs";

export const NAMES = {
  fetch: "fetch the blobs, Node",
  node: "Node alone (fetch, hash, inflate, hash, write)",
  skopeo: "skopeo copy",
  umoci: "skopeo copy, umoci unpack",
  podman: "podman pull",
  microsandbox: "microsandbox pull",
  firectl: "firectl pull",
};

/** `setting`: `{ registry, repository, scratch, current() }`, the last telling the image of this round. */
export function pullers(setting) {
  return [
    ...inNode(setting),
    skopeoAndUmoci(setting),
    podman(setting),
    microsandbox(setting),
    firectl(setting),
  ];
}

function inNode({ registry, repository, scratch, current }) {
  const sideBySide = (work) => async () => {
    await Promise.all(
      current().image.layers.map(async (layer, index) =>
        work(await openBlob(registry, repository, layer), index),
      ),
    );
  };
  return [
    {
      name: NAMES.fetch,
      run: sideBySide((response) =>
        pipeline(response, async (chunks) => {
          for await (const _ of chunks);
        }),
      ),
    },
    {
      name: NAMES.node,
      run: sideBySide((response, index) =>
        pipeline(
          response,
          hashing(),
          zlib.createGunzip({ chunkSize: 512 * 1024 }),
          hashing(),
          createWriteStream(scratch.at("node", String(index))),
        ),
      ),
      tidy: () => rmSync(scratch.at("node"), { recursive: true, force: true }),
    },
  ];
}

/** Passes everything on and takes its SHA-256, as whoever trusts no registry must. */
function hashing() {
  return async function* (chunks) {
    const hash = createHash("sha256");
    for await (const chunk of chunks) {
      hash.update(chunk);
      yield chunk;
    }
    hash.digest();
  };
}

function skopeoAndUmoci({ scratch, current }) {
  const layout = scratch.at("skopeo", "layout");
  return {
    name: NAMES.skopeo,
    needs: ["skopeo"],
    run: (round) => {
      const from = `docker://${current().reference}`;
      const args = ["copy", "--quiet", "--src-tls-verify=false", from, `oci:${layout}:latest`];
      const copied = measured("skopeo", args, { report: scratch.at("skopeo.time") });
      if (findProgram("umoci") === undefined) return { several: [{ name: NAMES.skopeo, ...copied }] };
      const bundle = scratch.at("umoci", `round${round}`);
      const { ms } = measured("umoci", ["unpack", "--image", `${layout}:latest`, bundle], {
        report: scratch.at("umoci.time"),
      });
      return {
        several: [
          { name: NAMES.skopeo, ...copied },
          { name: NAMES.umoci, ms: copied.ms + ms },
        ],
      };
    },
    tidy: () => rmSync(layout, { recursive: true, force: true }),
  };
}

function podman({ scratch, current }) {
  const root = scratch.make("podman", "root");
  const global = ["--root", root, "--runroot", scratch.make("podman", "run"), "--storage-driver", "overlay"];
  return {
    name: NAMES.podman,
    needs: ["podman", ROOT],
    run: () =>
      measured("podman", [...global, "pull", "--quiet", "--tls-verify=false", current().reference], {
        report: scratch.at("podman.time"),
      }),
    // podman mounts this over itself.
    stop: () => run("sh", ["-c", 'umount "$1" 2>/dev/null || true', "sh", `${root}/overlay`]),
  };
}

function microsandbox({ scratch, current }) {
  const program = process.env.MSB ?? "msb";
  const home = scratch.make("msb");
  return {
    name: NAMES.microsandbox,
    needs: [program],
    run: () =>
      measured(program, ["pull", "--quiet", "--insecure", current().reference], {
        env: plainEnvironment({ HOME: home, MSB_HOME: scratch.make("msb", "home") }),
        report: scratch.at("msb.time"),
      }),
  };
}

/** Each pull in directories of its own: the image comes with its filesystem built. */
function firectl({ scratch, current }) {
  const root = scratch.make("firectl");
  return {
    name: NAMES.firectl,
    run: () => {
      const args = [FIRECTL, "pull", "--quiet", current().reference];
      const figures = measured(process.execPath, args, {
        env: plainEnvironment(directoriesBelow(root)),
        report: scratch.at("firectl.time"),
      });
      const [base] = readdirSync(`${root}/data/base`).filter((file) => file.endsWith(".ext4"));
      return { ...figures, diskBytes: diskBytesOf(`${root}/data/base/${base}`) };
    },
    tidy: () => rmSync(root, { recursive: true, force: true }),
  };
}

import { openContext } from "../../dist/manager/open-context.js";
import { buildRootfs } from "../../dist/rootfs/build-rootfs.js";
import { diskBytesOf } from "./files.mjs";
import { directoriesBelow } from "./programs.mjs";
import { timed } from "./timed.mjs";

const UUID = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9";

/** An OCI layout's image in a store of firectl's below `root`, brought there if it is not there yet. */
export async function storedImage(layout, root) {
  const context = await openContext({ env: { ...process.env, ...directoriesBelow(root) } });
  const images = await context.images();
  const image = await images.obtain(`oci:${layout}:latest`, { pull: "missing" });
  const layers = image.layers.map((layer) => ({ name: layer.digest, open: () => images.openLayer(layer) }));
  return { context, image, layers };
}

/** Builds a filesystem of `layers` at `out`, which must not exist, and tells what it took. */
export async function buildTimed(layers, { out, sync = false, writable }) {
  const { ms, cpuMs } = await timed(() => buildRootfs({ layers, path: out, uuid: UUID, sync, writable }));
  return { ms, cpuMs, diskBytes: diskBytesOf(out) };
}

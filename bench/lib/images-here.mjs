import { openContext } from "../../dist/manager/open-context.js";
import { directoriesBelow } from "./programs.mjs";

/** An OCI layout's image in a store of firectl's, with the context that the manager's functions take. */
export async function storedImage(layout, root) {
  const context = await openContext({ env: { ...process.env, ...directoriesBelow(root) } });
  const images = await context.images();
  const image = await images.obtain(`oci:${layout}:latest`, { pull: "missing" });
  return { context, images, image };
}

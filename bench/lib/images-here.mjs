import { openContext } from "../../dist/manager/open-context.js";

/** Directories of firectl below `root`, so that nothing of the user's is touched. */
export function directoriesBelow(root) {
  return {
    FIRECTL_CONFIG_DIR: `${root}/config`,
    FIRECTL_DATA_DIR: `${root}/data`,
    FIRECTL_RUNTIME_DIR: `${root}/run`,
  };
}

/** An OCI layout's image in a store of firectl's, with the context that the manager's functions take. */
export async function storedImage(layout, root) {
  const context = await openContext({ env: { ...process.env, ...directoriesBelow(root) } });
  const images = await context.images();
  const image = await images.obtain(`oci:${layout}:latest`, { pull: "missing" });
  return { context, images, image };
}

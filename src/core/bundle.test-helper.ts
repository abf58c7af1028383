import { build } from "esbuild";

/** Packs `source`, TypeScript that imports from `directory`, into the file `program`, which Node then runs. */
export async function bundleProgram(program: string, source: string, directory: string): Promise<void> {
  await build({
    stdin: { contents: source, loader: "ts", resolveDir: directory },
    outfile: program,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    // Dependencies in CommonJS ask for Node's own modules.
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
    logLevel: "error",
  });
}

// Bundles the command line into dist/cli/*.cjs: one file a command and one for what several share, so that a
// command loads only what it needs, without looking anything up in node_modules.
//
// esbuild splits only ES modules, and CommonJS starts some 5 ms faster (bench/cli-startup.mjs): so it is
// bundled and split as ES modules first, and each file is then rewritten as CommonJS.
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build, transform } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const outputDirectory = path.join(root, "dist/cli");
const { version } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));

const bundle = await build({
  absWorkingDir: root,
  entryPoints: ["src/cli/main.ts"],
  bundle: true,
  splitting: true,
  platform: "node",
  target: "node20.11",
  format: "esm",
  outdir: outputDirectory,
  outExtension: { ".js": ".cjs" },
  chunkNames: "[name]-[hash]",
  // What is not used does not cost a read; names stay, for stacks that users report.
  treeShaking: true,
  define: { FIRECTL_VERSION: JSON.stringify(version) },
  legalComments: "none",
  logLevel: "warning",
  write: false,
});

await mkdir(outputDirectory, { recursive: true });
for (const name of await readdir(outputDirectory)) {
  if (name.endsWith(".cjs")) await rm(path.join(outputDirectory, name));
}
for (const file of bundle.outputFiles) {
  await writeFile(file.path, await asCommonJs(file.text));
}

/** An ES module whose imports name .cjs files, as CommonJS. */
async function asCommonJs(text) {
  const result = await transform(text, {
    format: "cjs",
    platform: "node",
    target: "node20.11",
    // Makes `import()` of another file of ours a require() behind a promise.
    supported: { "dynamic-import": false },
    define: { "import.meta.url": "importMetaUrl" },
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
  });
  const usesUrl = /\bimportMetaUrl\b/.test(result.code);
  const head = usesUrl ? 'const importMetaUrl=require("url").pathToFileURL(__filename).href;' : "";
  return head + result.code;
}

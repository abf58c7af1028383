// Bundles the command line into dist/cli: main.cjs with what the quickest commands run, and a file each for the
// other commands and for what is heavy (zod, execa, gRPC, the registry client ...).
//
// What start-up costs decides the form (bench/cli-startup.mjs):
// - CommonJS: an ES module starts some 5 ms later. esbuild splits only ES modules, so it is bundled and split
//   as those first, and each file is then rewritten as CommonJS.
// - Few files: each costs a third of a millisecond. Parsing costs too, 2.5 ms for 100 KB: so main.cjs holds,
//   as functions by file name, what --version and list load, and nothing else.
// - V8's code cache of main.cjs beside it spares that parsing. bin/firectl uses it when the same Node made it.
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import Module from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { build, transform } from "esbuild";

const QUICK_ENTRIES = new Set(["src/cli/main.ts", "src/cli/commands/list.ts", "src/manager/firectl.ts"]);

const root = fileURLToPath(new URL("..", import.meta.url));
const outputDirectory = path.join(root, "dist/cli");
const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));

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
  define: { FIRECTL_VERSION: JSON.stringify(version) },
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
  write: false,
});

const texts = new Map(bundle.outputFiles.map((file) => [path.basename(file.path), file.text]));
const outputs = new Map(
  Object.entries(bundle.metafile.outputs).map(([file, output]) => [path.basename(file), output]),
);
const packed = filesToPack();
warnOfWeight();
const program = path.join(outputDirectory, "main.cjs");

await mkdir(outputDirectory, { recursive: true });
// The old cache goes first: V8 tells that it does not fit by nothing but the length of the source.
for (const name of (await readdir(outputDirectory)).sort()) {
  if (/\.(cache|cjs)$/.test(name)) await rm(path.join(outputDirectory, name));
}
await writeFile(program, await packedMain());
for (const [name, text] of texts) {
  if (!packed.has(name)) await writeFile(path.join(outputDirectory, name), await outsideFile(text));
}
await writeFile(path.join(outputDirectory, "main.cache"), await codeCache());

/** The entry, list and the library's entry, with what each of them imports statically. */
function filesToPack() {
  const found = new Set();
  const add = (name) => {
    if (found.has(name)) return;
    found.add(name);
    for (const imported of outputs.get(name)?.imports ?? []) {
      if (imported.kind === "import-statement" && !imported.external) add(path.basename(imported.path));
    }
  };
  for (const [name, { entryPoint }] of outputs) {
    if (QUICK_ENTRIES.has(entryPoint)) add(name);
  }
  return found;
}

/** Packages on the start path are what makes every command slow. */
function warnOfWeight() {
  const inputs = [...packed].flatMap((name) => Object.keys(outputs.get(name)?.inputs ?? {}));
  const heavy = inputs.filter((file) => file.includes("node_modules/") || file.startsWith("src/guest/gen/"));
  if (heavy.length > 0) {
    console.warn(`firectl list loads ${heavy.length} files it should not, ${heavy[0]} first: import() them`);
  }
}

/**
 * main.cjs: `load(NAME)` runs a packed file once, as require() would, or requires one that lies outside.
 * Those come back for packed files through `load`, which main.cjs exports to them.
 */
async function packedMain() {
  const functions = [];
  for (const name of packed) {
    const code = withLazyBuiltins(await asCommonJs(texts.get(name)));
    functions.push(`${JSON.stringify(`./${name}`)}(module,exports,require){${code}}`);
  }
  return `"use strict";
const builtin=(name)=>new Proxy({},{get:(_,key)=>require(name)[key]});
const files={${functions.join(",\n")}};
const loaded={};
function load(name){
const known=loaded[name];
if(known!==undefined)return known.exports;
const file=files[name];
if(file===undefined)return require(name);
const module={exports:{}};
loaded[name]=module;
file(module,module.exports,load);
return module.exports;
}
exports.load=load;
exports.main=()=>load("./main.cjs").main();
`;
}

/**
 * Node's own modules are loaded with the first use of something of theirs: crypto, child_process and
 * fs/promises cost milliseconds, and most commands use none or one of them. fs and path are there anyhow.
 */
function withLazyBuiltins(code) {
  return code.replace(/(\bimport_\w+=)require\("(node:(?!fs"|path")[\w/]+)"\)/g, '$1builtin("$2")');
}

/** What V8 has compiled of main.cjs after --version and list have run. */
async function codeCache() {
  // As bin/firectl compiles it: the cache fits only the very same source.
  const script = new vm.Script(Module.wrap(readFileSync(program, "latin1")), { filename: program });
  const module = new Module(program);
  const require = Module.createRequire(program);
  require.cache[program] = module;
  script.runInThisContext()(module.exports, require, module, program, outputDirectory);
  const { runCli } = module.exports.load("./main.cjs");
  const home = await mkdtemp(path.join(tmpdir(), "firectl-build-"));
  const sink = { write() {}, async stream() {}, isTerminal: false, columns: 80 };
  const io = {
    stdout: sink,
    stderr: { ...sink, write: (text) => process.stderr.write(text) },
    stdin: [],
    env: {
      HOME: home,
      PATH: process.env.PATH,
      XDG_CONFIG_HOME: home,
      XDG_DATA_HOME: home,
      XDG_RUNTIME_DIR: home,
    },
    onSignal: () => () => {},
    exitNow() {},
    close() {},
  };
  try {
    for (const argv of [["--version"], ["list"]]) {
      const status = await runCli(argv, io);
      if (status !== 0) throw new Error(`firectl ${argv.join(" ")} ended with ${status}`);
    }
  } finally {
    await rm(home, { recursive: true, force: true });
  }
  return script.createCachedData();
}

/** A file that stays by itself. */
async function outsideFile(text) {
  const code = await asCommonJs(text);
  return code.replace(/\brequire\("(\.\/[^"]+\.cjs)"\)/g, (call, name) =>
    packed.has(path.basename(name)) ? `require("./main.cjs").load(${JSON.stringify(name)})` : call,
  );
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

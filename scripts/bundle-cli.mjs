// Bundles the command line into dist/cli: main.cjs with what the quickest commands run, and a file each for the
// other commands and for what is heavy (zod, execa, gRPC, the registry client ...).
//
// What start-up costs decides the form (bench/cli-startup.mjs):
// - CommonJS: an ES module starts some 5 ms later. esbuild splits only ES modules, so it is bundled and split
//   as those first, and each file is then rewritten as CommonJS.
// - Few files: each costs a third of a millisecond. Parsing costs too, 2.5 ms for 100 KB: so main.cjs holds,
//   as functions by file name, what --version and list load, and nothing else. run.cjs does the same for run, and
//   records.cjs for what reads a vms.json that has VMs in it.
// - V8's code cache of each beside them spares that parsing. bin/firectl uses it when the same Node made it.
import { readFileSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import Module from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { build, transform } from "esbuild";
import { trainStarts } from "./train-starts.mjs";

/** What each packed file holds, with all that is imported statically; none has what an earlier one has. */
const PACKS = {
  main: ["src/cli/main.ts", "src/cli/commands/list.ts", "src/manager/firectl.ts", "src/manager/settings.ts"],
  // What a run of a cached image loads.
  run: [
    "src/cli/commands/run.ts",
    "src/cli/progress.ts",
    "src/manager/run-vm.ts",
    "src/image/images.ts",
    "src/kernel/kernel-store.ts",
    "src/host/process.ts",
  ],
  // zod, and what it checks: needed before the guest starts only where there are VMs already.
  records: ["src/state/vm-record.ts"],
};

/** Live bindings, as those of an ES module; and what `import` makes of a CommonJS module, which path is. */
const SHARED_HELPERS = [
  "const exportAll=(to,all)=>{for(const name in all)Object.defineProperty(to,name,{get:all[name],enumerable:true})};",
  "const __toESM=(module)=>Object.create(module,{default:{value:module,enumerable:true}});",
].join("\n");

const root = fileURLToPath(new URL("..", import.meta.url));
const outputDirectory = path.join(root, "dist/cli");
const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));

const COMMON = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  target: "node20.11",
  logLevel: "warning",
};

const bundle = await build({
  ...COMMON,
  entryPoints: ["src/cli/main.ts"],
  splitting: true,
  format: "esm",
  outdir: outputDirectory,
  outExtension: { ".js": ".cjs" },
  chunkNames: "[name]-[hash]",
  define: { FIRECTL_VERSION: JSON.stringify(version) },
  legalComments: "none",
  metafile: true,
  write: false,
});
// The threads that unpack layers run a file of their own, for the library too: a start of one by tsc's modules takes
// half as long again.
await build({
  ...COMMON,
  entryPoints: ["src/image/unpack/worker.ts"],
  packages: "external",
  format: "cjs",
  minifyWhitespace: true,
  outfile: "dist/image/unpack/worker.cjs",
});

const texts = new Map(bundle.outputFiles.map((file) => [path.basename(file.path), file.text]));
const outputs = new Map(
  Object.entries(bundle.metafile.outputs).map(([file, output]) => [path.basename(file), output]),
);
const packOf = new Map();
for (const [pack, entries] of Object.entries(PACKS)) assignToPack(pack, entries);
const program = path.join(outputDirectory, "main.cjs");

await mkdir(outputDirectory, { recursive: true });
// The old cache goes first: V8 tells that it does not fit by nothing but the length of the source.
for (const name of (await readdir(outputDirectory)).sort()) {
  if (/\.(cache|cjs)$/.test(name)) await rm(path.join(outputDirectory, name));
}
await writeFile(program, await packedMain());
for (const pack of Object.keys(PACKS).filter((name) => name !== "main")) {
  const files = await packedFiles(pack);
  await writeFile(
    path.join(outputDirectory, `${pack}.cjs`),
    `"use strict";\n${SHARED_HELPERS}\nexports.files={${files}};\n`,
  );
}
for (const [name, text] of texts) {
  if (!packOf.has(name)) await writeFile(path.join(outputDirectory, name), await outsideFile(text));
}
warnOfWeight();
for (const [pack, cache] of Object.entries(await codeCaches())) {
  await writeFile(path.join(outputDirectory, `${pack}.cache`), cache);
}

/** Puts the entries into a pack, with what each of them imports statically. */
function assignToPack(pack, entries) {
  const add = (name) => {
    if (packOf.has(name)) return;
    packOf.set(name, pack);
    for (const imported of outputs.get(name)?.imports ?? []) {
      if (imported.kind === "import-statement" && !imported.external) add(path.basename(imported.path));
    }
  };
  for (const entry of entries) {
    const found = [...outputs].find(([, { entryPoint }]) => entryPoint === entry);
    if (found === undefined) throw new Error(`${entry} is imported by nobody with import(): it has no file`);
    add(found[0]);
  }
}

/** Packages on the start path are what makes every command slow. */
function warnOfWeight() {
  const heavy = {
    main: (file) => file.includes("node_modules/") || file.startsWith("src/guest/gen/"),
    // Generated code builds descriptors when it is loaded, for longer than all the rest takes; its tables do not.
    records: () => false,
    run: (file) => /_pb\.ts$|node_modules\/(@connectrpc|execa|minipass|tar)\//.test(file),
  };
  for (const pack of Object.keys(PACKS)) {
    const inputs = filesOf(pack).flatMap((name) => Object.keys(outputs.get(name)?.inputs ?? {}));
    const found = inputs.filter(heavy[pack]);
    if (found.length > 0)
      console.warn(`${pack}.cjs has ${found.length} files it should not, ${found[0]} first: import() them`);
  }
}

function filesOf(pack) {
  return [...packOf].filter(([, other]) => other === pack).map(([name]) => name);
}

/** The files of a pack as the properties of an object: functions by name. */
async function packedFiles(pack) {
  const functions = filesOf(pack).map(async (name) => {
    const code = withSharedExports(withLazyBuiltins(await asCommonJs(texts.get(name))));
    return `${JSON.stringify(`./${name}`)}(module,exports,require,builtin){${code}}`;
  });
  return (await Promise.all(functions)).join(",\n");
}

/**
 * main.cjs: `load(NAME)` runs a packed file once, as require() would, or requires one that lies outside.
 * Those come back for packed files through `load`, which main.cjs exports to them. Another pack is read when
 * the first of its files is asked for, by the launcher's way of reading a file with its code cache.
 */
async function packedMain() {
  const later = Object.fromEntries(
    [...packOf].filter(([, pack]) => pack !== "main").map(([name, pack]) => [`./${name}`, `./${pack}.cjs`]),
  );
  return `"use strict";
${SHARED_HELPERS}
const builtin=(name)=>new Proxy({},{get:(_,key)=>require(name)[key]});
const files={${await packedFiles("main")}};
const later=${JSON.stringify(later)};
const loaded={};
let read=(file)=>require(file);
function load(name){
const known=loaded[name];
if(known!==undefined)return known.exports;
if(files[name]===undefined&&later[name]!==undefined)Object.assign(files,read(require("path").join(__dirname,later[name])).files);
const file=files[name];
if(file===undefined)return require(name);
const module={exports:{}};
loaded[name]=module;
file(module,module.exports,load,builtin);
return module.exports;
}
exports.load=load;
exports.readPacksBy=(reader)=>{read=reader;};
exports.main=(launcherRead,startedAt)=>{if(launcherRead!==undefined)read=launcherRead;return load("./main.cjs").main(startedAt);};
`;
}

/**
 * Node's own modules are loaded with the first use of something of theirs: crypto, child_process and
 * fs/promises cost milliseconds, and most commands use none or one of them. fs and path are there anyhow.
 */
function withLazyBuiltins(code) {
  return code.replace(/(\bimport_\w+=)require\("(node:(?!fs"|path")[\w/]+)"\)/g, '$1builtin("$2")');
}

/**
 * esbuild gives each file helpers of its own, two getters for each export, and a list of names for Node's ES modules:
 * a quarter of a packed file. They are told by their text; where that is another one day, they stay.
 */
function withSharedExports(code) {
  const helpers =
    /^(const importMetaUrl=[^;]*;)?(?:var __(?!toESM|export|copyProps)[^;{]*;)+var __export=[\s\S]*?;var stdin_exports=\{\};__export\(stdin_exports,(\{[^}]*\})\);module\.exports=__toCommonJS\(stdin_exports\);/;
  const shared = code.replace(helpers, "$1exportAll(exports,$2);");
  if (shared === code) {
    if (code.includes("__copyProps"))
      console.warn("esbuild's helpers are not those that bundle-cli.mjs knows");
    return code;
  }
  return shared.replace(/0&&\(module\.exports=\{[^}]*\}\);\s*$/, "");
}

/**
 * What V8 has compiled of each packed file after --version, list and a run have been through it. What a start never
 * calls is not in it: reading the cache costs as much as it is long.
 */
async function codeCaches() {
  const compiled = {};
  const readPack = (file) => {
    const pack = path.basename(file, ".cjs");
    const { script, exports } = compile(path.join(outputDirectory, `${pack}.cjs`));
    compiled[pack] = script;
    return exports;
  };
  const { load, readPacksBy } = readPack("main.cjs");
  readPacksBy(readPack);
  const { runCli } = load("./main.cjs");
  await trainStarts(runCli, { root, outputDirectory });
  return Object.fromEntries(
    Object.keys(PACKS).map((pack) => {
      if (compiled[pack] === undefined) throw new Error(`nothing has loaded ${pack}.cjs`);
      return [pack, compiled[pack].createCachedData()];
    }),
  );
}

/** Compiles and runs a file as bin/firectl does: a cache fits only the very same source. */
function compile(file) {
  const script = new vm.Script(Module.wrap(readFileSync(file, "latin1")), { filename: file });
  const module = new Module(file);
  const require = Module.createRequire(file);
  require.cache[file] = module;
  script.runInThisContext()(module.exports, require, module, file, outputDirectory);
  return { script, exports: module.exports };
}

/** A file that stays by itself. */
async function outsideFile(text) {
  const code = await asCommonJs(text);
  return code.replace(/\brequire\("(\.\/[^"]+\.cjs)"\)/g, (call, name) =>
    packOf.has(path.basename(name)) ? `require("./main.cjs").load(${JSON.stringify(name)})` : call,
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

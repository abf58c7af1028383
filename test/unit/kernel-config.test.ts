import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import {
  DOCKER_LEFT_OUT,
  DOCKER_NECESSARY,
  DOCKER_OPTIONAL,
  FIRECTL,
  KUBERNETES,
  SYSTEMD,
} from "./kernel-requirements.test-helper.ts";

const KERNEL = path.resolve(import.meta.dirname, "../../kernel");
const CONFIG = path.join(KERNEL, "config");
const ARCHITECTURES = ["x86_64", "arm64"] as const;
const PARTS = readdirSync(path.join(CONFIG, "optional")).map((file) => path.basename(file, ".config"));

interface Wish {
  readonly symbol: string;
  /** `n` for one that must stay off. */
  readonly value: string;
}

function wishesIn(file: string): Wish[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .flatMap((line) => {
      const off = /^# CONFIG_(\w+) is not set$/.exec(line)?.[1];
      if (off !== undefined) return [{ symbol: off, value: "n" }];
      const [, symbol, value] = /^CONFIG_(\w+)=(.+)$/.exec(line) ?? [];
      return symbol === undefined || value === undefined ? [] : [{ symbol, value }];
    });
}

function fragmentsOf(architecture: string): string[] {
  return readdirSync(CONFIG)
    .filter((file) => file.endsWith(".config"))
    .filter((file) => !/\.(x86_64|arm64)\.config$/.test(file) || file.endsWith(`.${architecture}.config`))
    .map((file) => path.join(CONFIG, file));
}

/** What a build asks for; that all of it comes true is what the build itself checks. */
function symbolsOn(architecture: string): ReadonlySet<string> {
  const wishes = fragmentsOf(architecture).flatMap(wishesIn);
  return new Set(wishes.filter(({ value }) => value === "y").map(({ symbol }) => symbol));
}

describe.each(ARCHITECTURES)("the configuration for %s", (architecture) => {
  const on = symbolsOn(architecture);
  const lacking = (symbols: readonly string[]): string[] => symbols.filter((symbol) => !on.has(symbol));

  test("has what Docker needs", () => expect(lacking(DOCKER_NECESSARY)).toEqual([]));
  test("has what Docker can use, but for what was left out", () =>
    expect(lacking(DOCKER_OPTIONAL).sort()).toEqual(Object.keys(DOCKER_LEFT_OUT).sort()));
  test("has what Kubernetes needs", () => expect(lacking(KUBERNETES)).toEqual([]));
  test("has what systemd needs", () => expect(lacking(SYSTEMD)).toEqual([]));
  test("has what firectl needs", () => expect(lacking(FIRECTL)).toEqual([]));

  test("asks for each symbol once", () => {
    const symbols = fragmentsOf(architecture)
      .flatMap(wishesIn)
      .map(({ symbol }) => symbol);
    expect(symbols.filter((symbol, index) => symbols.indexOf(symbol) !== index)).toEqual([]);
  });

  test("has no way around the kernel for root in the guest", () => {
    const doors = [
      "DEVMEM",
      "DEVPORT",
      "PROC_KCORE",
      "KEXEC",
      "KEXEC_FILE",
      "KPROBES",
      "DEBUG_FS",
      "FTRACE",
      "KGDB",
    ];
    const off = fragmentsOf(architecture)
      .flatMap(wishesIn)
      .filter(({ value }) => value === "n");
    expect(doors.filter((door) => !off.some(({ symbol }) => symbol === door))).toEqual([]);
  });
});

describe("the files of the configuration", () => {
  test("each begins with what it is for", () => {
    const optional = PARTS.map((part) => path.join(CONFIG, "optional", `${part}.config`));
    for (const file of [...ARCHITECTURES.flatMap(fragmentsOf), ...optional]) {
      expect(readFileSync(file, "utf8").split("\n", 1)[0], file).toMatch(/^# \S.{20}/);
    }
  });

  test("what Docker can use and was left out is an optional part where there is one", () => {
    for (const [symbol, part] of Object.entries(DOCKER_LEFT_OUT)) {
      if (part === undefined) continue;
      const wishes = wishesIn(path.join(CONFIG, "optional", `${part}.config`));
      expect(wishes, part).toContainEqual({ symbol, value: "y" });
    }
  });

  test("the command's help and docs/kernel.md name the optional parts", () => {
    const help = readFileSync(path.resolve(KERNEL, "../docs/cli.md"), "utf8");
    const docs = readFileSync(path.resolve(KERNEL, "../docs/kernel.md"), "utf8");
    for (const part of PARTS) {
      expect(help).toMatch(new RegExp(`Optional parts:[^\\n]*\\b${part}\\b`));
      expect(docs).toContain(`\`${part}\``);
    }
  });

  test("features name symbols, each feature once", () => {
    const lines = readFileSync(path.join(KERNEL, "features.conf"), "utf8")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    const names = lines.map((line) => line.split(/\s+/)[0]);
    expect(new Set(names).size).toBe(names.length);
    for (const line of lines) expect(line).toMatch(/^[a-z0-9][\w.+-]*( +[A-Z0-9_]+)+$/i);
  });

  test("the source is pinned: package, version and checksum", () => {
    const source = readFileSync(path.join(KERNEL, "source.conf"), "utf8");
    expect(source).toMatch(/^package=linux-source-\d+\.\d+$/m);
    expect(source).toMatch(/^version=\d+\.\d+\.\d+-\d+\w*$/m);
    expect(source).toMatch(/^sha256=[0-9a-f]{64}$/m);
  });
});

import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { parseCommandLine } from "../../src/cli/parse-flags.ts";
import { COMMANDS, resolveCommand } from "../../src/cli/registry.ts";
import { ERROR_CODES, type ErrorCode, exitStatusOf, FirectlError } from "../../src/core/errors.ts";
import { runProgram } from "../../src/host/process.ts";
import { cliReference } from "./cli-reference.test-helper.ts";
import {
  anchorOf,
  codeSpans,
  expandBraces,
  linkTargets,
  markdownFiles,
  parseMarkdown,
  ROOT,
  readText,
} from "./markdown.test-helper.ts";

const english = parseMarkdown(readText("README.md"));
const chinese = parseMarkdown(readText("README.zh-CN.md"));

describe("the two READMEs", () => {
  it("have the same sections", () => {
    const levels = (readme: typeof english): number[] => readme.headings.map(({ level }) => level);
    expect(levels(chinese)).toEqual(levels(english));
  });

  it("have the same code blocks", () => {
    expect(chinese.fences).toEqual(english.fences);
  });

  it("have tables and lists of the same length", () => {
    const count = (readme: typeof english): unknown => ({
      rows: readme.prose.match(/^\|/gm)?.length,
      items: readme.prose.match(/^- /gm)?.length,
    });
    expect(count(chinese)).toEqual(count(english));
  });

  it("link to the same places, and to each other", () => {
    const places = (readme: typeof english): string[] =>
      linkTargets(readme.prose)
        .map((target) => target.replace(/^README(\.zh-CN)?\.md$/, "the other README").replace(/^#.*/, "#"))
        .sort();
    expect(places(chinese)).toEqual(places(english));
    expect(linkTargets(english.prose)).toContain("README.zh-CN.md");
    expect(linkTargets(chinese.prose)).toContain("README.md");
  });

  it("show a program that compiles against the library", async () => {
    const directory = mkdtempSync(path.join(tmpdir(), "firectl-docs-"));
    try {
      const examples = english.fences.filter(({ language }) => language === "ts");
      expect(examples.length).toBeGreaterThan(0);
      const files = examples.map((_, index) => path.join(directory, `example-${index}.mts`));
      for (const [index, { text }] of examples.entries()) writeFileSync(files[index] ?? "", text);
      const configuration = {
        extends: path.join(ROOT, "tsconfig.json"),
        compilerOptions: {
          noEmit: true,
          paths: { firectl: [path.join(ROOT, "src/index.ts")] },
          typeRoots: [path.join(ROOT, "node_modules/@types")],
        },
        include: [],
        files,
      };
      const project = path.join(directory, "tsconfig.json");
      writeFileSync(project, JSON.stringify(configuration));
      await runProgram(path.join(ROOT, "node_modules/.bin/tsc"), ["-p", project]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("are short enough to be read", () => {
    expect(readText("README.md").split("\n").length).toBeLessThanOrEqual(250);
  });
});

/** Every `firectl …` that a text shows in code, as the words that a shell would pass. */
function commandLinesIn(file: string): string[][] {
  const { prose, fences } = parseMarkdown(readText(file));
  const typed = fences.flatMap(({ language, text }) => {
    if (language === "sh") return text.split("\n");
    return [...text.matchAll(/^\s*\$ (.*)$/gm)].map(([, line]) => line ?? "");
  });
  return [...typed, ...codeSpans(prose)].flatMap(simpleCommands).flatMap((words) => {
    const [program, ...rest] = words.filter((word, index) => index > 0 || !/^[A-Z_]+=/.test(word));
    return program === "firectl" ? [rest] : [];
  });
}

/** The simple commands of a line of shell: quotes are taken off, redirections and comments left out. */
function simpleCommands(line: string): string[][] {
  const commands: string[][] = [[]];
  for (const [, single, double, operator, bare] of line.matchAll(
    /'([^']*)'|"([^"]*)"|(&&|\|\|?|;|\$\(|\))|((?:[^\s'";|&()$]|\$(?!\())+)/g,
  )) {
    if (operator !== undefined) commands.push([]);
    else if (bare?.startsWith("#") === true) break;
    else if (bare === undefined || !/^\d?[<>]/.test(bare))
      commands.at(-1)?.push(single ?? double ?? bare ?? "");
  }
  return commands;
}

describe("the commands in the texts", () => {
  const files = markdownFiles().filter((file) => file !== "AGENTS.md");

  it.each(files)("%s: exist, with the flags shown", async (file) => {
    for (const typed of commandLinesIn(file)) {
      if (typed[0]?.startsWith("-") === true || typed[0] === "COMMAND") continue;
      const resolved = resolveCommand(typed);
      expect(resolved.kind, `firectl ${typed.join(" ")}`).not.toBe("unknown");
      if (resolved.kind !== "command") continue;
      const command = await resolved.entry.load();
      // In a usage like `run [OPTIONS] IMAGE`, what stands in brackets is not typed.
      if (resolved.rest.some((word) => /^\[|\]$/.test(word))) continue;
      // A mention like `start --attach` leaves the arguments out.
      const given = resolved.rest.filter((word) => !word.startsWith("-")).length;
      const padding = Array.from({ length: Math.max(0, command.minArguments - given) }, () => "x");
      const words = [...resolved.rest, ...padding];
      expect(() => parseCommandLine(command, words), `firectl ${typed.join(" ")}`).not.toThrow();
    }
  });

  it("are all of them in the README", () => {
    const shown = codeSpans(english.prose).join("\n");
    for (const { names, topic } of COMMANDS) {
      if (topic !== undefined) expect(shown).toMatch(new RegExp(`^firectl ${names[0]}\\b`, "m"));
    }
  });

  it("are described in docs/cli.md by the program itself (-u renews it)", async () => {
    await expect(await cliReference()).toMatchFileSnapshot(path.join(ROOT, "docs/cli.md"));
  });
});

describe("links", () => {
  it.each(markdownFiles())("%s: lead to files and headings that are there", (file) => {
    for (const target of linkTargets(parseMarkdown(readText(file)).prose)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [place = "", anchor] = target.split("#");
      const found = place === "" ? file : path.join(path.dirname(file), place);
      expect(existsSync(path.join(ROOT, found)), `${file} links to ${target}`).toBe(true);
      if (anchor === undefined) continue;
      const anchors = parseMarkdown(readText(found)).headings.map(({ text }) => anchorOf(text));
      expect(anchors, `${file} links to ${target}`).toContain(anchor);
    }
  });
});

/** https://keepachangelog.com/en/1.1.0/ */
describe("CHANGELOG.md", () => {
  const { headings } = parseMarkdown(readText("CHANGELOG.md"));
  const releases = headings.filter(({ level }) => level === 2).map(({ text }) => text);

  it("lists releases with their dates, newest first, below what is unreleased", () => {
    expect(headings[0]).toEqual({ level: 1, text: "Changelog" });
    expect(releases[0]).toBe("[Unreleased]");
    const dated = releases.slice(1).map((text) => /^\[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d)$/.exec(text)?.[1]);
    expect(dated).not.toContain(undefined);
    expect(dated).toEqual(dated.toSorted().reverse());
  });

  it("sorts changes by kind", () => {
    const kinds = headings.filter(({ level }) => level === 3).map(({ text }) => text);
    const allowed = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    expect(kinds.filter((kind) => !allowed.includes(kind))).toEqual([]);
    expect(kinds.length).toBeGreaterThan(0);
  });
});

describe("docs/adr", () => {
  const files = readdirSync(path.join(ROOT, "docs/adr")).filter((name) => name !== "README.md");
  const index = readText("docs/adr/README.md");

  it("is numbered without gaps", () => {
    const numbers = files.map((name) => Number(/^(\d{4})-[a-z0-9-]+\.md$/.exec(name)?.[1]));
    expect(numbers.toSorted((one, other) => one - other)).toEqual(files.map((_, position) => position + 1));
  });

  it.each(files)("%s: has its number, the three sections, and a line in the index", (name) => {
    const { headings } = parseMarkdown(readText(`docs/adr/${name}`));
    expect(headings[0]?.text).toMatch(new RegExp(`^${Number(name.slice(0, 4))}\\. `));
    expect(headings.slice(1).map(({ text }) => text)).toEqual(["Context", "Decision", "Consequences"]);
    expect(index).toContain(`](${name})`);
  });
});

describe("docs/exit-status.md", () => {
  const text = readText("docs/exit-status.md");

  it("names every error code beside its exit status", () => {
    const statusOf = new Map(
      [...text.matchAll(/^\| (\d+) \|(.*)\|$/gm)].flatMap(([, status, row]) =>
        codeSpans(row ?? "").map((code) => [code, Number(status)] as const),
      ),
    );
    // Object.keys of a record with literal keys gives just those.
    const codes = Object.keys(ERROR_CODES) as ErrorCode[];
    const expected = new Map(codes.map((code) => [code, exitStatusOf(new FirectlError(code, ""))]));
    expect(new Map([...statusOf].sort())).toEqual(new Map([...expected].sort()));
  });
});

describe("docs/configuration.md", () => {
  const text = readText("docs/configuration.md");
  const sources = readdirSync(path.join(ROOT, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !/\.test(-helper)?\.ts$|gen\//.test(name))
    .map((name) => readText(path.join("src", name)));

  it("names the environment variables that the program reads, and no others", () => {
    const read = sources.flatMap((source) => [...source.matchAll(/env\["([A-Z_]+)"\]|"(FIRECTL_[A-Z_]+)"/g)]);
    const names = new Set(read.map(([, inEnv, quoted]) => inEnv ?? quoted));
    const documented = new Set(codeSpans(text).filter((span) => /^[A-Z_]{4,}$/.test(span)));
    expect([...names].filter((name) => !documented.has(name ?? ""))).toEqual([]);
    const known = sources.join("\n");
    expect([...documented].filter((name) => !known.includes(name))).toEqual([]);
  });

  it("names the fields of config.json", () => {
    const settings = readText("src/manager/settings.ts");
    const fields = [...settings.matchAll(/^ {2}readonly (\w+)\?/gm)].map(([, name]) => name ?? "");
    expect(fields.length).toBeGreaterThan(5);
    for (const field of fields) expect(text).toContain(`| \`${field}\` |`);
  });
});

describe("AGENTS.md", () => {
  const table = parseMarkdown(readText("AGENTS.md")).prose.match(/^\|.*$/gm) ?? [];
  const paths = table
    .flatMap((row) => codeSpans(row))
    .filter((span) => span.includes("/") && !/[ *]/.test(span))
    .flatMap(expandBraces);

  it("sends nobody to a place that is not there", () => {
    expect(paths.length).toBeGreaterThan(20);
    expect(paths.filter((place) => !existsSync(path.join(ROOT, place)))).toEqual([]);
  });

  it("knows every folder of the program", () => {
    const folders = readdirSync(path.join(ROOT, "src"), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => `src/${entry.name}/`);
    const known = paths.join("\n");
    expect(folders.filter((folder) => !known.includes(folder))).toEqual([]);
  });
});

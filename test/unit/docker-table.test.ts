import { describe, expect, it } from "vitest";
import { lackedCommand } from "../../src/cli/docker-commands.ts";
import { missingDockerFlag, missingDockerFlags } from "../../src/cli/docker-flags.ts";
import { allFlags } from "../../src/cli/parse-flags.ts";
import { resolveCommand } from "../../src/cli/registry.ts";
import { RUN_FLAGS } from "../../src/cli/run-flags.ts";
import { codeSpans, readText } from "./markdown.test-helper.ts";

interface Row {
  readonly flag: string;
  readonly verdict: string;
  readonly note: string;
}

/** The rows of a table of docs/docker.md, one for each spelling of a flag, dashes left out. */
function rows(heading?: string): Row[] {
  const sections = readText("docs/docker.md").split("\n## ");
  const section = heading === undefined ? sections[0] : sections.find((text) => text.startsWith(heading));
  return (section ?? "")
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .flatMap((line) => {
      const [, flags = "", verdict = "", note = ""] = line.split(/(?<!\\)\|/).map((cell) => cell.trim());
      return codeSpans(flags).map((flag) => ({ flag: flag.replace(/^-+/, ""), verdict, note }));
    });
}

const OURS: ReadonlyMap<string, string> = new Map(
  Object.entries(RUN_FLAGS).flatMap(([name, flag]) => {
    const short = "short" in flag ? [[flag.short, name] as const] : [];
    return [[name, name] as const, ...short];
  }),
);

describe("the table of docker run's flags", () => {
  it.each(rows())("tells the truth about $flag", ({ flag, verdict, note }) => {
    expect(["same", "different", "refused"]).toContain(verdict);
    expect(OURS.has(flag), `firectl run has the flag: ${OURS.has(flag)}`).toBe(verdict !== "refused");
    if (verdict === "refused") {
      const missing = missingDockerFlag("run", flag);
      expect(missing?.hint, "docker-flags.ts tells those who try").toBe(note.replaceAll("`", ""));
      if (note.includes(" yet")) expect(missing?.isPlanned).toBe(true);
    }
    if (verdict !== "same") expect(note).not.toBe("");
  });

  it("names every flag once", () => {
    const names = rows().map(({ flag }) => flag);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
    expect(names.length).toBeGreaterThan(100);
  });
});

describe("what docker's commands have and firectl's have not", () => {
  it.each(missingDockerFlags())("is true of $command and $flag", async ({ command, flag }) => {
    const resolved = resolveCommand([command]);
    const ours = resolved.kind === "command" ? allFlags(await resolved.entry.load()) : {};
    expect(Object.keys(ours)).not.toEqual([]);
    const spellings = Object.entries(ours).flatMap(([name, { short }]) => [name, short]);
    expect(spellings).not.toContain(flag);
    expect(missingDockerFlag(command, flag)?.hint).not.toBe("");
  });
});

describe("the table of docker's other commands", () => {
  const commands = rows("Other commands");

  it.each(commands)("tells the truth about $flag", ({ flag, verdict, note }) => {
    expect(["same", "different", "refused"]).toContain(verdict);
    expect(resolveCommand([flag]).kind === "unknown").toBe(verdict === "refused");
    if (verdict === "refused")
      expect(lackedCommand([flag]), "docker-commands.ts tells those who try").toBeDefined();
    if (verdict !== "same") expect(note).not.toBe("");
  });

  it("names every command once", () => {
    const names = commands.map(({ flag }) => flag);
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
    expect(names.length).toBeGreaterThan(40);
  });
});

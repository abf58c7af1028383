import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collectEnv, collectLabels, parseKeyValue, parseKeyValueLines } from "./key-values.ts";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "firectl-key-values-"));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

const lines = (text: string | Uint8Array) =>
  parseKeyValueLines(Buffer.from(text), "--env-file: f").map(({ key, value }) => [key, value]);

describe("docker's env file format", () => {
  test.each<[string, [string, string | undefined][]]>([
    ["", []],
    [
      "A=1\nB=2",
      [
        ["A", "1"],
        ["B", "2"],
      ],
    ],
    [
      "A=1\r\nB=2\r\n",
      [
        ["A", "1"],
        ["B", "2"],
      ],
    ],
    ["\ufeffA=1", [["A", "1"]]],
    ["# comment\n  # too\n\nA=1", [["A", "1"]]],
    ['A="quoted" # kept', [["A", '"quoted" # kept']]],
    ["  A= spaced ", [["A", " spaced "]]],
    ["A=b=c", [["A", "b=c"]]],
    ["A=", [["A", ""]]],
    ["A", [["A", undefined]]],
    ["A=漢字", [["A", "漢字"]]],
  ])("%j", (text, expected) => {
    expect(lines(text)).toEqual(expected);
  });

  test.each([
    ["A=1\n=2", '--env-file: f: line 2: no variable name before the "="'],
    ["A B=1", '--env-file: f: line 1: "A B" is not a variable name'],
    ["A =1", '--env-file: f: line 1: "A " is not a variable name'],
    ["A=\0", '--env-file: f: line 1: "A" is not a variable name'],
    [Buffer.from([0x41, 0x3d, 0xff]), "--env-file: f: not UTF-8 text"],
  ])("refuses %j", (text, message) => {
    expect(() => lines(text)).toThrow(message);
  });
});

test("flags win over files, and a variable without value comes from the environment", async () => {
  const file = path.join(directory, "vars");
  await writeFile(file, "A=file\nB=file\nFROM_HOST\nNOT_SET\n");
  const pairs = ["A=flag", "HOME", "GONE"].map((text) => parseKeyValue(text, "-e"));
  const env = collectEnv({ files: [file], pairs }, { FROM_HOST: "host", HOME: "/root", GONE: undefined });
  expect(env).toEqual(["A=file", "B=file", "FROM_HOST=host", "A=flag", "HOME=/root"]);
});

test("labels: a later one replaces, one without value is empty", async () => {
  const file = path.join(directory, "labels");
  await writeFile(file, "a=1\nb=2\n");
  const pairs = ["b=3", "c"].map((text) => parseKeyValue(text, "-l"));
  expect(collectLabels({ files: [file], pairs })).toEqual({ a: "1", b: "3", c: "" });
});

test.each(["", "=1", " =1", "A=\0"])("parseKeyValue refuses %j", (text) => {
  expect(() => parseKeyValue(text, "-e")).toThrow('has no name before the "="');
});

test("a file that is not there is named", () => {
  const file = path.join(directory, "missing");
  expect(() => collectEnv({ files: [file], pairs: [] }, {})).toThrow(`--env-file: cannot read ${file}`);
});

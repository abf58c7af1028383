import { describe, expect, test } from "vitest";
import { parseListFormat } from "./output.ts";
import { escapeControls, escapeControlsInLines, safeJson } from "./sanitize.ts";
import { renderTable, truncate, truncateStart } from "./table.ts";

describe("--format", () => {
  test.each(["", "tables", "yaml"])("--format %j is none", (text) => {
    expect(() => parseListFormat(text, "--format")).toThrow(`--format: "${text}" is not a format`);
  });
});

describe("tables", () => {
  test("columns are aligned, by what a terminal shows", () => {
    const table = renderTable([
      ["NAME", "IMAGE", "STATUS"],
      ["a", "漢字", "Up"],
      ["longer-name", "e\u0301", ""],
    ]);
    expect(table).toBe("NAME          IMAGE   STATUS\na             漢字    Up\nlonger-name   e\u0301\n");
  });

  test("a hostile cell cannot leave its place", () => {
    expect(renderTable([["a\nb\x1b]0;x\x07", "\u202egnp.exe"]])).toBe(
      "a\\nb\\x1b]0;x\\x07   \\u202egnp.exe\n",
    );
  });

  test.each([
    ["abc", 3, "abc"],
    ["abcd", 3, "ab…"],
    ["😀😀😀", 2, "😀…"],
    ["", 3, ""],
  ])("truncate(%j, %d)", (text, max, expected) => {
    expect(truncate(text, max)).toBe(expected);
  });

  test.each([
    ["abc", 3, "abc"],
    ["abcd", 3, "…cd"],
    ["😀😀😀", 2, "…😀"],
    ["", 3, ""],
  ])("truncateStart(%j, %d)", (text, max, expected) => {
    expect(truncateStart(text, max)).toBe(expected);
  });
});

describe("what comes from elsewhere", () => {
  test.each([
    ["plain ü 漢", "plain ü 漢"],
    ["\0\x7f\x9b31m", "\\x00\\x7f\\x9b31m"],
    ["a\r\n\tb", "a\\r\\n\\tb"],
    ["\u200b\u2066\ufeff", "\\u200b\\u2066\\ufeff"],
  ])("escapeControls(%j)", (text, expected) => {
    expect(escapeControls(text)).toBe(expected);
  });

  test("lines and tabs of a message stay", () => {
    expect(escapeControlsInLines("a\tb\nc\rd\x1b")).toBe("a\tb\nc\\rd\\x1b");
  });

  test("JSON stays JSON", () => {
    const value = { a: "\x1b\x7f\x9b\u202e\n", b: [1, null] };
    const text = safeJson(value, 2);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there.
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    expect(JSON.parse(text)).toEqual(value);
    expect(safeJson(undefined)).toBe("null");
  });
});

import { describe, expect, test } from "vitest";
import { fitWidth } from "./fit-width.ts";
import { commandHelpText } from "./print-help.ts";
import { COMMANDS } from "./registry.ts";

const TEXT = `Usage:  firectl it [OPTIONS]

The first line of a paragraph is longer than the terminal is wide, and
the second one follows.

  docker:NAME   an image of the Docker Engine, which is another program

Options:
  -q, --quiet   Show no progress while something is going on
      --json    Print JSON

Examples:
  $ firectl it --with many --flags that --make a very long line
`;

describe("a help text", () => {
  test("is filled to a terminal's width", () => {
    expect(fitWidth(TEXT, 60)).toBe(`Usage:  firectl it [OPTIONS]

The first line of a paragraph is longer than the terminal is
wide, and the second one follows.

  docker:NAME   an image of the Docker Engine, which is
                another program

Options:
  -q, --quiet   Show no progress while something is going on
      --json    Print JSON

Examples:
  $ firectl it --with many --flags that --make a very long line
`);
  });

  test("stays as it is where there is hardly room", () => {
    expect(fitWidth(TEXT, 59)).toBe(TEXT);
  });

  test.each(COMMANDS.map((entry) => [entry.names[0], entry] as const))(
    "of %s fits 80 columns and loses no word",
    async (_name, entry) => {
      const text = await commandHelpText(entry);
      const fitted = fitWidth(text, 80);
      const prose = fitted.split("\n").filter((line) => !line.startsWith("  $ "));
      expect(Math.max(...prose.map((line) => line.length))).toBeLessThanOrEqual(80);
      expect(fitted.split(/\s+/)).toEqual(text.split(/\s+/));
    },
  );
});

import { expect, test } from "vitest";
import { lastCheck } from "./health.ts";

const check = (exitCode: number, output: string) => ({ start: undefined, end: undefined, exitCode, output });

test.each([
  ["no check yet", [], "its checks have failed"],
  ["silent", [check(3, " \n")], "its check ended with 3 and printed nothing"],
  ["the last of several", [check(1, "old"), check(2, "new\n")], "its check ended with 2: new"],
  ["several lines", [check(1, "one\n\ttwo\n")], "its check ended with 1: one two"],
  ["out of time", [check(-1, "slow")], "its check took too long or could not be run: slow"],
  ["a secret", [check(1, "refused token: s3cret")], "its check ended with 1: refused token: ***"],
  ["hostile", [check(1, "\x1b[2Jgone\r")], "its check ended with 1: \ufffd[2Jgone\ufffd"],
  ["as much as is quoted", [check(1, "x".repeat(200))], `its check ended with 1: ${"x".repeat(200)}`],
  ["more than is quoted", [check(1, "x".repeat(201))], `its check ended with 1: ${"x".repeat(200)}…`],
])("the last word of a health check: %s", (_, log, expected) => {
  expect(lastCheck({ log })).toBe(expected);
});

import { constants } from "node:os";
import { expect, test } from "vitest";
import { parseSignal, signalName } from "./signals.ts";

test.each([
  ["SIGTERM", 15],
  ["TERM", 15],
  ["term", 15],
  ["15", 15],
  ["1", 1],
  ["64", 64],
  ["SIGKILL", 9],
  ["CLD", 17],
  ["RTMIN", 34],
  ["SIGRTMIN+3", 37],
  ["rtmin+30", 64],
  ["RTMAX", 64],
  ["RTMAX-30", 34],
])("%s is %d", (text, number) => {
  expect(parseSignal(text)).toBe(number);
});

test.each([
  "",
  "0",
  "65",
  "-1",
  "1.5",
  "SIG",
  "SIGSIGTERM",
  "NOPE",
  "RTMIN+31",
  "RTMAX-31",
  "RTMIN+",
  "toString",
  "9 ",
])("%j is refused", (text) => {
  expect(() => parseSignal(text)).toThrow(/is not a signal/);
});

test("names and numbers are this platform's", () => {
  for (const [name, number] of Object.entries(constants.signals)) expect(parseSignal(name)).toBe(number);
});

test("a name leads back to its number", () => {
  for (let number = 1; number <= 64; number++) expect(parseSignal(signalName(number))).toBe(number);
  expect(signalName(15)).toBe("SIGTERM");
  expect(signalName(37)).toBe("SIGRTMIN+3");
  expect(signalName(0)).toBe("0");
});

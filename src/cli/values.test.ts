import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import {
  choice,
  durationMs,
  parseBoolean,
  parseGuestPath,
  parseHostname,
  parseMoment,
  parseName,
  parsePlatform,
  parseSignal,
  parseUser,
  parseWait,
  wholeNumber,
} from "./values.ts";

type Reader = (text: string, flag: string) => unknown;

describe.each<[string, Reader, [string, unknown][], string[]]>([
  [
    "parseBoolean",
    parseBoolean,
    [
      ["true", true],
      ["1", true],
      ["F", false],
    ],
    ["", "yes", "2"],
  ],
  [
    "wholeNumber",
    wholeNumber(1, 32),
    [
      ["1", 1],
      ["32", 32],
      ["007", 7],
    ],
    ["0", "33", "1.5", "-1", "1e1", "", " 1", "9".repeat(400)],
  ],
  ["choice", choice("always", "never"), [["always", "always"]], ["", "Always", "alway"]],
  [
    "parseWait",
    parseWait,
    [
      ["0", 0],
      ["10", 10_000],
      ["0.5", 500],
      ["1m30s", 90_000],
      ["250ms", 250],
      ["2147483.647", 2_147_483_647],
    ],
    ["", "-1", "10x", "1 s", "2147483.648", "30d", "NaN", "Infinity"],
  ],
  [
    "parseName",
    parseName,
    [
      ["a", "a"],
      ["web_1.x-y", "web_1.x-y"],
      ["a".repeat(128), "a".repeat(128)],
    ],
    ["", "-a", ".a", "a b", "a/b", "ü", "a".repeat(129)],
  ],
  [
    "parseHostname",
    parseHostname,
    [
      ["a", "a"],
      ["web-1.lan", "web-1.lan"],
      ["a".repeat(63), "a".repeat(63)],
    ],
    ["", "-a", "a-", "a_b", "a".repeat(64), "a\nb"],
  ],
  [
    "parsePlatform",
    parsePlatform,
    [
      ["linux/amd64", "linux/amd64"],
      ["linux/arm64/v8", "linux/arm64/v8"],
    ],
    ["", "amd64", "windows/amd64", "linux/", "linux/a/b/c", "LINUX/amd64"],
  ],
  [
    "parseUser",
    parseUser,
    [
      ["1000", "1000"],
      ["nginx", "nginx"],
      ["1:2", "1:2"],
      ["web:", "web:"],
    ],
    ["", ":1", "a b", "a:b:c", "a\0"],
  ],
  [
    "parseGuestPath",
    parseGuestPath,
    [
      ["/", "/"],
      ["/a b", "/a b"],
    ],
    ["", "a", "./a", "/a\0"],
  ],
  [
    "parseSignal",
    parseSignal,
    [
      ["TERM", "SIGTERM"],
      ["sigterm", "SIGTERM"],
      ["15", "SIGTERM"],
      ["9", "SIGKILL"],
      ["6", "SIGABRT"],
      ["RTMIN", "34"],
      ["SIGRTMIN+3", "37"],
      ["RTMAX-1", "63"],
      ["40", "40"],
      ["64", "64"],
    ],
    ["", "0", "65", "-9", "SIG", "SIGFOO", "RTMIN-1", "RTMAX+1", "RTMIN+31", "toString", "1.5"],
  ],
])("%s", (_name, read, good, bad) => {
  test.each(good)("reads %j", (text, value) => {
    expect(read(text, "--flag")).toBe(value);
  });
  test.each(bad.map((text) => [text]))("refuses %j", (text) => {
    const refuse = (): unknown => read(text, "--flag");
    expect(refuse).toThrow(FirectlError);
    expect(refuse).toThrow(`--flag: "${text}" is not `);
  });
});

test.each([
  ["1h30m", 5_400_000],
  ["1.5s", 1500],
  ["2d", 172_800_000],
  ["100us", 0.1],
  ["", undefined],
  ["5", undefined],
  ["m", undefined],
  ["1h-30m", undefined],
])("durationMs(%j)", (text, ms) => {
  expect(durationMs(text)).toBe(ms);
});

describe("parseMoment", () => {
  test.each([
    ["0", 0n],
    ["1136073600", 1_136_073_600_000_000_000n],
    ["1136073600.000000001", 1_136_073_600_000_000_001n],
    ["1136073600.5", 1_136_073_600_500_000_000n],
    ["2006-01-01T00:00:00Z", 1_136_073_600_000_000_000n],
    ["2006-01-01T01:00:00.123456789+01:00", 1_136_073_600_123_456_789n],
    ["2024-02-29T00:00Z", 1_709_164_800_000_000_000n],
  ])("reads %s", (text, ns) => {
    expect(parseMoment(text, "--since")).toBe(ns);
  });

  test("without a zone it is local time", () => {
    const local = BigInt(new Date(2026, 0, 31).getTime()) * 1_000_000n;
    expect(parseMoment("2026-01-31", "--since")).toBe(local);
    expect(parseMoment("2026-01-31T00:00:01", "--since")).toBe(local + 1_000_000_000n);
  });

  test("a duration counts back from now", () => {
    const before = BigInt(Date.now() - 600_000) * 1_000_000n;
    const moment = parseMoment("10m", "--since");
    expect(moment).toBeGreaterThanOrEqual(before);
    expect(moment).toBeLessThanOrEqual(BigInt(Date.now() - 600_000) * 1_000_000n);
  });

  test.each([
    "",
    "yesterday",
    "2023-02-29",
    "2026-13-01",
    "2026-01-31T25:00",
    "-5m",
    "1.2.3",
    "1000000d",
    "1969-12-31T00:00Z",
  ])("refuses %j", (text) => {
    expect(() => parseMoment(text, "--since")).toThrow(`--since: "${text}" is not a time`);
  });
});

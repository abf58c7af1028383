import { describe, expect, it } from "vitest";
import {
  choosePlatform,
  formatPlatform,
  hostPlatform,
  normalise,
  parsePlatform,
  platformMissing,
} from "./platform.ts";

describe("parsePlatform", () => {
  it.each([
    ["linux/amd64", "linux/amd64"],
    ["amd64", "linux/amd64"],
    ["x86_64", "linux/amd64"],
    ["linux/aarch64", "linux/arm64"],
    ["linux/arm64/v8", "linux/arm64"],
    ["armhf", "linux/arm/v7"],
    ["Linux/ARM/v6", "linux/arm/v6"],
  ])("reads %s as %s", (text, expected) => {
    expect(formatPlatform(parsePlatform(text))).toBe(expected);
  });

  it.each([[""], ["linux/"], ["/amd64"], ["linux/amd64/v1/x"], ["linux amd64"], ["a".repeat(33)]])(
    "refuses %j",
    (text) => {
      expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
    },
  );

  it("refuses an operating system that cannot run", () => {
    expect(() => parsePlatform("windows/amd64")).toThrow(expect.objectContaining({ code: "UNSUPPORTED" }));
  });

  it("knows the host's", () => {
    expect(hostPlatform("x64")).toEqual({ os: "linux", architecture: "amd64" });
    expect(hostPlatform("arm64")).toEqual({ os: "linux", architecture: "arm64" });
  });
});

describe("choosePlatform", () => {
  it.each([
    ["linux/amd64", ["linux/arm64", "linux/amd64"], 1],
    ["linux/amd64", ["linux/amd64/v3", "linux/amd64/v2", "linux/arm64"], 1],
    ["linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1],
    ["linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1],
    ["linux/arm/v6", ["linux/arm/v7"], undefined],
    ["linux/arm64", ["linux/arm64/v8"], 0],
    ["linux/amd64", ["linux/386"], undefined],
    ["linux/amd64", [], undefined],
  ])("for %s from %j takes %s", (wanted, offered, expected) => {
    expect(choosePlatform(parsePlatform(wanted), offered.map(parsePlatform))).toBe(expected);
  });

  it("never takes an attestation or another system", () => {
    const offered = [normalise("unknown", "unknown", undefined), normalise("windows", "amd64", undefined)];
    expect(choosePlatform(parsePlatform("linux/amd64"), offered)).toBeUndefined();
  });

  it("names what there is", () => {
    const offered = [
      normalise("unknown", "unknown", undefined),
      parsePlatform("linux/s390x"),
      parsePlatform("arm64"),
    ];
    expect(platformMissing("img", parsePlatform("linux/amd64"), offered).message).toBe(
      "img is not there for linux/amd64: it has linux/arm64, linux/s390x",
    );
  });
});

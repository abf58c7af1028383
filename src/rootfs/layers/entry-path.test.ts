import { describe, test } from "vitest";
import { cleanPath } from "./entry-path.ts";

describe("cleanPath", () => {
  test.for<[raw: string, path: string]>([
    ["usr/bin/env", "usr/bin/env"],
    ["./usr/bin", "usr/bin"],
    ["/usr//bin/", "usr/bin"],
    [".", ""],
    ["./", ""],
    ["/", ""],
    ["", ""],
    ["a/../b", "b"],
    ["a/b/../../c", "c"],
    ["/../../etc", "etc"],
    [".hidden", ".hidden"],
    ["a/.hidden", "a/.hidden"],
    ["a/...", "a/..."],
    ["a\\b\nc", "a\\b\nc"],
    ["x".repeat(255), "x".repeat(255)],
  ])("%j is %j", ([raw, path], { expect }) => {
    expect(cleanPath(raw)).toEqual({ path });
  });

  test.for<[raw: string, problem: string]>([
    ["../etc/passwd", "the path leads out of the image"],
    ["a/../../b", "the path leads out of the image"],
    ["..", "the path leads out of the image"],
    ["x".repeat(256), "a name of more than 255 bytes"],
    [`a/${"x".repeat(256)}/b`, "a name of more than 255 bytes"],
    [`${"a/".repeat(2047)}bb`, "a path of 4096 bytes, at most 4095"],
  ])("refuses %j", ([raw, problem], { expect }) => {
    expect(cleanPath(raw)).toEqual({ problem });
  });

  test("takes the longest path", ({ expect }) => {
    const path = `${"a/".repeat(2047)}b`;
    expect(cleanPath(path)).toEqual({ path });
  });
});

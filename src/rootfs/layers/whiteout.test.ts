import { test } from "vitest";
import { isAufsDirectory, parseWhiteout } from "./whiteout.ts";

test.for([
  ["passwd", { kind: "none" }],
  [".wh", { kind: "none" }],
  [".wh.passwd", { kind: "remove", name: "passwd" }],
  [".wh..hidden", { kind: "remove", name: ".hidden" }],
  [".wh..wh..opq", { kind: "opaque" }],
  [".wh..wh.aufs", { kind: "ignored" }],
  [".wh..wh.plnk", { kind: "ignored" }],
  [".wh....", { kind: "remove", name: "..." }],
  [".wh.", undefined],
  [".wh..", undefined],
  [".wh...", undefined],
] as const)("%s", ([name, meaning], { expect }) => {
  expect(parseWhiteout(name)).toEqual(meaning);
});

test("only AUFS's own directories are kept out of the image", ({ expect }) => {
  expect([".wh..wh.plnk", ".wh.plnk", "plnk"].map(isAufsDirectory)).toEqual([true, false, false]);
});

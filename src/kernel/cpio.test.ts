import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { type CpioEntry, packCpio } from "./cpio.ts";

const ENTRIES: CpioEntry[] = [
  { kind: "directory", name: "dev", mode: 0o755 },
  { kind: "character device", name: "dev/console", mode: 0o600, major: 5, minor: 1 },
  ...[0, 1, 2, 3, 4].map(
    (length): CpioEntry => ({
      kind: "file",
      name: `f${"x".repeat(length)}`,
      mode: 0o644,
      contents: Buffer.alloc(length, "c"),
    }),
  ),
  { kind: "file", name: "init", mode: 0o755, contents: Buffer.from("#!/bin/sh\n") },
];

test("cpio(1) lists what was packed", ({ skip }) => {
  let listing: string;
  try {
    listing = execFileSync("cpio", ["-itv", "--quiet", "--numeric-uid-gid"], {
      input: packCpio(ENTRIES),
      encoding: "utf8",
      env: { ...process.env, TZ: "UTC", LC_ALL: "C" },
    });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") skip("cpio is not installed");
    throw error;
  }
  expect(listing.replaceAll(/ {2,}/g, " ")).toBe(
    [
      "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev",
      "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console",
      "-rw-r--r-- 1 0 0 0 Jan 1 1970 f",
      "-rw-r--r-- 1 0 0 1 Jan 1 1970 fx",
      "-rw-r--r-- 1 0 0 2 Jan 1 1970 fxx",
      "-rw-r--r-- 1 0 0 3 Jan 1 1970 fxxx",
      "-rw-r--r-- 1 0 0 4 Jan 1 1970 fxxxx",
      "-rwxr-xr-x 1 0 0 10 Jan 1 1970 init",
      "",
    ].join("\n"),
  );
});

test("the same entries make the same bytes", () => {
  expect(packCpio(ENTRIES).equals(packCpio(structuredClone(ENTRIES).map(withBuffer)))).toBe(true);
  expect(packCpio(ENTRIES).length % 4).toBe(0);
});

/** structuredClone makes a Uint8Array of a Buffer. */
function withBuffer(entry: CpioEntry): CpioEntry {
  return entry.kind === "file" ? { ...entry, contents: Buffer.from(entry.contents) } : entry;
}

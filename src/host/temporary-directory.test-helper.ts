import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll } from "vitest";

const made: string[] = [];

// Registered by importing: each test file that makes directories removes them at its end.
afterAll(() => {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
});

/** A directory of the test file's own, short enough for sockets. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), "fc-"));
  made.push(directory);
  return directory;
}

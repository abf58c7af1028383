import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "./temporary-directory.test-helper.ts";
import { watchUntil } from "./watch-directory.ts";

const directory = temporaryDirectory();
const options = { directory, timeoutMs: 10_000, waitingFor: "a file" };

test("looks at once, and wakes when a file comes", async () => {
  expect(await watchUntil(options, () => "there")).toBe("there");
  const file = path.join(directory, "come");
  setTimeout(() => writeFileSync(file, ""), 50);
  const startedAt = performance.now();
  // With a beat of ten seconds, only a notification can wake it in time.
  await watchUntil({ ...options, intervalMs: 9_000 }, () => (existsSync(file) ? true : undefined));
  expect(performance.now() - startedAt).toBeLessThan(5_000);
});

test("sees what makes no event, and works where there is nothing to watch", async () => {
  let ready = false;
  setTimeout(() => {
    ready = true;
  }, 50);
  const gone = path.join(directory, "none");
  expect(await watchUntil({ ...options, directory: gone }, () => (ready ? "yes" : undefined))).toBe("yes");
});

test("ends at the deadline, at the caller's word, and at an error of the attempt", async () => {
  await expect(watchUntil({ ...options, timeoutMs: 30 }, () => undefined)).rejects.toMatchObject({
    code: "TIMEOUT",
  });
  const reason = new Error("enough");
  await expect(watchUntil({ ...options, signal: AbortSignal.abort(reason) }, () => undefined)).rejects.toBe(
    reason,
  );
  let calls = 0;
  const failing = watchUntil(options, () => {
    calls++;
    if (calls === 3) throw reason;
    return undefined;
  });
  await expect(failing).rejects.toBe(reason);
});

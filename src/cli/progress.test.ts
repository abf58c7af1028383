import { describe, expect, test } from "vitest";
import { firectl, MemorySink, startedVm, testIo } from "./cli.test-helper.ts";
import { createProgress } from "./progress.ts";
import { ago, formatUnixNs, humanDuration } from "./time-text.ts";

const CLEAR = "\r\x1b[K";

describe("progress", () => {
  test("one line, redrawn no more often than can be read, and gone at the end", () => {
    const stderr = new MemorySink({ isTerminal: true });
    let now = 0;
    const progress = createProgress(stderr, { quiet: false, env: {}, now: () => now });
    const layer = (digest: string, receivedBytes: number, done = false): void =>
      progress.update({ kind: "layer", digest, receivedBytes, totalBytes: 2_000_000, done });
    progress.update({ kind: "resolving", reference: "nginx" });
    layer("a", 0);
    now = 100;
    layer("a", 500_000);
    now = 150;
    layer("b", 1_000_000);
    now = 200;
    layer("a", 2_000_000, true);
    now = 300;
    // While a layer is still coming, that is what takes the time.
    progress.update({ kind: "building", readBytes: 20, totalBytes: undefined });
    layer("b", 2_000_000, true);
    now = 400;
    progress.update({ kind: "building", readBytes: 30, totalBytes: undefined });
    progress.update({ kind: "booting", vmm: "qemu" });
    progress.stop();
    progress.stop();
    progress.update({ kind: "resolving", reference: "late" });
    expect(stderr.text.split(CLEAR)).toEqual([
      "",
      "Looking for nginx",
      "Pulling nginx: 0 of 1 layers, 500kB of 2MB (25%)",
      "Pulling nginx: 1 of 2 layers, 3MB of 4MB (75%)",
      "Pulling nginx: 2 of 2 layers, 4MB of 4MB (100%)",
      "Building the root filesystem: 30B",
      "Starting the virtual machine (qemu)",
      "",
    ]);
  });

  test("a hostile reference stays within its line", () => {
    const stderr = new MemorySink({ isTerminal: true });
    createProgress(stderr, { quiet: false, env: {} }).update({
      kind: "resolving",
      reference: `a\x1b[2J${"x".repeat(200)}`,
    });
    expect(stderr.text.startsWith(`${CLEAR}Looking for a\\x1b[2Jxxx`)).toBe(true);
    expect(stderr.text.length - CLEAR.length).toBe(79);
  });

  test.each([
    [100, "Pulling registry.example.com/team/application:1.2.3: 0 of 1 layers, 500kB of 2MB (25%)"],
    [70, "Pulling registry.example.com/team…: 0 of 1 layers, 500kB of 2MB (25%)"],
    [52, "Pulling registr…: 0 of 1 layers, 500kB of 2MB (25%)"],
    [40, "0 of 1 layers, 500kB of 2MB (25%)"],
    [20, "0 of 1 layers, 500…"],
  ])("on %d columns the name is what is shortened", (columns, expected) => {
    const stderr = new MemorySink({ isTerminal: true, columns });
    let now = 0;
    const progress = createProgress(stderr, { quiet: false, env: {}, now: () => now });
    progress.update({ kind: "resolving", reference: "registry.example.com/team/application:1.2.3" });
    now = 100;
    progress.update({
      kind: "layer",
      digest: "a",
      receivedBytes: 500_000,
      totalBytes: 2_000_000,
      done: false,
    });
    expect(stderr.text.split(CLEAR).at(-1)).toBe(expected);
  });

  test("a terminal that is dumb gets notices, and no escape sequences", () => {
    const stderr = new MemorySink({ isTerminal: true });
    const progress = createProgress(stderr, { quiet: false, env: { TERM: "dumb" } });
    progress.update({ kind: "resolving", reference: "nginx" });
    progress.update({ kind: "notice", message: "careful" });
    progress.stop();
    expect(stderr.text).toBe("firectl: careful\n");
  });

  test("without a terminal only notices are shown, and with -q not even those", () => {
    for (const quiet of [false, true]) {
      const stderr = new MemorySink();
      const progress = createProgress(stderr, { quiet, env: {} });
      progress.update({ kind: "resolving", reference: "nginx" });
      progress.update({ kind: "notice", message: "no /dev/kvm: QEMU emulates the machine" });
      progress.stop();
      expect(stderr.text).toBe(quiet ? "" : "firectl: no /dev/kvm: QEMU emulates the machine\n");
    }
  });

  test("the line is cleared before a notice, an error and the workload's output", async () => {
    const io = testIo({ stderrIsTerminal: true });
    await firectl(["run", "img"], {
      io,
      operations: {
        async run({ onProgress }) {
          onProgress?.({ kind: "resolving", reference: "img" });
          onProgress?.({ kind: "notice", message: "careful" });
          onProgress?.({ kind: "booting", vmm: "qemu" });
          return startedVm({ output: [["stderr", "mine\n"]] });
        },
      },
    });
    expect(io.stderr.text).toBe(
      `${CLEAR}Looking for img${CLEAR}firectl: careful\n${CLEAR}Starting the virtual machine (qemu)${CLEAR}mine\n`,
    );
    const failing = testIo({ stderrIsTerminal: true });
    await firectl(["run", "img"], {
      io: failing,
      operations: {
        async run({ onProgress }) {
          onProgress?.({ kind: "booting", vmm: "qemu" });
          throw new Error("boom");
        },
      },
    });
    expect(failing.stderr.text).toContain(`(qemu)${CLEAR}firectl: unexpected error: boom\n`);
  });
});

test.each([
  [0, "Less than a second"],
  [999, "Less than a second"],
  [1000, "1 second"],
  [59_999, "59 seconds"],
  [60_000, "About a minute"],
  [119_999, "About a minute"],
  [120_000, "2 minutes"],
  [3_599_999, "59 minutes"],
  [3_600_000, "About an hour"],
  [47 * 3_600_000, "47 hours"],
  [48 * 3_600_000, "2 days"],
  [13 * 86_400_000, "13 days"],
  [14 * 86_400_000, "2 weeks"],
  [60 * 86_400_000, "2 months"],
  [800 * 86_400_000, "2 years"],
])("humanDuration(%d)", (ms, text) => {
  expect(humanDuration(ms)).toBe(text);
});

test("ago of a moment that is unknown, nonsense or to come", () => {
  expect(ago(null)).toBe("");
  expect(ago("soon")).toBe("");
  expect(ago("2999-01-01T00:00:00Z")).toBe("Less than a second ago");
});

test.each([
  [0n, "1970-01-01T00:00:00.000000000Z"],
  [1_136_073_600_123_456_789n, "2006-01-01T00:00:00.123456789Z"],
  [-1n, "0000-00-00T00:00:00.000000000Z"],
  [2n ** 63n - 1n, "2262-04-11T23:47:16.854775807Z"],
  [2n ** 80n, "0000-00-00T00:00:00.000000000Z"],
])("formatUnixNs(%d)", (ns, text) => {
  expect(formatUnixNs(ns)).toBe(text);
});

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { FirectlError } from "../core/errors.ts";
import { bothOrNeither, inStage } from "./stage.ts";

describe("inStage", () => {
  test("names the stage and keeps code and hint", async () => {
    const failing = inStage("pulling debian", async () => {
      throw new FirectlError("REGISTRY_REFUSED", "no such tag", { hint: "look again" });
    });
    await expect(failing).rejects.toMatchObject({
      code: "REGISTRY_REFUSED",
      message: "pulling debian failed: no such tag",
      hint: "look again",
    });
  });

  test("says of an interruption what was interrupted, and leaves bugs alone", async () => {
    const interrupted = inStage("pulling debian", async () => {
      throw new FirectlError("INTERRUPTED", "SIGINT");
    });
    await expect(interrupted).rejects.toThrow("interrupted while pulling debian");
    const bug = new TypeError("x");
    await expect(inStage("s", () => Promise.reject(bug))).rejects.toBe(bug);
  });
});

describe("bothOrNeither", () => {
  test("gives both results", async () => {
    expect(
      await bothOrNeither(
        undefined,
        async () => 1,
        async () => "b",
      ),
    ).toEqual([1, "b"]);
  });

  test("aborts the other, waits for it, and throws the first error", async () => {
    let ended = false;
    const outcome = bothOrNeither(
      undefined,
      async () => {
        await sleep(5);
        throw new FirectlError("IO_FAILED", "first");
      },
      async (signal) => {
        await sleep(10_000, undefined, { signal }).catch(() => sleep(20));
        ended = true;
        throw new FirectlError("INTERRUPTED", "second");
      },
    );
    await expect(outcome).rejects.toThrow("first");
    expect(ended).toBe(true);
  });

  test("passes the caller's abort on to both", async () => {
    const controller = new AbortController();
    const wait = (signal: AbortSignal) => sleep(10_000, undefined, { signal });
    const outcome = bothOrNeither(controller.signal, wait, wait);
    controller.abort(new FirectlError("INTERRUPTED", "enough"));
    await expect(outcome).rejects.toThrow();
  });
});

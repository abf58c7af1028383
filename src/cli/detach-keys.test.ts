import { describe, expect, test } from "vitest";
import { DEFAULT_DETACH_KEYS, parseDetachKeys, untilDetachKeys } from "./detach-keys.ts";

describe("the notation of detach keys", () => {
  test.each<[string, readonly number[]]>([
    [DEFAULT_DETACH_KEYS, [16, 17]],
    ["a", [0x61]],
    ["ctrl-a,x,ctrl-z", [1, 0x78, 26]],
    ["ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", [0, 27, 28, 29, 30, 31]],
    ["DEL,del", [127, 127]],
    ["Q", [0x51]],
  ])("%s", (text, codes) => {
    expect([...parseDetachKeys(text)]).toEqual(codes);
  });

  test.each(["", "ctrl-", "ctrl-A", "ctrl-pp", "ab", "a,,b", "ctrl-1", "ä", "\x01"])(
    "%j is refused",
    (text) => {
      expect(() => parseDetachKeys(text)).toThrow(/invalid detach keys/);
    },
  );
});

describe("typing", () => {
  /** What passes of `typed` (one string a read), and whether the keys were among it. */
  async function type(typed: readonly string[], keys = "ctrl-p,ctrl-q"): Promise<[string, boolean]> {
    let detached = false;
    let passed = "";
    const source = (async function* () {
      for (const text of typed) yield Buffer.from(text, "latin1");
    })();
    const onDetach = (): void => {
      detached = true;
    };
    for await (const bytes of untilDetachKeys(source, { keys: parseDetachKeys(keys), onDetach })) {
      passed += Buffer.from(bytes).toString("latin1");
    }
    return [passed, detached];
  }

  test.each<[string, readonly string[], string, boolean]>([
    ["nothing special", ["ls\r", "\x00\xff"], "ls\r\x00\xff", false],
    ["the keys at once", ["a\x10\x11b"], "a", true],
    ["the keys one by one", ["a", "\x10", "\x11"], "a", true],
    ["the first key, then another", ["\x10", "x"], "\x10x", false],
    ["the first key twice, then the second", ["\x10", "\x10", "\x11"], "\x10", true],
    ["the first key at the end", ["a\x10"], "a\x10", false],
    ["the second key alone", ["\x11"], "\x11", false],
  ])("%s", async (_name, typed, passed, detached) => {
    expect(await type(typed)).toEqual([passed, detached]);
  });

  test("keys that begin alike", async () => {
    expect(await type(["a", "a", "a", "b", "c"], "a,a,b")).toEqual(["a", true]);
    expect(await type(["aac"], "a,a,b")).toEqual(["aac", false]);
  });
});

import { describe, expect, test, vi } from "vitest";
import { tailOf } from "./tail.ts";

async function tail(parts: (string | Uint8Array)[], lines: number): Promise<string> {
  async function* entries() {
    for (const part of parts) {
      const data = typeof part === "string" ? Buffer.from(part) : part;
      yield { stream: "stdout" as const, timeUnixNs: 0n, data };
    }
  }
  let text = "";
  for await (const { data } of tailOf(entries(), lines)) text += Buffer.from(data).toString();
  return text;
}

describe("tailOf", () => {
  test.each<[string[], number, string]>([
    [["a\nb\nc\n"], 2, "b\nc\n"],
    [["a\n", "b\n", "c\n"], 2, "b\nc\n"],
    [["a\nb", "b\nc\n"], 2, "bb\nc\n"],
    [["a\nb", "b\nc\n"], 1, "c\n"],
    [["a\nb\nopen"], 2, "b\nopen"],
    [["a\n", "op", "en"], 1, "open"],
    [["a\n"], 5, "a\n"],
    [["a\nb\n"], 0, ""],
    [["open"], 0, ""],
    [[], 3, ""],
    [["a\n\n\n"], 2, "\n\n"],
  ])("of %j, %i lines are %j", async (parts, lines, expected) => {
    expect(await tail(parts, lines)).toBe(expected);
  });

  test.each([1, 10, 1000])("of many short entries, %i lines are the last of them", async (lines) => {
    const parts = Array.from({ length: 2000 }, (_, number) => `${number}\n`);
    expect(await tail(parts, lines)).toBe(parts.slice(-lines).join(""));
  });

  test("looks at each entry once, however many follow that have no newline", async () => {
    const first = Buffer.from("a");
    const looks = vi.spyOn(first, Symbol.iterator);
    const others = Array.from({ length: 1000 }, () => "b");
    expect(await tail([first, ...others], 1)).toBe(`a${others.join("")}`);
    // Once as it comes; every further look would be one for each of the others.
    expect(looks.mock.calls.length).toBeLessThan(5);
  });
});

import { expect, test } from "vitest";
import { secondsIn } from "./environment.ts";

test.each([
  [undefined, undefined],
  ["", undefined],
  ["60", 60_000],
  ["0.5", 500],
  ["2147483", 2_147_483_000],
])("%j is %j milliseconds", (value, expected) => {
  expect(secondsIn({ FIRECTL_BOOT_TIMEOUT: value }, "FIRECTL_BOOT_TIMEOUT")).toBe(expected);
});

test.each(["abc", "60s", "-1", "0", "1e3", " 60", "2147484", "Infinity"])("%j is refused", (value) => {
  expect(() => secondsIn({ FIRECTL_BOOT_TIMEOUT: value }, "FIRECTL_BOOT_TIMEOUT")).toThrow(
    expect.objectContaining({
      code: "INVALID_CONFIGURATION",
      message: `FIRECTL_BOOT_TIMEOUT: "${value}" is not a number of seconds above 0`,
      hint: "write it without a unit, at most 2147483: FIRECTL_BOOT_TIMEOUT=600",
    }),
  );
});

import { FirectlError } from "../core/errors.ts";

/** Docker's: ctrl-p, ctrl-q. */
export const DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q";

/** What may follow `ctrl-` besides letters, in the order of their codes. */
const CONTROL_SYMBOLS = "[\\]^_";
const DELETE = 0x7f;

/**
 * The bytes of a key sequence in docker's notation: single characters and `ctrl-` with a letter or one of
 * `@[\]^_`, or `DEL`, separated by commas.
 * @throws FirectlError INVALID_ARGUMENT. https://docs.docker.com/reference/cli/docker/container/attach/#detach-keys
 */
export function parseDetachKeys(text: string, origin = "--detach-keys"): Uint8Array {
  const keys = text.split(",").map((key) => {
    const code = codeOf(key);
    if (code === undefined) {
      throw new FirectlError(
        "INVALID_ARGUMENT",
        `${origin}: invalid detach keys "${text}": unknown key "${key}"`,
        {
          hint: "separate keys with commas: a letter, or ctrl- with a-z, @, [, \\, ], ^ or _; for example ctrl-p,ctrl-q",
        },
      );
    }
    return code;
  });
  return Uint8Array.from(keys);
}

function codeOf(key: string): number | undefined {
  if (key.toUpperCase() === "DEL") return DELETE;
  const control = /^ctrl-(.)$/.exec(key)?.[1];
  if (control === undefined) return /^[\x20-\x7e]$/.test(key) ? key.charCodeAt(0) : undefined;
  if (control === "@") return 0;
  if (/[a-z]/.test(control)) return control.charCodeAt(0) - 0x60;
  const symbol = CONTROL_SYMBOLS.indexOf(control);
  return symbol === -1 ? undefined : 0x1b + symbol;
}

/**
 * What is typed, until the keys are typed one right after the other: `onDetach` is then called, and neither they
 * nor what follows is passed on. A beginning of the keys is held back until the next key shows what it was.
 */
export async function* untilDetachKeys(
  typed: AsyncIterable<Uint8Array>,
  options: { readonly keys: Uint8Array; readonly onDetach: () => void },
): AsyncGenerator<Uint8Array, void> {
  const { keys } = options;
  let matched = 0;
  for await (const bytes of typed) {
    const passed: number[] = [];
    for (const byte of bytes) {
      const before = [...keys.subarray(0, matched), byte];
      matched = longestBeginning(before, keys);
      passed.push(...before.slice(0, before.length - matched));
      if (matched === keys.length) {
        if (passed.length > 0) yield Uint8Array.from(passed);
        options.onDetach();
        return;
      }
    }
    if (passed.length > 0) yield Uint8Array.from(passed);
  }
  // The end of the input is no key either.
  if (matched > 0) yield keys.slice(0, matched);
}

/** How many of the last bytes of `typed` are a beginning of `keys`. */
function longestBeginning(typed: readonly number[], keys: Uint8Array): number {
  for (let length = Math.min(typed.length, keys.length); length > 0; length--) {
    const tail = typed.slice(typed.length - length);
    if (tail.every((byte, index) => byte === keys[index])) return length;
  }
  return 0;
}

import { readFileSync } from "node:fs";
import { errnoOf, FirectlError, messageOf } from "../core/errors.ts";

/** `KEY=VALUE` or `KEY`; the key is never empty. */
export interface KeyValue {
  readonly key: string;
  readonly value: string | undefined;
}

/** Reads `KEY=VALUE` or `KEY` of a flag. */
export function parseKeyValue(text: string, flag: string): KeyValue {
  const equals = text.indexOf("=");
  const key = equals < 0 ? text : text.slice(0, equals);
  if (key.trim() === "" || text.includes("\0")) {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" has no name before the "="`, {
      hint: `write ${flag} NAME=VALUE`,
    });
  }
  return { key, value: equals < 0 ? undefined : text.slice(equals + 1) };
}

/**
 * The variables of `-e` and `--env-file` as `KEY=VALUE`, those of the files first, as in docker. A variable
 * without value is taken from `environment`, and left out when that does not have it.
 */
export function collectEnv(
  options: { files: readonly string[]; pairs: readonly KeyValue[] },
  environment: NodeJS.ProcessEnv,
): string[] {
  const all = [...options.files.flatMap((file) => readKeyValueFile(file, "--env-file")), ...options.pairs];
  return all.flatMap(({ key, value }) => {
    const resolved = value ?? environment[key];
    return resolved === undefined ? [] : [`${key}=${resolved}`];
  });
}

/** The labels of `--label` and `--label-file`; a label without value is empty, a later one replaces. */
export function collectLabels(options: {
  files: readonly string[];
  pairs: readonly KeyValue[];
}): Record<string, string> {
  const all = [...options.files.flatMap((file) => readKeyValueFile(file, "--label-file")), ...options.pairs];
  return Object.fromEntries(all.map(({ key, value }) => [key, value ?? ""]));
}

/** Longer than any real one; a device or a disk image named by mistake is not read whole. */
const MAX_FILE_BYTES = 4 * 1024 * 1024;

/**
 * Reads a file of `KEY=VALUE` lines by docker's rules: `#` at the start of a line comments it out, white
 * space before the name goes, everything after the `=` is the value, quotes too.
 * https://github.com/docker/cli/blob/master/pkg/kvfile/kvfile.go
 */
function readKeyValueFile(file: string, flag: string): KeyValue[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (error) {
    const code = errnoOf(error) === "ENOENT" ? "FILE_NOT_FOUND" : "IO_FAILED";
    throw new FirectlError(code, `${flag}: cannot read ${file}: ${messageOf(error)}`, { cause: error });
  }
  if (bytes.length > MAX_FILE_BYTES) {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: ${file} is larger than ${MAX_FILE_BYTES} bytes`);
  }
  return parseKeyValueLines(bytes, `${flag}: ${file}`);
}

/** The lines of such a file; `origin` heads the errors. */
export function parseKeyValueLines(bytes: Uint8Array, origin: string): KeyValue[] {
  let text: string;
  try {
    // A byte order mark at the head is dropped by the decoder.
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw new FirectlError("INVALID_ARGUMENT", `${origin}: not UTF-8 text`, { cause: error });
  }
  return text.split(/\r?\n/).flatMap((rawLine, index) => {
    const line = rawLine.trimStart();
    if (line === "" || line.startsWith("#")) return [];
    const where = `${origin}: line ${index + 1}`;
    const equals = line.indexOf("=");
    const key = equals < 0 ? line : line.slice(0, equals);
    if (key === "") throw new FirectlError("INVALID_ARGUMENT", `${where}: no variable name before the "="`);
    if (/\s/.test(key) || line.includes("\0")) {
      throw new FirectlError("INVALID_ARGUMENT", `${where}: "${key}" is not a variable name`);
    }
    return [{ key, value: equals < 0 ? undefined : line.slice(equals + 1) }];
  });
}

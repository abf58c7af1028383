import * as z from "zod";
import { FirectlError } from "../core/errors.ts";
import { closest } from "../core/spelling.ts";
import type { Settings } from "./settings.ts";
import { MIN_MEMORY_MIB } from "./vm-options.ts";

const absolutePath = z.string().startsWith("/");

/** Of each field its form, and the form in words. */
const FIELDS = {
  dataDirectory: [absolutePath, "an absolute path"],
  runtimeDirectory: [absolutePath, "an absolute path"],
  firecracker: [absolutePath, "an absolute path"],
  qemu: [absolutePath, "an absolute path"],
  vhostDeviceVsock: [absolutePath, "an absolute path"],
  passt: [absolutePath, "an absolute path"],
  insecureRegistries: [z.array(z.string()), 'a list of registries such as ["registry.lan:5000"]'],
  registryMirrors: [
    z.record(z.string(), z.array(z.string())),
    'lists of URLs by registry such as {"docker.io": ["https://mirror.lan:5000"]}',
  ],
  registryTokenServers: [
    z.record(z.string(), z.array(z.string())),
    'lists of hosts by registry such as {"registry.corp.example": ["sso.example.net"]}',
  ],
  kernelUrl: [z.url({ protocol: /^https?$/ }), "an http or https URL"],
  kernelSha256: [z.string().regex(/^[0-9a-fA-F]{64}$/), "64 hexadecimal digits"],
  cpus: [z.int().min(1).max(32), "a whole number from 1 to 32"],
  memoryMib: [z.int().min(MIN_MEMORY_MIB), `a whole number of at least ${MIN_MEMORY_MIB}`],
  detachKeys: [z.string().min(1), 'keys such as "ctrl-p,ctrl-q"'],
  imageDevice: [z.enum(["auto", "block", "pmem"]), '"auto", "block" or "pmem"'],
  bootSnapshot: [z.enum(["auto", "never"]), '"auto" or "never"'],
  network: [z.enum(["none", "user"]), '"none" or "user"'],
  maxImageBytes: [z.int().min(1), "a whole number above 0"],
  maxImageEntries: [z.int().min(1), "a whole number above 0"],
} as const satisfies Record<keyof Settings, readonly [z.ZodType, string]>;

const NAMES: readonly string[] = Object.keys(FIELDS);

/** How much of a wrong value a message quotes. */
const QUOTED_LENGTH = 80;

const LOOK = "docs/configuration.md has all fields of config.json";

/**
 * What `config.json` says.
 * @param file Its path, for messages.
 * @throws FirectlError INVALID_CONFIGURATION naming each field that is wrong, its value and what is expected.
 */
export function parseSettings(text: string, file: string): Settings {
  const value = parseJson(text, file);
  if (!isObject(value)) {
    throw invalid(`${file} holds ${quoted(value)}, expected an object`, `write {"memoryMib": 1024}; ${LOOK}`);
  }
  const unknown = Object.keys(value).find((name) => !Object.hasOwn(FIELDS, name));
  if (unknown !== undefined) {
    const like = closest(unknown, NAMES);
    throw invalid(
      `${file}: there is no field ${quoted(unknown)}`,
      like === undefined ? `the fields are ${NAMES.join(", ")}` : `did you mean ${like}?`,
    );
  }
  const wrong = Object.entries(FIELDS).flatMap(([name, [form, expected]]) => {
    const given = Object.hasOwn(value, name) ? value[name] : undefined;
    if (given === undefined || form.safeParse(given).success) return [];
    return [`${name} is ${quoted(given)}, expected ${expected}`];
  });
  if (wrong.length > 0) throw invalid(`${file}: ${wrong.join("; ")}`, LOOK);
  // Each field of it has just been found to have its form.
  const settings = value as Settings;
  if ((settings.kernelUrl === undefined) !== (settings.kernelSha256 === undefined)) {
    const missing = settings.kernelUrl === undefined ? "kernelUrl" : "kernelSha256";
    throw invalid(`${file}: kernelUrl and kernelSha256 go together`, `add ${missing}, or leave both out`);
  }
  return settings;
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const [, reason = error.message, position] =
      /^(.*?) in JSON at position (\d+)/s.exec(error.message) ?? [];
    const isLocated = position !== undefined || /^Unexpected end/.test(error.message);
    // What is missing at the end is missing in the last line that has something.
    const before = text.trimEnd().slice(0, position === undefined ? undefined : Number(position));
    const line = isLocated ? `, line ${before.split("\n").length}` : "";
    throw new FirectlError("INVALID_CONFIGURATION", `${file}${line} is not JSON: ${reason}`, {
      hint: "names and texts stand in double quotes, commas between fields and none after the last",
      cause: error,
    });
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function quoted(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > QUOTED_LENGTH ? `${text.slice(0, QUOTED_LENGTH)}…` : text;
}

function invalid(message: string, hint: string): FirectlError {
  return new FirectlError("INVALID_CONFIGURATION", message, { hint });
}

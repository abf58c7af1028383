import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { parsePortRange, portsIn } from "../core/port-range.ts";
import { processWord, splitWords } from "./dockerfile-words.ts";

/**
 * `docker import --change`: Dockerfile instructions that change an image's configuration.
 * https://docs.docker.com/reference/cli/docker/image/import/#change
 */

/** The `config` of an image configuration while it is being made. */
interface Changing {
  readonly fields: Record<string, unknown>;
  readonly env: Map<string, string>;
}

/** What an instruction does; `rest` is what follows its name. */
const INSTRUCTIONS: Readonly<Record<string, (config: Changing, rest: string) => void>> = {
  CMD: ({ fields }, rest) => {
    fields["Cmd"] = commandOf(rest);
  },
  ENTRYPOINT: ({ fields }, rest) => {
    fields["Entrypoint"] = commandOf(rest);
  },
  ENV: ({ env }, rest) => {
    for (const [name, value] of pairsOf(rest, env)) env.set(name, value);
  },
  LABEL: ({ fields, env }, rest) => {
    fields["Labels"] = { ...mapOf(fields["Labels"]), ...Object.fromEntries(pairsOf(rest, env)) };
  },
  EXPOSE: ({ fields, env }, rest) => {
    const ports = splitWords(rest).flatMap((word) => portsOf(processWord(word, env)));
    fields["ExposedPorts"] = { ...mapOf(fields["ExposedPorts"]), ...setOf(ports) };
  },
  USER: ({ fields, env }, rest) => {
    fields["User"] = processWord(rest, env);
  },
  VOLUME: ({ fields, env }, rest) => {
    const volumes = (jsonList(rest) ?? splitWords(rest)).map((word) => processWord(word, env));
    if (volumes.includes("")) throw new Error("a volume's path is empty");
    fields["Volumes"] = { ...mapOf(fields["Volumes"]), ...setOf(volumes) };
  },
  WORKDIR: ({ fields, env }, rest) => {
    const before = typeof fields["WorkingDir"] === "string" ? fields["WorkingDir"] : "/";
    fields["WorkingDir"] = path.posix.resolve("/", before, processWord(rest, env));
  },
  STOPSIGNAL: ({ fields, env }, rest) => {
    const signal = processWord(rest, env);
    if (!/^(?:\d{1,2}|[A-Za-z][A-Za-z0-9]*(?:[+-]\d{1,2})?)$/.test(signal)) {
      throw new Error(`${JSON.stringify(signal)} is not a signal`);
    }
    fields["StopSignal"] = signal;
  },
  HEALTHCHECK: ({ fields }, rest) => {
    fields["Healthcheck"] = healthcheckOf(rest);
  },
  ONBUILD: ({ fields }, rest) => {
    const before = Array.isArray(fields["OnBuild"]) ? fields["OnBuild"] : [];
    fields["OnBuild"] = [...before, rest];
  },
};

/**
 * The `config` that the instructions make, one or more lines each, in their order.
 * @throws FirectlError INVALID_ARGUMENT naming the instruction.
 */
export function configFromChanges(changes: readonly string[]): Readonly<Record<string, unknown>> {
  const config: Changing = { fields: {}, env: new Map() };
  for (const line of changes.flatMap(linesOf)) apply(config, line);
  const env = [...config.env].map(([name, value]) => `${name}=${value}`);
  return env.length === 0 ? config.fields : { ...config.fields, Env: env };
}

/** Lines that end with a backslash go on in the next one; empty ones and comments say nothing. */
function linesOf(change: string): readonly string[] {
  const lines = change.replaceAll(/\\[ \t]*\n/g, "").split("\n");
  return lines.map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#"));
}

function apply(config: Changing, line: string): void {
  const [, name = "", rest = ""] = /^(\S+)\s*(.*)$/s.exec(line) ?? [];
  const upper = name.toUpperCase();
  const instruction = Object.hasOwn(INSTRUCTIONS, upper) ? INSTRUCTIONS[upper] : undefined;
  if (instruction === undefined)
    throw invalid(line, `${JSON.stringify(name.slice(0, 40))} cannot change an image`);
  if (rest === "") throw invalid(line, `nothing follows ${upper}`);
  try {
    instruction(config, rest);
  } catch (error) {
    throw invalid(line, error instanceof Error ? error.message : String(error));
  }
}

function invalid(line: string, why: string): FirectlError {
  return new FirectlError("INVALID_ARGUMENT", `change ${JSON.stringify(line.slice(0, 80))}: ${why}`, {
    hint: `write one of ${Object.keys(INSTRUCTIONS).join(", ")} as in a Dockerfile`,
  });
}

/** A JSON array is run as it is, everything else by the shell. */
function commandOf(rest: string): readonly string[] {
  return jsonList(rest) ?? ["/bin/sh", "-c", rest];
}

function jsonList(text: string): readonly string[] | undefined {
  if (!text.startsWith("[")) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined;
  } catch {
    // As in Docker: what is no JSON is a command for the shell, or words.
    return undefined;
  }
}

/** `NAME=VALUE NAME=VALUE`, or the old `NAME VALUE`. */
function pairsOf(rest: string, env: ReadonlyMap<string, string>): readonly (readonly [string, string])[] {
  const words = splitWords(rest);
  if (words[0]?.includes("=") !== true) {
    const [, name = "", value] = /^(\S+)\s+(.*)$/s.exec(rest) ?? [];
    if (value === undefined) throw new Error("a name and a value are needed");
    return [[processWord(name, env), processWord(value, env)]];
  }
  return words.map((word) => {
    const equals = word.indexOf("=");
    if (equals === -1) throw new Error(`${JSON.stringify(word.slice(0, 40))} is not NAME=VALUE`);
    const name = processWord(word.slice(0, equals), env);
    if (name === "") throw new Error("a name is empty");
    return [name, processWord(word.slice(equals + 1), env)];
  });
}

function portsOf(text: string): readonly string[] {
  const [, ports = "", protocol = "tcp"] = /^([^/]*)(?:\/(tcp|udp|sctp))?$/i.exec(text) ?? [];
  const range = parsePortRange(ports);
  if (range === undefined) throw new Error(`${JSON.stringify(text)} is not a port`);
  return portsIn(range).map((port) => `${port}/${protocol.toLowerCase()}`);
}

function healthcheckOf(rest: string): unknown {
  if (rest.toUpperCase() === "NONE") return { Test: ["NONE"] };
  const [, flags = "", kind, command = ""] = /^((?:--\S+\s+)*)(\S+)\s*(.*)$/s.exec(rest) ?? [];
  if (kind?.toUpperCase() !== "CMD" || command === "")
    throw new Error("write NONE, or flags and CMD COMMAND");
  const list = jsonList(command);
  return Object.assign(
    { Test: list === undefined ? ["CMD-SHELL", command] : ["CMD", ...list] },
    ...splitWords(flags).map(healthFlag),
  );
}

const HEALTH_DURATIONS: Readonly<Record<string, string>> = {
  interval: "Interval",
  timeout: "Timeout",
  "start-period": "StartPeriod",
  "start-interval": "StartInterval",
};

function healthFlag(text: string): Readonly<Record<string, number>> {
  const [, name = "", value = ""] = /^--([a-z-]+)=(.+)$/.exec(text) ?? [];
  if (name === "retries" && /^\d{1,6}$/.test(value)) return { Retries: Number(value) };
  const field = Object.hasOwn(HEALTH_DURATIONS, name) ? HEALTH_DURATIONS[name] : undefined;
  const ns = nanoseconds(value);
  if (field === undefined || ns === undefined)
    throw new Error(`${JSON.stringify(text)} is not a flag of HEALTHCHECK`);
  return { [field]: ns };
}

const UNIT_NS: Readonly<Record<string, number>> = { ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** A Go duration such as `1m30s`; undefined when it is none. */
function nanoseconds(text: string): number | undefined {
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    total += Number(number) * (UNIT_NS[unit] ?? Number.NaN);
  }
  return Math.round(total);
}

/** Go's sets are maps of empty objects. */
function setOf(names: readonly string[]): Readonly<Record<string, object>> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}

function mapOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

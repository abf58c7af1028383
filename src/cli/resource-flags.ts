import { isIP } from "node:net";
import { FirectlError } from "../core/errors.ts";
import { MIB, parseSize } from "../core/units.ts";
import type { ChangeableLimits, ResourceOptions, Ulimit } from "../manager/resources.ts";
import type { CommandInput, Flags } from "./command.ts";
import { type KeyValue, parseKeyValue } from "./key-values.ts";
import { parseText, sizeOfAtLeast } from "./values.ts";

/** A guest kernel has no room to unpack its initramfs in less. */
const MIN_MEMORY = 64 * MIB;

const LIMITS = "Limits";
const PRIVILEGES = "Privileges";
const NAMES = "Names";

/** Flags of sizes that `update` has too, with the defaults of `run`. */
const SIZE_FLAGS = {
  cpus: {
    kind: "value",
    placeholder: "N",
    parse: parseCpus,
    summary: "Processors, up to 32; of 1.5 the second is had half (default 1)",
    group: LIMITS,
  },
  memory: {
    kind: "value",
    short: "m",
    placeholder: "SIZE",
    parse: sizeOfAtLeast(MIN_MEMORY),
    summary: "Memory of the VM, for example 2g (default 512m)",
    group: LIMITS,
  },
  "memory-swap": {
    kind: "value",
    placeholder: "SIZE",
    parse: parseSwap,
    summary: "Memory and swap together, the swap on the VM's disk (default: no swap)",
    group: LIMITS,
  },
  "pids-limit": {
    kind: "value",
    placeholder: "N",
    parse: parsePidsLimit,
    summary: "Processes and threads (default -1: half of what the guest can manage)",
    group: LIMITS,
  },
  "disk-bps": {
    kind: "value",
    placeholder: "SIZE",
    parse: parseSize,
    summary: "Bytes a second of each of its disks, read and written; 0 is no limit",
    group: LIMITS,
  },
  "disk-iops": {
    kind: "value",
    placeholder: "N",
    parse: parseCount,
    summary: "Reads and writes a second of each of its disks; 0 is no limit",
    group: LIMITS,
  },
  "network-bps": {
    kind: "value",
    placeholder: "SIZE",
    parse: parseSize,
    summary: "Bytes a second that it sends, and that it receives; 0 is no limit",
    group: LIMITS,
  },
  "network-pps": {
    kind: "value",
    placeholder: "N",
    parse: parseCount,
    summary: "Packets a second that it sends, and that it receives; 0 is no limit",
    group: LIMITS,
  },
} as const satisfies Flags;

/** The same for `update`, which leaves alone what is not given: it has no defaults. */
export const UPDATE_FLAGS = {
  ...SIZE_FLAGS,
  cpus: { ...SIZE_FLAGS.cpus, summary: "Processors, up to 32; of 1.5 the second is had half" },
  memory: { ...SIZE_FLAGS.memory, summary: "Memory of the VM, for example 2g" },
  "memory-swap": {
    ...SIZE_FLAGS["memory-swap"],
    summary: "Memory and swap together, the swap on the VM's disk",
  },
  "pids-limit": {
    ...SIZE_FLAGS["pids-limit"],
    summary: "Processes and threads; -1 is half of what the guest can manage",
  },
} as const satisfies Flags;

/** Flags of `run` about limits, privileges and names. */
export const RESOURCE_FLAGS = {
  ...SIZE_FLAGS,
  ulimit: {
    kind: "list",
    placeholder: "NAME=SOFT[:HARD]",
    parse: parseUlimit,
    summary: "Limit of a process, for example nofile=1024:2048; -1 is none",
    group: LIMITS,
  },
  "oom-score-adj": {
    kind: "value",
    placeholder: "N",
    parse: parseOomScore,
    summary: "How early it is killed when memory runs out, -1000 to 1000",
    group: LIMITS,
  },
  sysctl: {
    kind: "list",
    placeholder: "NAME=VALUE",
    parse: parseSysctl,
    summary: "Setting of the VM's kernel",
    group: LIMITS,
  },
  "cap-add": {
    kind: "list",
    placeholder: "NAME",
    parse: parseText,
    summary: "Capability beyond docker's default set, or ALL",
    group: PRIVILEGES,
  },
  "cap-drop": {
    kind: "list",
    placeholder: "NAME",
    parse: parseText,
    summary: "Capability of docker's default set to do without, or ALL",
    group: PRIVILEGES,
  },
  privileged: {
    kind: "boolean",
    summary: "All capabilities and devices of the VM, nothing masked",
    group: PRIVILEGES,
  },
  "security-opt": {
    kind: "list",
    placeholder: "OPTION",
    parse: parseSecurityOption,
    summary: "no-new-privileges, or systempaths=unconfined",
    group: PRIVILEGES,
  },
  "group-add": {
    kind: "list",
    placeholder: "GROUP",
    parse: parseText,
    summary: "Further group of the process, by name or number",
    group: PRIVILEGES,
  },
  domainname: {
    kind: "value",
    placeholder: "NAME",
    parse: parseDomain,
    summary: "Domain of the host name",
    group: NAMES,
  },
  "add-host": {
    kind: "list",
    placeholder: "HOST:IP",
    parse: parseHost,
    summary: "Line of /etc/hosts",
    group: NAMES,
  },
  dns: {
    kind: "list",
    placeholder: "IP",
    parse: parseServer,
    summary: "Name server in /etc/resolv.conf",
    group: NAMES,
  },
  "dns-search": {
    kind: "list",
    placeholder: "DOMAIN",
    parse: parseWord,
    summary: "Domain to search; . is none",
    group: NAMES,
  },
  "dns-option": {
    kind: "list",
    placeholder: "OPTION",
    parse: parseWord,
    summary: "Option of the resolver",
    group: NAMES,
  },
} as const satisfies Flags;

/** What the flags say, for the library; nothing when none was given. */
export function resourcesFrom(flags: CommandInput<typeof RESOURCE_FLAGS>["flags"]): {
  readonly resources?: ResourceOptions;
} {
  const security = new Map(flags["security-opt"].map((option) => [option.name, option.on]));
  const resources: ResourceOptions = {
    ...sizesFrom(flags),
    ...(flags.privileged ? { privileged: true } : {}),
    ...(security.get("no-new-privileges") === true ? { noNewPrivileges: true } : {}),
    ...(security.get("systempaths") === true ? { unmasked: true } : {}),
    ...given("ulimits", Object.fromEntries(flags.ulimit.map(({ name, limit }) => [name, limit]))),
    ...given("sysctls", Object.fromEntries(flags.sysctl.map(({ key, value }) => [key, value ?? ""]))),
    ...given("capAdd", flags["cap-add"]),
    ...given("capDrop", flags["cap-drop"]),
    ...given("groupAdd", flags["group-add"]),
    ...given("extraHosts", flags["add-host"]),
    ...given("dns", flags.dns),
    // As in docker, a dot is none, not even the host's.
    ...(flags["dns-search"].length === 0
      ? {}
      : { dnsSearch: flags["dns-search"].filter((domain) => domain !== ".") }),
    ...given("dnsOptions", flags["dns-option"]),
    ...(flags["oom-score-adj"] === undefined ? {} : { oomScoreAdj: flags["oom-score-adj"] }),
    ...(flags.domainname === undefined ? {} : { domainname: flags.domainname }),
  };
  return Object.keys(resources).length === 0 ? {} : { resources };
}

function given<Key extends string, Value extends object>(
  key: Key,
  value: Value,
): { readonly [K in Key]?: Value } {
  // The computed key is `key` itself, which TypeScript widens to any string.
  return Object.keys(value).length === 0 ? {} : ({ [key]: value } as { readonly [K in Key]?: Value });
}

/** The limits that `run` and `update` share, without processors and memory. */
export function sizesFrom(flags: CommandInput<typeof SIZE_FLAGS>["flags"]): ChangeableLimits {
  const memorySwapBytes = flags["memory-swap"];
  const pidsLimit = flags["pids-limit"];
  const diskBytesPerSecond = flags["disk-bps"];
  const diskOperationsPerSecond = flags["disk-iops"];
  const networkBytesPerSecond = flags["network-bps"];
  const networkPacketsPerSecond = flags["network-pps"];
  return {
    ...(memorySwapBytes === undefined ? {} : { memorySwapBytes }),
    ...(pidsLimit === undefined ? {} : { pidsLimit }),
    ...(diskBytesPerSecond === undefined ? {} : { diskBytesPerSecond }),
    ...(diskOperationsPerSecond === undefined ? {} : { diskOperationsPerSecond }),
    ...(networkBytesPerSecond === undefined ? {} : { networkBytesPerSecond }),
    ...(networkPacketsPerSecond === undefined ? {} : { networkPacketsPerSecond }),
  };
}

function invalid(flag: string, text: string, expected: string, hint?: string): FirectlError {
  return new FirectlError(
    "INVALID_ARGUMENT",
    `${flag}: "${text}" is not ${expected}`,
    hint === undefined ? {} : { hint },
  );
}

function parseCpus(text: string, flag: string): number {
  const cpus = /^\d{1,2}(\.\d{1,9})?$|^\.\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (cpus >= 0.01 && cpus <= 32) return cpus;
  throw invalid(flag, text, "a number of processors from 0.01 to 32");
}

function parseSwap(text: string, flag: string): number {
  if (text === "-1") {
    throw invalid(
      flag,
      text,
      "an amount of swap: a VM's swap is a file on its own disk",
      "name memory and swap together, for example -m 512m --memory-swap 1g",
    );
  }
  return parseSize(text, flag);
}

function parsePidsLimit(text: string, flag: string): number {
  if (text === "-1" || (/^\d{1,7}$/.test(text) && Number(text) <= 4_194_304)) return Number(text);
  throw invalid(flag, text, "a whole number up to 4194304, or -1 for no limit");
}

function parseCount(text: string, flag: string): number {
  if (/^\d{1,12}$/.test(text)) return Number(text);
  throw invalid(flag, text, "a whole number");
}

function parseOomScore(text: string, flag: string): number {
  const score = /^-?\d{1,4}$/.test(text) ? Number(text) : Number.NaN;
  if (score >= -1000 && score <= 1000) return score;
  throw invalid(flag, text, "a whole number from -1000 to 1000");
}

/** https://github.com/docker/go-units/blob/master/ulimit.go */
function parseUlimit(text: string, flag: string): { readonly name: string; readonly limit: Ulimit } {
  const [, name = "", soft = "", hard = soft] = /^([a-z]+)=(-?\d{1,15})(?::(-?\d{1,15}))?$/.exec(text) ?? [];
  const limit = { soft: Number(soft), hard: Number(hard) };
  if (name !== "" && limit.soft >= -1 && limit.hard >= -1) return { name, limit };
  throw invalid(flag, text, "a limit", "write NAME=SOFT or NAME=SOFT:HARD, for example nofile=1024:2048");
}

function parseSysctl(text: string, flag: string): KeyValue {
  const setting = parseKeyValue(text, flag);
  if (setting.value !== undefined) return setting;
  throw invalid(flag, text, "a setting", `write ${flag} net.core.somaxconn=1024`);
}

interface SecurityOption {
  readonly name: "no-new-privileges" | "systempaths" | "already";
  readonly on: boolean;
}

/** Docker's options that are about the host's kernel have no meaning for a machine of one's own. */
function parseSecurityOption(text: string, flag: string): SecurityOption {
  const [name = "", value = ""] = text.split(/[=:](.*)/s);
  if (name === "no-new-privileges" && /^(true|false|)$/.test(value)) return { name, on: value !== "false" };
  if (name === "systempaths" && value === "unconfined") return { name, on: true };
  // There is no such confinement in a VM: whoever asks for none has it.
  if (/^(seccomp|apparmor)=unconfined$|^label[=:]disable$/.test(text)) return { name: "already", on: true };
  throw new FirectlError("UNSUPPORTED", `${flag} ${text} is not supported`, {
    hint: /^(seccomp|apparmor|label|writable-cgroups)\b/.test(text)
      ? "profiles protect a kernel that containers share; a VM has its own, and Firecracker's seccomp filter protects the host's"
      : "firectl knows no-new-privileges and systempaths=unconfined",
  });
}

function parseDomain(text: string, flag: string): string {
  if (/^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?$/.test(text)) return text;
  throw invalid(flag, text, "a domain", "use letters, digits, '-' and '.', at most 63");
}

function parseHost(text: string, flag: string): { readonly name: string; readonly address: string } {
  const [, name = "", written = ""] = /^([^\s:=]+)[:=](.+)$/.exec(text) ?? [];
  const address = written.replace(/^\[(.*)\]$/, "$1");
  if (name !== "" && isIP(address) !== 0) return { name, address };
  if (address === "host-gateway") {
    throw new FirectlError("UNSUPPORTED", `${flag} ${text} is not supported`, {
      hint: "nothing in a VM leads to the host: give it an address of the host's on the network",
    });
  }
  throw invalid(flag, text, "a host and its address", `write ${flag} db:10.0.0.7`);
}

function parseServer(text: string, flag: string): string {
  if (isIP(text) !== 0) return text;
  throw invalid(flag, text, "an IP address", `write an address, not a name: ${flag} 10.0.0.1`);
}

function parseWord(text: string, flag: string): string {
  if (/^[\x21-\x7e]+$/.test(text)) return text;
  throw invalid(flag, text, "one word");
}

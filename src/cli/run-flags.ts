import { FirectlError } from "../core/errors.ts";
import { MIB } from "../core/units.ts";
import type { Flags } from "./command.ts";
import { IMAGE_FLAGS } from "./image-flags.ts";
import { parseKeyValue } from "./key-values.ts";
import { MOUNT_FLAGS } from "./mount-flags.ts";
import { NETWORK_FLAGS } from "./network-flags.ts";
import { RESOURCE_FLAGS } from "./resource-flags.ts";
import { SESSION_FLAGS } from "./session-flags.ts";
import {
  choice,
  parseGuestPath,
  parseHostname,
  parseName,
  parseSignal,
  parseText,
  parseUser,
  parseWait,
  sizeOfAtLeast,
  wholeNumber,
} from "./values.ts";

/** Less is no file system. */
const MIN_DISK = 16 * MIB;

function parseKernelArguments(text: string, flag: string): readonly string[] {
  if (!/^[\x20-\x7e]+$/.test(text)) {
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `${flag}: "${text}" is not text of printable ASCII characters`,
    );
  }
  return text.split(" ").filter((argument) => argument !== "");
}

const PROCESS = "Process";
const HEALTH = "Health";
const MACHINE = "Machine";
const IMAGE = "Image";

/** The flags of `run`, for the parser, the help and the handler's types. */
export const RUN_FLAGS = {
  entrypoint: {
    kind: "value",
    placeholder: "COMMAND",
    parse: (text: string): string => text,
    summary: 'Replace the image\'s entrypoint; "" clears it',
    group: PROCESS,
  },
  env: {
    kind: "list",
    short: "e",
    placeholder: "KEY[=VALUE]",
    parse: parseKeyValue,
    summary: "Set a variable; without value, take it from this environment",
    group: PROCESS,
  },
  "env-file": {
    kind: "list",
    placeholder: "FILE",
    parse: parseText,
    summary: "Set the variables in a file",
    group: PROCESS,
  },
  user: {
    kind: "value",
    short: "u",
    placeholder: "USER[:GROUP]",
    parse: parseUser,
    summary: "User to run as, by name or number",
    group: PROCESS,
  },
  workdir: {
    kind: "value",
    short: "w",
    placeholder: "DIR",
    parse: parseGuestPath,
    summary: "Working directory",
    group: PROCESS,
  },
  ...SESSION_FLAGS,
  init: {
    kind: "boolean",
    summary: "Run it under an init that passes signals on and reaps orphans",
    group: PROCESS,
  },
  "read-only": {
    kind: "boolean",
    summary: "Make the root filesystem read-only for the process",
    group: PROCESS,
  },
  "stop-signal": {
    kind: "value",
    placeholder: "SIGNAL",
    parse: parseSignal,
    summary: "Signal that asks it to stop (default: the image's, or SIGTERM)",
    group: PROCESS,
  },
  "stop-timeout": {
    kind: "value",
    placeholder: "SECONDS",
    parse: parseWait,
    summary: "How long stop waits before killing (default 10)",
    group: PROCESS,
  },
  "health-cmd": {
    kind: "value",
    placeholder: "COMMAND",
    parse: parseText,
    summary: "Shell command that tells whether the process is well, by its exit status",
    group: HEALTH,
  },
  "health-interval": {
    kind: "value",
    placeholder: "TIME",
    parse: parseWait,
    summary: "Time between two checks (default: the image's, or 30s)",
    group: HEALTH,
  },
  "health-timeout": {
    kind: "value",
    placeholder: "TIME",
    parse: parseWait,
    summary: "How long a check may take (default: the image's, or 30s)",
    group: HEALTH,
  },
  "health-retries": {
    kind: "value",
    placeholder: "N",
    parse: wholeNumber(0, 1_000_000),
    summary: "Failures in a row that mean unhealthy (default: the image's, or 3)",
    group: HEALTH,
  },
  "health-start-period": {
    kind: "value",
    placeholder: "TIME",
    parse: parseWait,
    summary: "How long failures do not count at first (default: the image's, or 0s)",
    group: HEALTH,
  },
  "health-start-interval": {
    kind: "value",
    placeholder: "TIME",
    parse: parseWait,
    summary: "Time between two checks in that period (default: the image's, or 5s)",
    group: HEALTH,
  },
  "no-healthcheck": { kind: "boolean", summary: "Leave out the image's health check", group: HEALTH },
  "log-size": {
    kind: "value",
    placeholder: "SIZE",
    parse: sizeOfAtLeast(MIB),
    summary: "How much of its output is kept for logs, the newest (default 16m)",
    group: PROCESS,
  },
  "disk-size": {
    kind: "value",
    placeholder: "SIZE",
    parse: sizeOfAtLeast(MIN_DISK),
    summary: "Size of the writable disk, which takes only what is written (default 10g)",
    group: MACHINE,
  },
  ...RESOURCE_FLAGS,
  storage: {
    kind: "value",
    placeholder: "overlay|copy",
    parse: choice("overlay", "copy"),
    summary: "Writable layer over the shared image (default), or a copy of it",
    group: MACHINE,
  },
  "image-device": {
    kind: "value",
    placeholder: "KIND",
    parse: choice("auto", "block", "pmem"),
    summary: "The image as a disk (block), as memory all its VMs share (pmem), or auto",
    group: MACHINE,
  },
  "boot-snapshot": {
    kind: "value",
    placeholder: "auto|never",
    parse: choice("auto", "never"),
    summary: "Skip the boot by a snapshot of an earlier one (default auto), or never",
    group: MACHINE,
  },
  hostname: {
    kind: "value",
    short: "h",
    placeholder: "NAME",
    parse: parseHostname,
    summary: "Host name inside the VM",
    group: MACHINE,
  },
  vmm: {
    kind: "value",
    placeholder: "auto|firecracker|qemu",
    parse: choice("auto", "firecracker", "qemu"),
    summary: "Virtual machine monitor (default auto: Firecracker if it works)",
    group: MACHINE,
  },
  kernel: {
    kind: "value",
    placeholder: "NAME|FILE",
    parse: parseText,
    summary: "Guest kernel: an installed one, or an image file with a / in its path",
    group: MACHINE,
  },
  "kernel-args": {
    kind: "list",
    placeholder: "ARGS",
    parse: parseKernelArguments,
    summary: "Add to the kernel's command line",
    group: MACHINE,
  },
  config: {
    kind: "value",
    placeholder: "FILE",
    parse: parseText,
    summary: "Start a Firecracker configuration (vm.json) instead of an image",
    group: MACHINE,
  },
  pull: {
    kind: "value",
    placeholder: "always|missing|never",
    parse: choice("always", "missing", "never"),
    summary: "When to fetch the image (default missing)",
    group: IMAGE,
  },
  ...IMAGE_FLAGS,
  ...MOUNT_FLAGS,
  ...NETWORK_FLAGS,
  detach: { kind: "boolean", short: "d", summary: "Print the id and return once the process has started" },
  wait: { kind: "boolean", summary: "With -d: return once the process is healthy, fail if it will not be" },
  name: { kind: "value", placeholder: "NAME", parse: parseName, summary: "Name of the VM" },
  rm: { kind: "boolean", summary: "Remove everything of the VM when its process has ended" },
  label: {
    kind: "list",
    short: "l",
    placeholder: "KEY=VALUE",
    parse: parseKeyValue,
    summary: "Label the VM",
  },
  "label-file": { kind: "list", placeholder: "FILE", parse: parseText, summary: "Label it from a file" },
  cidfile: {
    kind: "value",
    placeholder: "FILE",
    parse: parseText,
    summary: "Write the VM's id to a new file",
  },
  quiet: { kind: "boolean", short: "q", summary: "Show no progress" },
  timing: { kind: "boolean", summary: "Print where the time went" },
} as const satisfies Flags;

/** Flags of `run` that say something about the VM's record, and so go with `--config` too. */
export const FLAGS_BESIDE_CONFIG: ReadonlySet<string> = new Set<keyof typeof RUN_FLAGS | "json">([
  "config",
  "detach",
  "name",
  "rm",
  "label",
  "label-file",
  "cidfile",
  "quiet",
  "timing",
  "vmm",
  "json",
]);

import path from "node:path";
import { FirectlError } from "../core/errors.ts";
import { parseSize } from "../core/units.ts";
import type { MountOptions, RunOptions } from "../manager/api.ts";
import type { Flags } from "./command.ts";
import { MountFields, readCsv } from "./mount-fields.ts";
import { sizeOfAtLeast } from "./values.ts";

/** What docker's modes mean here. */
const MODES: Readonly<Record<string, "ro" | "rw" | "nocopy" | "live" | "ignored">> = {
  ro: "ro",
  rw: "rw",
  nocopy: "nocopy",
  // Ours: a read-only path of the host is a copy unless it is to be live.
  live: "live",
  // Labels of SELinux and hints to Docker Desktop: the guest has neither.
  z: "ignored",
  Z: "ignored",
  cached: "ignored",
  consistent: "ignored",
  delegated: "ignored",
  private: "ignored",
  rprivate: "ignored",
};
/** Mounts that are made later on one side and show on the other: two kernels have no common ones. */
const SHARED_MODES: ReadonlySet<string> = new Set(["shared", "rshared", "slave", "rslave"]);

function invalid(flag: string, message: string, hint?: string): FirectlError {
  return new FirectlError("INVALID_ARGUMENT", `${flag}: ${message}`, hint === undefined ? {} : { hint });
}

/** `./dir` and the like, as docker's command line takes them; a name stays one. */
function hostPath(text: string): string {
  return /^\.{1,2}(\/|$)/.test(text) ? path.resolve(text) : text;
}

/**
 * Reads `-v [SOURCE:]TARGET[:MODE]`.
 * https://github.com/moby/moby/blob/master/volume/mounts/linux_parser.go
 */
export function parseVolumeFlag(text: string, flag: string): MountOptions {
  const parts = text.split(":");
  const [first = "", second = "", mode] = parts;
  const isWrong = parts.length > 3 || parts.includes("") || (parts.length === 2 && isMode(second));
  if (isWrong) {
    throw invalid(
      flag,
      `invalid volume specification: '${text}'`,
      "write NAME:/path, /path, or /host/path:/path, each with :ro for reading only; --mount takes paths with colons",
    );
  }
  const { readOnly, copy, live } = readModes(mode, flag);
  if (parts.length === 1) return { type: "volume", destination: first };
  const source = hostPath(first);
  if (path.isAbsolute(source)) {
    return { type: "bind", source, destination: second, readOnly, ...(live ? { live } : {}) };
  }
  if (live) throw invalid(flag, "live is for paths of the host: a volume has no other side");
  return { type: "volume", name: source, destination: second, readOnly, copy };
}

function isMode(text: string): boolean {
  return text.split(",").every((word) => Object.hasOwn(MODES, word) || SHARED_MODES.has(word));
}

function readModes(
  text: string | undefined,
  flag: string,
): { readOnly: boolean; copy: boolean; live: boolean } {
  const words = text === undefined ? [] : text.split(",");
  const meanings = words.map((word) => {
    if (SHARED_MODES.has(word)) {
      throw new FirectlError(
        "UNSUPPORTED",
        `${flag}: the mode "${word}" needs a kernel that host and guest share`,
      );
    }
    const meaning = Object.hasOwn(MODES, word) ? MODES[word] : undefined;
    if (meaning === undefined) throw invalid(flag, `invalid mode: ${word}`, "write ro, rw, live or nocopy");
    return meaning;
  });
  if (meanings.includes("ro") && meanings.includes("rw")) throw invalid(flag, `invalid mode: ${text}`);
  return {
    readOnly: meanings.includes("ro"),
    copy: !meanings.includes("nocopy"),
    live: meanings.includes("live"),
  };
}

/** Reads `--mount type=…,src=…,dst=…`, one line of CSV as in docker. */
export function parseMountFlag(text: string, flag: string): MountOptions {
  const fields = new MountFields(readCsv(text, flag), flag);
  const destination = fields.destination();
  const readOnly = fields.readOnly();
  const { type } = fields;
  switch (type) {
    case "volume": {
      const volume = fields.volume();
      const name = fields.source;
      return { type, destination, readOnly, ...(name === undefined ? {} : { name }), ...volume };
    }
    case "bind": {
      if (fields.source === undefined) throw invalid(flag, "a bind mount needs a source: src=/host/path");
      return { type, source: hostPath(fields.source), destination, readOnly, ...fields.bind() };
    }
    case "tmpfs":
      if (fields.source !== undefined) throw invalid(flag, "a tmpfs has no source");
      return { type, destination, readOnly, options: fields.tmpfs() };
    default:
      throw invalid(flag, `the mount type "${type}" is not volume, bind or tmpfs`);
  }
}

/** Reads `--tmpfs PATH[:OPTIONS]`. */
export function parseTmpfsFlag(text: string, _flag: string): MountOptions {
  const colon = text.indexOf(":");
  const destination = colon < 0 ? text : text.slice(0, colon);
  const options = colon < 0 ? "" : text.slice(colon + 1);
  return { type: "tmpfs", destination, options: options === "" ? [] : options.split(",") };
}

/** Reads `--volumes-from VM[:ro|rw]`. */
export function parseVolumesFrom(text: string, flag: string): { vm: string; readOnly: boolean } {
  const [vm = "", mode = "rw", ...rest] = text.split(":");
  if (vm === "" || rest.length > 0) throw invalid(flag, `"${text}" is not VM[:ro|rw]`);
  return { vm, readOnly: readModes(mode, flag).readOnly };
}

/** Reads `size=BYTES` of `-o` and `volume-opt`. */
export function parseVolumeOption(
  text: string,
  flag: string,
): { key: string; value: string; sizeBytes: number } {
  const size = /^size=(.+)$/.exec(text)?.[1];
  if (size === undefined) {
    throw new FirectlError("UNSUPPORTED", `${flag}: the option "${text}" is not supported`, {
      hint: "size=SIZE is, for example size=20g",
    });
  }
  return { key: "size", value: size, sizeBytes: parseSize(size, flag) };
}

const STORAGE = "Storage";

/** The flags of `run` that say what is mounted. */
export const MOUNT_FLAGS = {
  volume: {
    kind: "list",
    short: "v",
    placeholder: "[SRC:]PATH[:MODE]",
    parse: parseVolumeFlag,
    summary: "Mount a volume, or a path of the host: live, or with :ro a copy",
    group: STORAGE,
  },
  mount: {
    kind: "list",
    placeholder: "KEY=VALUE,...",
    parse: parseMountFlag,
    summary: "The same in full: type=volume|bind|tmpfs,src=,dst=,readonly,…",
    group: STORAGE,
  },
  tmpfs: {
    kind: "list",
    placeholder: "PATH[:OPTIONS]",
    parse: parseTmpfsFlag,
    summary: "Mount memory, for example /run:size=64m,mode=755",
    group: STORAGE,
  },
  "volumes-from": {
    kind: "list",
    placeholder: "VM[:ro]",
    parse: parseVolumesFrom,
    summary: "Mount what another VM, which does not run, has mounted",
    group: STORAGE,
  },
  "shm-size": {
    kind: "value",
    placeholder: "SIZE",
    parse: sizeOfAtLeast(1),
    summary: "Size of /dev/shm (default 64m)",
    group: STORAGE,
  },
} as const satisfies Flags;

/** The options of `run` that the flags make. */
export function mountOptionsFrom(flags: {
  readonly volume: readonly MountOptions[];
  readonly mount: readonly MountOptions[];
  readonly tmpfs: readonly MountOptions[];
  readonly "volumes-from": readonly { readonly vm: string; readonly readOnly: boolean }[];
  readonly "shm-size": number | undefined;
}): Pick<RunOptions, "mounts" | "volumesFrom" | "shmBytes"> {
  const shmBytes = flags["shm-size"];
  const mounts = [...flags.volume, ...flags.mount, ...flags.tmpfs];
  const volumesFrom = flags["volumes-from"];
  return {
    ...(mounts.length === 0 ? {} : { mounts }),
    ...(volumesFrom.length === 0 ? {} : { volumesFrom }),
    ...(shmBytes === undefined ? {} : { shmBytes }),
  };
}

import { FirectlError } from "../core/errors.ts";
import { parseSize } from "../core/units.ts";
import { parseBoolean } from "./values.ts";

/** Keys of `--mount` and what they mean: https://github.com/docker/cli/blob/master/opts/mount.go */
const KEYS: Readonly<Record<string, string>> = {
  type: "type",
  source: "source",
  src: "source",
  target: "target",
  dst: "target",
  destination: "target",
  readonly: "readonly",
  ro: "readonly",
  consistency: "consistency",
  "bind-propagation": "bind-propagation",
  "bind-nonrecursive": "bind-nonrecursive",
  "bind-recursive": "bind-recursive",
  // Ours, for what is live: who owns the user's files in the guest.
  live: "bind-live",
  uid: "bind-uid",
  gid: "bind-gid",
  "volume-nocopy": "volume-nocopy",
  "volume-label": "volume-label",
  "volume-driver": "volume-driver",
  "volume-opt": "volume-opt",
  "tmpfs-size": "tmpfs-size",
  "tmpfs-mode": "tmpfs-mode",
};
/** Those that may stand without a value. */
const SWITCHES: ReadonlySet<string> = new Set([
  "readonly",
  "volume-nocopy",
  "bind-nonrecursive",
  "bind-live",
]);

/** The fields of one line of CSV, as Go's encoding/csv reads it. */
export function readCsv(text: string, flag: string): readonly string[] {
  const fields: string[] = [];
  const field = /(?:"((?:[^"]|"")*)"|([^",]*))(,|$)/y;
  for (;;) {
    const match = field.exec(text);
    if (match === null) throw new FirectlError("INVALID_ARGUMENT", `${flag}: '${text}' is not a line of CSV`);
    const [, quoted, plain, end] = match;
    fields.push(quoted === undefined ? (plain ?? "") : quoted.replaceAll('""', '"'));
    if (end === "") return fields;
  }
}

/** The fields of one `--mount`, read and checked against its type. */
export class MountFields {
  readonly type: string;
  readonly source: string | undefined;
  readonly #flag: string;
  readonly #values: Map<string, readonly string[]> = new Map();

  constructor(fields: readonly string[], flag: string) {
    this.#flag = flag;
    for (const field of fields) this.#read(field);
    this.type = (this.#last("type") ?? "volume").toLowerCase();
    this.source = this.#last("source");
    for (const prefix of ["volume", "bind", "tmpfs"]) {
      const isMixed = [...this.#values.keys()].some((key) => key.startsWith(`${prefix}-`));
      if (isMixed && prefix !== this.type) {
        throw this.#invalid(`cannot mix '${prefix}-*' options with mount type '${this.type}'`);
      }
    }
  }

  destination(): string {
    const target = this.#last("target");
    if (target === undefined || target === "") throw this.#invalid("it needs a target: dst=/path");
    return target;
  }

  readOnly(): boolean {
    return this.#switch("readonly");
  }

  /** What is said of a volume. */
  volume(): { copy: boolean; labels: Record<string, string>; sizeBytes?: number } {
    const driver = this.#last("volume-driver") ?? "local";
    if (driver !== "local" && driver !== "") {
      throw new FirectlError("UNSUPPORTED", `${this.#flag}: there is no volume driver "${driver}"`, {
        hint: "volumes are ext4 disks of this host: leave volume-driver out",
      });
    }
    const labels = this.#all("volume-label").map((text) => {
      const [key = "", ...value] = text.split("=");
      return [key, value.join("=")] as const;
    });
    const size = this.#all("volume-opt").map((text) => {
      const [key, value = ""] = text.split("=", 2);
      if (key === "size") return parseSize(value, this.#flag);
      throw new FirectlError("UNSUPPORTED", `${this.#flag}: the volume option "${text}" is not supported`, {
        hint: "volume-opt=size=SIZE is",
      });
    });
    const sizeBytes = size.at(-1);
    return {
      copy: !this.#switch("volume-nocopy"),
      labels: Object.fromEntries(labels),
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
    };
  }

  /** What is said of a path of the host. */
  bind(): { live?: boolean; owner?: { uid: number; gid: number } } {
    const propagation = this.#last("bind-propagation") ?? "rprivate";
    if (!/^r?private$/.test(propagation)) {
      throw new FirectlError(
        "UNSUPPORTED",
        `${this.#flag}: the propagation "${propagation}" needs a kernel that host and guest share`,
      );
    }
    this.#switch("bind-nonrecursive");
    const uid = this.#id("bind-uid");
    const gid = this.#id("bind-gid") ?? uid;
    if (uid === undefined && gid !== undefined) throw this.#invalid("gid= needs uid= beside it");
    return {
      ...(this.#last("bind-live") === undefined ? {} : { live: this.#switch("bind-live") }),
      ...(uid === undefined || gid === undefined ? {} : { owner: { uid, gid } }),
    };
  }

  /** The largest id is the kernel's word for none. */
  #id(key: string): number | undefined {
    const text = this.#last(key);
    if (text === undefined) return undefined;
    const id = Number(text);
    if (/^\d+$/.test(text) && id < 0xffff_ffff) return id;
    throw this.#invalid(`'${text}' is not the number of a user or group`);
  }

  /** The options of a tmpfs. */
  tmpfs(): readonly string[] {
    const size = this.#last("tmpfs-size");
    const mode = this.#last("tmpfs-mode");
    if (mode !== undefined && !/^[0-7]{1,4}$/.test(mode)) {
      throw this.#invalid(`invalid value for tmpfs-mode: ${mode}`);
    }
    return [
      ...(size === undefined ? [] : [`size=${parseSize(size, `${this.#flag} tmpfs-size`)}`]),
      ...(mode === undefined ? [] : [`mode=${mode}`]),
    ];
  }

  #read(field: string): void {
    const equals = field.indexOf("=");
    const given = (equals < 0 ? field : field.slice(0, equals)).toLowerCase();
    const key = Object.hasOwn(KEYS, given) ? KEYS[given] : undefined;
    if (equals < 0 && (key === undefined || !SWITCHES.has(key))) {
      throw this.#invalid(`invalid field '${field}' must be a key=value pair`);
    }
    if (key === undefined) throw this.#invalid(`unexpected key '${given}' in '${field}'`);
    const value = equals < 0 ? "true" : field.slice(equals + 1);
    this.#values.set(key, [...(this.#values.get(key) ?? []), value]);
  }

  #all(key: string): readonly string[] {
    return this.#values.get(key) ?? [];
  }

  #last(key: string): string | undefined {
    return this.#all(key).at(-1);
  }

  #switch(key: string): boolean {
    const text = this.#last(key);
    return text === undefined ? false : parseBoolean(text, `${this.#flag} ${key}`);
  }

  #invalid(message: string): FirectlError {
    return new FirectlError("INVALID_ARGUMENT", `${this.#flag}: ${message}`);
  }
}

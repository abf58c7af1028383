import { FirectlError } from "../../core/errors.ts";
import type { MountRecord } from "../../state/mount-record.ts";

/** Docker's for every tmpfs; what the user gives comes after them. */
const DEFAULTS = ["noexec", "nosuid", "nodev"] as const;

/** https://github.com/moby/sys/blob/main/mount/flags_linux.go */
const FLAGS: ReadonlySet<string> = new Set([
  ...["defaults", "ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync"],
  ...["atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime"],
]);
/** Docker takes them, and in a guest of one's own they mean nothing. */
const IGNORED: ReadonlySet<string> = new Set(
  ["private", "shared", "slave", "unbindable"].flatMap((word) => [word, `r${word}`]),
);
const VALUES: ReadonlySet<string> = new Set(["mode", "uid", "gid", "size", "nr_inodes", "nr_blocks", "mpol"]);

/**
 * The options of a tmpfs, Docker's defaults first.
 * @throws FirectlError INVALID_ARGUMENT for one that Docker would not take.
 */
export function tmpfsOptions(given: readonly string[]): string[] {
  for (const option of given) {
    const [name = "", value] = option.split("=", 2);
    const isKnown =
      value === undefined ? FLAGS.has(name) || IGNORED.has(name) : VALUES.has(name) && value !== "";
    if (isKnown && /^[!-~]+$/.test(option)) continue;
    throw new FirectlError("INVALID_ARGUMENT", `${JSON.stringify(option)} is no option of a tmpfs`, {
      hint: "for example --tmpfs /run:size=64m,mode=755,exec",
    });
  }
  return [...DEFAULTS, ...given.filter((option) => !IGNORED.has(option))];
}

/** What `--shm-size` puts at /dev/shm instead of 64 MiB. */
export function sharedMemory(bytes: number): MountRecord {
  return {
    type: "tmpfs",
    destination: "/dev/shm",
    readOnly: false,
    options: ["nosuid", "nodev", "noexec", "mode=1777", `size=${bytes}`],
  };
}

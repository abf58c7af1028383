import { FirectlError } from "../core/errors.ts";

/** All of Linux's, https://man7.org/linux/man-pages/man7/capabilities.7.html */
export const CAPABILITIES: ReadonlySet<string> = new Set(
  [
    ...["AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN"],
    ...["DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE"],
    ...["LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE"],
    ...["NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG"],
    ...["SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE"],
    ...["SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"],
  ].map((name) => `CAP_${name}`),
);

/** Docker's default set, which agent/src/capabilities.rs has when it is told nothing. */
const DEFAULT = [
  ...["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"],
  ...["CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"],
  "CAP_AUDIT_WRITE",
];

/**
 * The set by docker's rules: https://github.com/moby/moby/blob/master/daemon/pkg/oci/caps/utils.go. Both absent: the
 * default.
 * @throws FirectlError INVALID_ARGUMENT naming a capability that there is not.
 */
export function capabilitiesOf(options: {
  readonly capAdd?: readonly string[];
  readonly capDrop?: readonly string[];
  readonly privileged?: boolean;
}): { readonly capabilities: string[] | undefined; readonly allCapabilities: boolean } {
  const added = normalize("--cap-add", options.capAdd ?? []);
  const dropped = normalize("--cap-drop", options.capDrop ?? []);
  // What the guest's kernel knows may be more than we do.
  if (options.privileged === true) return { capabilities: undefined, allCapabilities: true };
  if (added.includes("ALL")) {
    if (dropped.length === 0) return { capabilities: undefined, allCapabilities: true };
    const kept = [...CAPABILITIES].filter((name) => !dropped.includes(name));
    return { capabilities: kept, allCapabilities: false };
  }
  if (added.length === 0 && dropped.length === 0) return { capabilities: undefined, allCapabilities: false };
  const kept = dropped.includes("ALL") ? [] : DEFAULT.filter((name) => !dropped.includes(name));
  return { capabilities: [...new Set([...kept, ...added])], allCapabilities: false };
}

function normalize(flag: string, names: readonly string[]): string[] {
  return names.map((name) => {
    const upper = name.toUpperCase();
    if (upper === "ALL") return upper;
    const full = upper.startsWith("CAP_") ? upper : `CAP_${upper}`;
    if (CAPABILITIES.has(full)) return full;
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: unknown capability to ${flag.slice(6)}: "${name}"`, {
      hint: "the names are those of capabilities(7), with or without CAP_, or ALL",
    });
  });
}

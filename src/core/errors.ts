/** What kind of failure a code names; the command line turns it into an exit status. */
export type ErrorKind =
  | "bug"
  | "usage"
  | "not-found"
  | "conflict"
  | "host"
  | "image"
  | "vm"
  | "timeout"
  | "interrupted";

/** Every failure that a user can meet, with its kind. A code is stable: scripts match on it. */
export const ERROR_CODES = {
  INVALID_ARGUMENT: "usage",
  INVALID_REFERENCE: "usage",
  INVALID_CONFIGURATION: "usage",
  UNSUPPORTED: "usage",

  VM_NOT_FOUND: "not-found",
  IMAGE_NOT_FOUND: "not-found",
  KERNEL_NOT_FOUND: "not-found",
  VOLUME_NOT_FOUND: "not-found",
  FILE_NOT_FOUND: "not-found",

  AMBIGUOUS_NAME: "conflict",
  NAME_IN_USE: "conflict",
  VOLUME_IN_USE: "conflict",
  PORT_IN_USE: "conflict",
  WRONG_STATE: "conflict",
  STATE_CORRUPT: "conflict",
  LOCK_TIMEOUT: "timeout",

  HOST_UNSUPPORTED: "host",
  KVM_UNUSABLE: "host",
  TOOL_MISSING: "host",
  NO_SPACE: "host",
  PERMISSION_DENIED: "host",
  PROCESS_FAILED: "host",
  IO_FAILED: "host",

  REGISTRY_UNREACHABLE: "image",
  REGISTRY_REFUSED: "image",
  AUTHENTICATION_FAILED: "image",
  MANIFEST_INVALID: "image",
  ARCHIVE_INVALID: "image",
  DIGEST_MISMATCH: "image",
  LAYER_INVALID: "image",
  PLATFORM_MISSING: "image",
  DOCKER_FAILED: "image",

  VMM_FAILED: "vm",
  VMM_REFUSED: "vm",
  GUEST_FAILED: "vm",
  UNHEALTHY: "vm",
  AGENT_UNREACHABLE: "vm",
  AGENT_FAILED: "vm",
  CONTROL_DRIVE_INVALID: "vm",
  DISK_INVALID: "vm",

  TIMEOUT: "timeout",
  INTERRUPTED: "interrupted",
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_CODES;

const EXIT_STATUS = {
  bug: 1,
  usage: 2,
  "not-found": 3,
  conflict: 4,
  host: 5,
  image: 6,
  vm: 7,
  timeout: 124,
  interrupted: 130,
} as const satisfies Record<ErrorKind, number>;

/** A failure that a user can meet. Any other error that reaches the top is a bug of firectl. */
export class FirectlError extends Error {
  override readonly name = "FirectlError";
  readonly code: ErrorCode;
  /** Something to do about it, a command if there is one. */
  readonly hint: string | undefined;

  /**
   * @param message What failed, with the value; what was expected and what came instead.
   */
  constructor(code: ErrorCode, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
  }
}

/** The exit status that docs/exit-status.md gives for `error`. */
export function exitStatusOf(error: unknown): number {
  return EXIT_STATUS[error instanceof FirectlError ? ERROR_CODES[error.code] : "bug"];
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The errno name (`"ENOENT"`) of a Node system error, else undefined. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

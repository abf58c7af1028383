import type { Xattr } from "../../tar/pax.ts";

/*
 * What overlayfs notes on the files of its upper directory.
 * https://www.kernel.org/doc/html/latest/filesystems/overlayfs.html
 */

const PREFIX = "trusted.overlay.";
/** How an overlayfs within the overlay has its own notes kept (Linux 6.7 and later). */
const ESCAPED_PREFIX = "trusted.overlay.overlay.";

/** Whether an attribute is a note of overlayfs's. */
export function isOverlayNote({ name }: Xattr): boolean {
  return name.startsWith(PREFIX);
}

/** Whether the directory hides what the lower layer has at its place. */
export function isOpaque(xattrs: readonly Xattr[]): boolean {
  return find(xattrs, "opaque")?.toString("latin1") === "y";
}

/**
 * Where in the lower layer a renamed directory, or a file's data, came from: an absolute path, or another name
 * at the same place. Undefined where it was not renamed.
 */
export function redirectOf(xattrs: readonly Xattr[]): string | undefined {
  return find(xattrs, "redirect")?.toString("latin1");
}

/** Whether only a file's owner, mode and times were copied up: its data is still the lower file's. */
export function isMetacopy(xattrs: readonly Xattr[]): boolean {
  return find(xattrs, "metacopy") !== undefined;
}

/** The attributes that programs in the guest see. */
export function visibleXattrs(xattrs: readonly Xattr[]): Xattr[] {
  return xattrs.flatMap(({ name, value }) => {
    if (name.startsWith(ESCAPED_PREFIX)) {
      return [{ name: `${PREFIX}${name.slice(ESCAPED_PREFIX.length)}`, value }];
    }
    return isOverlayNote({ name, value }) ? [] : [{ name, value }];
  });
}

function find(xattrs: readonly Xattr[], name: string): Buffer | undefined {
  return xattrs.find((each) => each.name === `${PREFIX}${name}`)?.value;
}

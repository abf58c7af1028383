import type { ImageLimits } from "../manager/api.ts";
import type { Flags } from "./command.ts";
import { defined } from "./defined.ts";
import { parsePlatform, sizeOfAtLeast, wholeNumber } from "./values.ts";

const MIN_IMAGE_BYTES = 1024 * 1024;
/** Inodes of ext4 have numbers of 32 bits. */
const MAX_IMAGE_ENTRIES = 2 ** 32 - 1;

const GROUP = "Image";

/** What `run` and `pull` let say about the image. */
export const IMAGE_FLAGS = {
  platform: {
    kind: "value",
    placeholder: "OS/ARCH[/VARIANT]",
    parse: parsePlatform,
    summary: "Platform to take of an image with several",
    group: GROUP,
  },
  "max-image-size": {
    kind: "value",
    placeholder: "SIZE",
    parse: sizeOfAtLeast(MIN_IMAGE_BYTES),
    summary: "Refuse an image whose layers unpack to more (default 128g)",
    group: GROUP,
  },
  "max-image-entries": {
    kind: "value",
    placeholder: "N",
    parse: wholeNumber(1, MAX_IMAGE_ENTRIES),
    summary: "Refuse an image with more files and directories (default 2000000)",
    group: GROUP,
  },
} as const satisfies Flags;

/** The limits that the flags set. */
export function limitsFrom(flags: {
  readonly "max-image-size": number | undefined;
  readonly "max-image-entries": number | undefined;
}): { limits?: ImageLimits } {
  const limits = defined({ maxBytes: flags["max-image-size"], maxEntries: flags["max-image-entries"] });
  return Object.keys(limits).length === 0 ? {} : { limits };
}

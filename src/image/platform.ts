import { FirectlError } from "../core/errors.ts";

/** https://github.com/opencontainers/image-spec/blob/main/image-index.md#image-index-property-descriptions */
export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** Names of uname(2) and of Node, in Go's spelling, with the variant that they imply. */
const ARCHITECTURES: Readonly<Record<string, { architecture: string; variant?: string }>> = {
  x86_64: { architecture: "amd64" },
  "x86-64": { architecture: "amd64" },
  x64: { architecture: "amd64" },
  aarch64: { architecture: "arm64" },
  armhf: { architecture: "arm", variant: "v7" },
  armel: { architecture: "arm", variant: "v6" },
  i386: { architecture: "386" },
  ia32: { architecture: "386" },
};

const PART = /^[a-z0-9_.-]{1,32}$/;

/** The platform of this machine: what its microVMs can run. */
export function hostPlatform(architecture: string = process.arch): Platform {
  return normalise("linux", architecture, undefined);
}

/**
 * Reads `os/architecture[/variant]`, or an architecture alone.
 * @throws FirectlError INVALID_ARGUMENT.
 */
export function parsePlatform(text: string): Platform {
  const parts = text.toLowerCase().split("/");
  const [first, second, variant] = parts;
  if (first === undefined || parts.length > 3 || parts.some((part) => !PART.test(part))) {
    throw new FirectlError("INVALID_ARGUMENT", `${JSON.stringify(text.slice(0, 80))} is not a platform`, {
      hint: "write os/architecture or os/architecture/variant, for example linux/amd64",
    });
  }
  const platform =
    second === undefined ? normalise("linux", first, undefined) : normalise(first, second, variant);
  if (platform.os !== "linux") {
    throw new FirectlError("UNSUPPORTED", `platform ${text}: only images for linux can run in a microVM`);
  }
  return platform;
}

/** `linux/arm64/v8`, the way that {@link parsePlatform} reads it. */
export function formatPlatform(platform: Platform): string {
  const variant = platform.variant === undefined ? "" : `/${platform.variant}`;
  return `${platform.os}/${platform.architecture}${variant}`;
}

/** Spells a platform as the image specification does; arm64's only variant, v8, is left out. */
export function normalise(os: string, architecture: string, variant: string | undefined): Platform {
  const lower = architecture.toLowerCase();
  const known = Object.hasOwn(ARCHITECTURES, lower) ? ARCHITECTURES[lower] : undefined;
  const name = known?.architecture ?? lower;
  const chosen = variant === undefined || variant === "" ? known?.variant : variant.toLowerCase();
  const isDefault = chosen === undefined || (name === "arm64" && (chosen === "v8" || chosen === "8"));
  return { os: os.toLowerCase(), architecture: name, ...(isDefault ? {} : { variant: chosen }) };
}

/**
 * How well `offered` serves a wish: 0 is exact, more is worse, undefined is not at all. A wish without a
 * variant takes the plainest; a wish with one also takes an older one of it.
 */
export function platformDistance(wanted: Platform, offered: Platform): number | undefined {
  if (wanted.os !== offered.os || wanted.architecture !== offered.architecture) return undefined;
  if (wanted.variant === offered.variant) return 0;
  const offeredLevel = variantLevel(offered);
  if (wanted.variant === undefined) return offeredLevel;
  const gap = variantLevel(wanted) - offeredLevel;
  return gap > 0 ? gap : undefined;
}

/** The index of the platform in `offered` that serves `wanted` best, or undefined when none does. */
export function choosePlatform(wanted: Platform, offered: readonly Platform[]): number | undefined {
  let best: number | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const [index, platform] of offered.entries()) {
    const distance = platformDistance(wanted, platform);
    if (distance !== undefined && distance < bestDistance) {
      best = index;
      bestDistance = distance;
    }
  }
  return best;
}

/** The error that names what there is instead. */
export function platformMissing(image: string, wanted: Platform, offered: readonly Platform[]): FirectlError {
  const known = offered.filter((platform) => platform.os !== "unknown").map(formatPlatform);
  const list = known.length === 0 ? "nothing that runs" : [...new Set(known)].sort().join(", ");
  return new FirectlError(
    "PLATFORM_MISSING",
    `${image} is not there for ${formatPlatform(wanted)}: it has ${list}`,
    {
      hint: "choose another image or tag; a microVM runs only images for its host's architecture",
    },
  );
}

/** `v7` is 7; no variant counts as 1, the baseline of amd64, or 8, that of arm64. */
function variantLevel(platform: Platform): number {
  const digits = /^v?(\d{1,3})/.exec(platform.variant ?? "")?.[1];
  if (digits !== undefined) return Number(digits);
  return platform.architecture === "arm64" ? 8 : 1;
}

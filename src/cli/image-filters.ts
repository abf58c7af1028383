import { FirectlError } from "../core/errors.ts";
import type { ImageSummary } from "../manager/api.ts";
import { parseBoolean } from "./values.ts";

const KEYS = ["reference", "dangling", "before", "since", "label"] as const;
type FilterKey = (typeof KEYS)[number];

export interface ImageFilter {
  readonly key: FilterKey;
  readonly value: string;
}

/** Reads `KEY=VALUE` of `images --filter`. */
export function parseImageFilter(text: string, flag: string): ImageFilter {
  const equals = text.indexOf("=");
  const key = KEYS.find((each) => each === text.slice(0, Math.max(equals, 0)));
  const value = text.slice(equals + 1);
  if (key === undefined || value === "") {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not a filter`, {
      hint: `write KEY=VALUE with one of the keys ${KEYS.join(", ")}`,
    });
  }
  if (key === "dangling") parseBoolean(value, `${flag} dangling`);
  return { key, value };
}

/** When the images that `before` and `since` name were made, by what the filter says. */
export type Moments = ReadonlyMap<string, number>;

/** As in docker: one of the values for each key, every label. */
export function matchesImageFilters(
  image: ImageSummary,
  filters: readonly ImageFilter[],
  moments: Moments,
): boolean {
  return [...new Set(filters.map(({ key }) => key))].every((key) => {
    const values = filters.filter((filter) => filter.key === key).map(({ value }) => value);
    const matches = (value: string): boolean => matchesOne(image, { key, value }, moments);
    return key === "label" ? values.every(matches) : values.some(matches);
  });
}

function matchesOne(image: ImageSummary, { key, value }: ImageFilter, moments: Moments): boolean {
  switch (key) {
    case "reference":
      return matchesReference(image, value);
    case "dangling":
      return image.dangling === parseBoolean(value, "dangling");
    case "before":
      return createdMs(image) < (moments.get(value) ?? Number.NEGATIVE_INFINITY);
    case "since":
      return createdMs(image) > (moments.get(value) ?? Number.POSITIVE_INFINITY);
    case "label":
      return matchesLabel(image, value);
  }
}

/**
 * Whether the image's name fits a pattern as docker's `images NAME` and `--filter reference=` take it: `nginx`
 * fits all its tags, `*` stands for anything but a slash.
 */
export function matchesReference({ repository, tag, dangling }: ImageSummary, pattern: string): boolean {
  if (repository === undefined || dangling) return false;
  const expression = globExpression(pattern.replace(/^(?:docker\.io\/library\/|docker\.io\/)/, ""));
  return expression.test(repository) || (tag !== undefined && expression.test(`${repository}:${tag}`));
}

function createdMs({ createdAt }: ImageSummary): number {
  return createdAt === undefined ? 0 : Date.parse(createdAt);
}

function matchesLabel({ labels }: ImageSummary, value: string): boolean {
  const equals = value.indexOf("=");
  const key = equals < 0 ? value : value.slice(0, equals);
  if (!Object.hasOwn(labels, key)) return false;
  return equals < 0 || labels[key] === value.slice(equals + 1);
}

/** Go's path.Match: `*`, `?` and `[…]` within one part of the name. */
function globExpression(pattern: string): RegExp {
  const parts = pattern.match(/\[\^?[^\]/]+\]|./gs) ?? [];
  const translated = parts.map((part) => {
    if (part === "*") return "[^/]*";
    if (part === "?") return "[^/]";
    if (part.length > 1) return part.replaceAll("\\", "\\\\");
    return part.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  });
  try {
    return new RegExp(`^${translated.join("")}$`, "s");
  } catch {
    throw new FirectlError("INVALID_ARGUMENT", `"${pattern}" is not a pattern for names`, {
      hint: "write a name, with * and ? for parts that may differ",
    });
  }
}

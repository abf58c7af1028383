import { FirectlError } from "../core/errors.ts";
import { formatSize } from "../core/units.ts";
import type { VolumeSummary } from "../manager/api.ts";
import type { ListView } from "./output.ts";
import { parseBoolean } from "./values.ts";

/** How `volume ls` shows volumes. */
export const VOLUME_VIEW: ListView<VolumeSummary> = {
  columns: [
    { heading: "DRIVER", cell: () => "local" },
    { heading: "VOLUME NAME", cell: (volume) => volume.name },
    { heading: "DISK", cell: (volume) => formatSize(volume.diskBytes) },
    { heading: "SIZE", cell: (volume) => formatSize(volume.sizeBytes) },
    { heading: "USED BY", cell: (volume) => volume.usedBy.join(", ") },
  ],
  fields: {
    Name: (volume) => volume.name,
    Driver: () => "local",
    Scope: () => "local",
    Mountpoint: (volume) => volume.path,
    Labels: (volume) => volume.labels,
    CreatedAt: (volume) => volume.createdAt,
    Size: (volume) => formatSize(volume.diskBytes),
    DiskBytes: (volume) => volume.diskBytes,
    SizeBytes: (volume) => volume.sizeBytes,
    Links: (volume) => volume.usedBy.length,
    UsedBy: (volume) => volume.usedBy,
  },
  headings: { Name: "VOLUME NAME", CreatedAt: "CREATED AT", UsedBy: "USED BY" },
};

/** A volume as `docker volume inspect` shows it, with what only firectl has. */
export function inspectedVolume(volume: VolumeSummary): Readonly<Record<string, unknown>> {
  return {
    CreatedAt: volume.createdAt,
    Driver: "local",
    Labels: volume.labels,
    Mountpoint: volume.path,
    Name: volume.name,
    Options: volume.options,
    Scope: "local",
    SizeBytes: volume.sizeBytes,
    DiskBytes: volume.diskBytes,
    UsedBy: volume.usedBy,
  };
}

type Matcher = (volume: VolumeSummary, value: string) => boolean;

const MATCHERS: Readonly<Record<string, Matcher>> = {
  name: (volume, value) => volume.name.includes(value),
  label: (volume, value) => hasLabel(volume, value),
  "label!": (volume, value) => !hasLabel(volume, value),
  dangling: (volume, value) => (volume.usedBy.length === 0) === parseBoolean(value, "--filter dangling"),
  driver: (_, value) => value === "local",
};

export interface VolumeFilter {
  readonly key: string;
  readonly value: string;
}

/** A reader of `KEY=VALUE` of `--filter` with one of the given keys. */
export function volumeFilter(keys: readonly string[]): (text: string, flag: string) => VolumeFilter {
  return (text, flag) => {
    const [, key = "", value = ""] = /^(label!|[a-z]+)=(.+)$/s.exec(text) ?? [];
    if (!keys.includes(key)) {
      throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not a filter`, {
        hint: `write KEY=VALUE with one of the keys ${keys.join(", ")}`,
      });
    }
    if (key === "dangling") parseBoolean(value, `${flag} dangling`);
    return { key, value };
  };
}

/** As in docker: one of the values for each key, every label. */
export function matchesVolumeFilters(volume: VolumeSummary, filters: readonly VolumeFilter[]): boolean {
  const keys = new Set(filters.map(({ key }) => key));
  return [...keys].every((key) => {
    const values = filters.filter((filter) => filter.key === key).map(({ value }) => value);
    const matches = (value: string): boolean => MATCHERS[key]?.(volume, value) ?? true;
    return key.startsWith("label") ? values.every(matches) : values.some(matches);
  });
}

function hasLabel({ labels }: VolumeSummary, text: string): boolean {
  const [key = "", ...value] = text.split("=");
  if (!Object.hasOwn(labels, key)) return false;
  return value.length === 0 || labels[key] === value.join("=");
}

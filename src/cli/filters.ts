import { FirectlError } from "../core/errors.ts";
import { familiarName, nameParts } from "../image/image-names.ts";
import type { HealthStatus, VmState, VmSummary } from "../manager/api.ts";

const STATES = ["creating", "running", "exited", "dead", "removing"] as const satisfies readonly VmState[];
const HEALTHS = ["none", "starting", "healthy", "unhealthy"] as const satisfies readonly HealthStatus[];

type Matcher = (vm: VmSummary, value: string) => boolean;

const MATCHERS = {
  name: (vm, value) => vm.name.includes(value),
  status: (vm, value) => vm.state === value,
  label: matchesLabel,
  id: (vm, value) => vm.id.startsWith(value),
  ancestor: (vm, value) => {
    const wanted = familiarName(value);
    return [familiarName(vm.imageName), nameParts(vm.imageName).repository].includes(wanted);
  },
  vmm: (vm, value) => vm.vmm === value,
  health: (vm, value) => vm.health === value,
} as const satisfies Record<string, Matcher>;

type FilterKey = keyof typeof MATCHERS;

/** Keys whose values are of a few words. */
const WORDS: Partial<Record<FilterKey, readonly string[]>> = { status: STATES, health: HEALTHS };

export interface VmFilter {
  readonly key: FilterKey;
  readonly value: string;
}

/** Reads `KEY=VALUE` of `list --filter`. */
export function parseFilter(text: string, flag: string): VmFilter {
  const equals = text.indexOf("=");
  const key = text.slice(0, Math.max(equals, 0));
  const value = text.slice(equals + 1);
  if (!isFilterKey(key) || value === "") {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not a filter`, {
      hint: `write KEY=VALUE with one of the keys ${Object.keys(MATCHERS).join(", ")}`,
    });
  }
  const words: readonly string[] | undefined = WORDS[key];
  if (words !== undefined && !words.includes(value)) {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${value}" is not a ${key}`, {
      hint: `write one of ${words.join(", ")}`,
    });
  }
  return { key, value };
}

/** As in docker: one of the values for each key, every label. */
export function matchesFilters(vm: VmSummary, filters: readonly VmFilter[]): boolean {
  const keys = new Set(filters.map(({ key }) => key));
  return [...keys].every((key) => {
    const values = filters.filter((filter) => filter.key === key).map(({ value }) => value);
    const matches = (value: string): boolean => MATCHERS[key](vm, value);
    return key === "label" ? values.every(matches) : values.some(matches);
  });
}

function isFilterKey(key: string): key is FilterKey {
  return Object.hasOwn(MATCHERS, key);
}

function matchesLabel(vm: VmSummary, value: string): boolean {
  const equals = value.indexOf("=");
  const key = equals < 0 ? value : value.slice(0, equals);
  if (!Object.hasOwn(vm.labels, key)) return false;
  return equals < 0 || vm.labels[key] === value.slice(equals + 1);
}

import { runInNewContext } from "node:vm";
import { FirectlError } from "../core/errors.ts";
import type { HealthStatus, VmState, VmSummary } from "../manager/api.ts";

const STATES = ["creating", "running", "exited", "dead", "removing"] as const satisfies readonly VmState[];
const HEALTHS = ["none", "starting", "healthy", "unhealthy"] as const satisfies readonly HealthStatus[];

/** How long an expression may be at work on one name: for most, microseconds do. */
const EXPRESSION_LIMIT_MS = 2000;

type Matcher = (vm: VmSummary, value: string) => boolean;

const MATCHERS = {
  name: matchesName,
  status: (vm, value) => vm.state === value,
  label: matchesLabel,
  id: (vm, value) => vm.id.startsWith(value),
  // Only the store knows which images are meant: `list` has been asked for their VMs.
  ancestor: () => true,
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
  if (key === "name") parseExpression(value, flag);
  return { key, value };
}

/** The images whose VMs are asked for; undefined for those of every image. */
export function ancestorsIn(filters: readonly VmFilter[]): readonly string[] | undefined {
  const images = filters.filter(({ key }) => key === "ancestor").map(({ value }) => value);
  return images.length === 0 ? undefined : images;
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

/** As in docker, whose names begin with a slash that is rarely written. */
function matchesName(vm: VmSummary, value: string): boolean {
  const sandbox = { expression: parseExpression(value, "--filter"), names: [vm.name, `/${vm.name}`] };
  try {
    // In a context, since nothing else ends an expression that tries one way after the other: (a+)+$.
    return runInNewContext("names.some((name) => expression.test(name))", sandbox, {
      timeout: EXPRESSION_LIMIT_MS,
    });
  } catch (cause) {
    // Our script fails for no other reason; the error is of the context's own class.
    throw new FirectlError(
      "INVALID_ARGUMENT",
      `--filter: the expression "${value}" takes too long on the name "${vm.name}"`,
      { hint: "write it without a repetition of a repetition, such as (a+)+", cause },
    );
  }
}

function parseExpression(text: string, flag: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new FirectlError("INVALID_ARGUMENT", `${flag}: "${text}" is not a regular expression`, {
      hint: "write a part of the name, or an expression such as ^web-[0-9]+$",
      cause: error,
    });
  }
}

function matchesLabel(vm: VmSummary, value: string): boolean {
  const equals = value.indexOf("=");
  const key = equals < 0 ? value : value.slice(0, equals);
  if (!Object.hasOwn(vm.labels, key)) return false;
  return equals < 0 || vm.labels[key] === value.slice(equals + 1);
}

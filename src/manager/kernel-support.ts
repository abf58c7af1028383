import { FirectlError } from "../core/errors.ts";
import type { Kernel } from "../kernel/kernel.ts";

/**
 * Checks that a kernel has `modules`, loadable or built in; returns them.
 * @throws FirectlError UNSUPPORTED saying what cannot be done without them.
 */
export function requireModules(
  kernel: Pick<Kernel, "name" | "modules" | "builtin">,
  modules: readonly string[],
  words: { readonly cannot: string; readonly instead: string },
): readonly string[] {
  const has = new Set([...kernel.modules.map(({ name }) => name), ...(kernel.builtin ?? [])]);
  const missing = modules.filter((name) => !has.has(name));
  if (missing.length === 0) return modules;
  throw new FirectlError(
    "UNSUPPORTED",
    `${words.cannot}: the kernel ${kernel.name} has no ${missing.join(" and no ")}`,
    {
      hint: `if an earlier firectl installed it, install it again: firectl kernel rm ${kernel.name}, then firectl setup; ${words.instead}`,
    },
  );
}

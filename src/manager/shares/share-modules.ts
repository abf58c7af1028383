import { FirectlError } from "../../core/errors.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { SHARE_MODULES } from "../../kernel/modules.ts";
import type { ShareRecord } from "../../state/share-record.ts";

/**
 * The modules that a guest with these shares needs besides.
 * @throws FirectlError UNSUPPORTED when there are shares and the kernel has no FUSE.
 */
export function shareModules(
  shares: readonly ShareRecord[],
  kernel: Pick<Kernel, "name" | "modules" | "builtin">,
): readonly string[] {
  const [first] = shares;
  if (first === undefined) return [];
  const has = new Set([...kernel.modules.map(({ name }) => name), ...(kernel.builtin ?? [])]);
  const missing = SHARE_MODULES.filter((name) => !has.has(name));
  if (missing.length === 0) return SHARE_MODULES;
  throw new FirectlError(
    "UNSUPPORTED",
    `cannot share ${first.source}: the kernel ${kernel.name} has no ${missing.join(" and no ")}`,
    {
      hint: `if an earlier firectl installed it, install it again: firectl kernel rm ${kernel.name}, then firectl setup; a copy needs nothing: -v ${first.source}:${first.destination}:ro`,
    },
  );
}

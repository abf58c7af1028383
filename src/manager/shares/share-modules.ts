import type { Kernel } from "../../kernel/kernel.ts";
import { SHARE_MODULES } from "../../kernel/modules.ts";
import type { ShareRecord } from "../../state/share-record.ts";
import { requireModules } from "../kernel-support.ts";

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
  return requireModules(kernel, SHARE_MODULES, {
    cannot: `cannot share ${first.source}`,
    instead: `a copy needs nothing: -v ${first.source}:${first.destination}:ro`,
  });
}

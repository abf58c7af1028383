import type { Digest } from "../core/brands.ts";
import { MIB } from "../core/units.ts";

/** What happens while an image is obtained; sizes in bytes. */
export type PullProgress =
  | { readonly type: "resolving"; readonly reference: string }
  /** The image is known; its layers, lowest first, are about to come. */
  | {
      readonly type: "resolved";
      readonly reference: string;
      readonly layers: readonly { readonly digest: Digest; readonly size: number }[];
    }
  | { readonly type: "layer"; readonly digest: Digest; readonly received: number; readonly total: number }
  | { readonly type: "layer-done"; readonly digest: Digest; readonly total: number }
  /** The layer was in the store already, or another process brought it meanwhile. */
  | { readonly type: "layer-exists"; readonly digest: Digest; readonly total: number }
  /** An archive, a tar or a directory is read; the total may not be known beforehand. */
  | { readonly type: "reading"; readonly reference: string; readonly received: number }
  /** Something that the user should know. */
  | { readonly type: "notice"; readonly message: string }
  /** A transfer broke and is tried again after `delayMs`. */
  | { readonly type: "retrying"; readonly reason: string; readonly delayMs: number }
  /** Docker pulls the image first, on its own. */
  | { readonly type: "docker-pulling"; readonly reference: string }
  /** Docker hands out the image; the total is not known beforehand. */
  | { readonly type: "exporting"; readonly reference: string; readonly received: number };

/** Passes on the first count, and then one in each mebibyte: more would only cost time. */
export function everyMebibyte(report: (received: number) => void): (received: number) => void {
  let nextAt = 0;
  return (received) => {
    if (received < nextAt) return;
    nextAt = received + MIB;
    report(received);
  };
}

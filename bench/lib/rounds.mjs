import { spawnSync } from "node:child_process";
import { timed } from "./timed.mjs";

/**
 * Runs each way once a round, there and back: A B C C B A …, so that a machine whose speed drifts is unfair to all
 * alike, and none always follows the same other one.
 * Dirty pages are written out between two ways (`writesMuch`), so that none waits for another one's.
 *
 * A way is `{ name, run }`. `run(round)` may return figures: `{ ms, cpuMs, peakBytes, diskBytes }`; the times it
 * took count unless it tells them. One that yields several results returns them as `{ several: [{ name, ms, … }] }`. Its `reset()`
 * runs before it and `tidy(round)` after, and `prepare(round)` before the whole round, none of them counted.
 * Rounds that only warm up have numbers below 0.
 *
 * @returns a Map of name → samples, one a round.
 */
export async function alternate(ways, { rounds, warmUp = 0, writesMuch = true, prepare }) {
  const results = new Map();
  for (let round = -warmUp; round < rounds; round++) {
    await prepare?.(round);
    for (const way of round % 2 === 0 ? ways : ways.toReversed()) {
      await way.reset?.();
      if (writesMuch) spawnSync("sync");
      for (const { name, ...sample } of await samplesOf(way, round)) {
        if (round < 0) continue;
        results.set(name, [...(results.get(name) ?? []), sample]);
      }
      await way.tidy?.(round);
    }
  }
  return results;
}

async function samplesOf(way, round) {
  const { returned, ...times } = await timed(() => way.run(round));
  return returned?.several ?? [{ name: way.name, ...times, ...returned }];
}

/** A fixed seed, so that everyone sees the same cases. */
const SEED = 20_260_104;

const factor = Math.max(0, Number(process.env["FIRECTL_TEST_RUNS"] ?? "") || 0);

/** What a test of many cases may take on a machine that is busy with others, where it takes a few seconds alone. */
export const SLOW_TEST_MS: number = 120_000 * Math.max(1, factor);

/**
 * How a property is run: `runs` cases of a fixed seed, or `FIRECTL_TEST_RUNS` times as many of a random one, for
 * those who look for something new.
 */
export function propertyRuns(runs: number): { readonly numRuns: number; readonly seed?: number } {
  return factor > 0 ? { numRuns: Math.ceil(runs * factor) } : { numRuns: runs, seed: SEED };
}

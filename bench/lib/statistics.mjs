export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The median, and the extremes between which it lies. */
export function spread(values) {
  return { median: median(values), least: Math.min(...values), most: Math.max(...values) };
}

/** Ratios round by round: what slows a whole round down is in both. */
export function ratios(samples, others, figure = "ms") {
  return samples.map((sample, round) => sample[figure] / others[round][figure]);
}

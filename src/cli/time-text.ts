const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** A span of time in docker's words: "Less than a second", "About a minute", "3 hours", "2 weeks". */
export function humanDuration(ms: number): string {
  const whole = (unitMs: number): number => Math.floor(ms / unitMs);
  if (ms < SECOND_MS) return "Less than a second";
  if (whole(SECOND_MS) === 1) return "1 second";
  if (ms < MINUTE_MS) return `${whole(SECOND_MS)} seconds`;
  if (whole(MINUTE_MS) === 1) return "About a minute";
  if (ms < HOUR_MS) return `${whole(MINUTE_MS)} minutes`;
  const hours = Math.round(ms / HOUR_MS);
  if (hours === 1) return "About an hour";
  if (hours < 48) return `${hours} hours`;
  if (ms < 14 * DAY_MS) return `${whole(DAY_MS)} days`;
  if (ms < 60 * DAY_MS) return `${whole(7 * DAY_MS)} weeks`;
  if (ms < 730 * DAY_MS) return `${whole(30 * DAY_MS)} months`;
  return `${whole(365 * DAY_MS)} years`;
}

/** "3 hours ago"; empty when the moment (RFC 3339) is unknown. */
export function ago(moment: string | null | undefined, now: number = Date.now()): string {
  const ms = moment === null || moment === undefined ? Number.NaN : now - Date.parse(moment);
  // The clock of whoever wrote it may be ahead of ours.
  return Number.isNaN(ms) ? "" : `${humanDuration(Math.max(ms, 0))} ago`;
}

/** Nanoseconds since the Unix epoch as RFC 3339 in UTC with nine digits, as `docker logs -t` prints. */
export function formatUnixNs(unixNs: bigint): string {
  const ms = Number(unixNs / 1_000_000n);
  const date = new Date(ms);
  // A guest may claim any time at all.
  if (unixNs < 0n || Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999)
    return "0000-00-00T00:00:00.000000000Z";
  return `${date.toISOString().slice(0, 19)}.${String(unixNs % 1_000_000_000n).padStart(9, "0")}Z`;
}

/** Milliseconds for people: "350 ms", "1.24 s". */
export function formatMs(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

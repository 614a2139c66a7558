// How often one server is scraped: by what its last pages showed, slower while it fails.

/**
 * Interval while requests wait in the server's queue: the state in which the next pick depends on it most.
 */
export const QUEUED_INTERVAL_MS = 100;
/** Interval while requests run and none wait. */
export const RUNNING_INTERVAL_MS = 250;
/** Interval of a server that does nothing. */
export const IDLE_INTERVAL_MS = 1_000;
/** First retry of a server that failed; doubled with each further failure. */
const BACKOFF_FIRST_MS = 100;
/** Longest pause between tries: a server that came back is found within this. */
export const BACKOFF_MAX_MS = 2_000;
/** Intervals are spread by ±10 %, so that servers started together do not stay in step. */
const JITTER_SHARE = 0.1;

/** What the pace depends on. */
export interface PaceInput {
  /** Consecutive failures; 0 = the last scrape was good. */
  readonly failures: number;
  readonly waiting: number;
  readonly running: number;
  /** Whether the last page differed from the one before. */
  readonly changed: boolean;
}

/**
 * Time from the start of one scrape to the start of the next, ms.
 *
 * Adaptive by default (`intervalMs` null). The gateway counts its own requests in flight, to the microsecond,
 * so a scrape only has to correct it: other clients' requests, KV usage, restarts. Those matter while a queue
 * stands (100 ms), less while requests only run (250 ms), and hardly while the server idles (1 s). A server
 * that is busy and whose page stands still is wedged or between steps; reading it faster would tell nothing,
 * so it counts as one step calmer.
 *
 * @param intervalMs fixed interval, or null for adaptive
 * @param random 0 ≤ random < 1
 */
export function nextIntervalMs(intervalMs: number | null, input: PaceInput, random: number): number {
  const steady = intervalMs ?? adaptiveIntervalMs(input);
  const jittered = steady * (1 - JITTER_SHARE + 2 * JITTER_SHARE * random);
  if (input.failures === 0) return jittered;
  const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(16, input.failures - 1));
  return backoff * (1 - JITTER_SHARE + 2 * JITTER_SHARE * random);
}

function adaptiveIntervalMs(input: PaceInput): number {
  if (input.waiting > 0) return input.changed ? QUEUED_INTERVAL_MS : RUNNING_INTERVAL_MS;
  if (input.running > 0) return input.changed ? RUNNING_INTERVAL_MS : IDLE_INTERVAL_MS;
  return IDLE_INTERVAL_MS;
}

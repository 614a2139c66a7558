// What happens without a request: reading the others, publishing, the watchdog, the slow metrics.
import { ACTION_CONTINUE, STREAM_REQUEST } from "../abi/constants";
import { continueStream, setEffectiveContext, setTickMs } from "../abi/host";
import { poolCount, poolHasSnapshot, poolReceivedMs } from "../pool/table";
import { readyEndpoints } from "../pool/snapshot";
import { COLUMN_INFLIGHT_REQUESTS, COLUMN_INFLIGHT_TOKENS, rowF64 } from "../pool/rows";
import { CONTROL_STREAMS_MAX, POOL_ENDPOINTS_MAX, STREAMS_MAX } from "../wire/limits";
import { meterInflight, meterPool, meterTotals } from "./metrics";
import { configTickMs } from "../schema/settings";
import { releaseExpected } from "./commit";
import { prefillsLost } from "./prefill-settle";
import { conclude } from "./request";
import { guardRest } from "./guard";
import { answerStuck } from "./ingest";
import { ROLE_INGEST, rootConfig, rootRole } from "./roots";
import {
  PHASE_DECIDED,
  PHASE_INGEST,
  PHASE_READING,
  S_CONTEXT,
  S_ROOT,
  S_SEEN,
  S_STARTED,
  phaseOf,
  streamAt,
  streamCount,
  streamsTouched,
} from "./streams";
import { WAIT_MS, isProven, noteResumed } from "./watchdog";
import { meterKv } from "./kv-metrics";
import { kvFollow } from "./kv-follow";
import { isWorkerVm, nowMs, publish, sync } from "./worker";

/** Tick period of a VM without: a decision reads the others' cells itself when they are older than SYNC_MS. */
export const TICK_IDLE_MS: u32 = 100;
/** Time without streams after which the tick slows down. */
const IDLE_AFTER_MS: f64 = 1000;
/** Period of the metrics that follow totals. */
const METERS_MS: f64 = 1000;

// The period each root's ticks have, by root index; 0 = what configure() set.
const periods: usize = memory.data(16 * 4, 4);
/** Work of a tick that came this soon after another root's is already done. */
const DONE_MS: f64 = 3;
let workedMs: f64 = 0;
/** Period of the walk over all streams that ends prefill reservations by their time. */
const RELEASE_MS: f64 = 20;
let releasedMs: f64 = 0;
let metersAtMs: f64 = 0;
let busyAtMs: f64 = 0;

/** A root's tick. Several roots live in one VM; whichever ticks first does the work for all. */
export function tick(context: u32, root: u32): void {
  const now = nowMs();
  watch(context, root, now);
  if (!isWorkerVm()) return;
  if (streamCount() > 0) busyAtMs = now;
  setPeriod(root, now - busyAtMs > IDLE_AFTER_MS);
  if (now - workedMs < DONE_MS && now >= workedMs) return;
  workedMs = now;
  releasePrefilled(context, now);
  sync(now);
  if (kvFollow(now, streamCount() > 0)) busyAtMs = now;
  publish(now);
  if (now - metersAtMs < METERS_MS && now >= metersAtMs) return;
  metersAtMs = now;
  meter(now);
}

/** A root's place is taken by another: its period is unknown again. */
export function tickReset(root: u32): void {
  store<u32>(periods + ((<usize>root) << 2), TICK_IDLE_MS);
  setTickMs(TICK_IDLE_MS);
}

/** A stream of this root began: ticks come fast until there has been none for a while. */
export function tickFaster(root: u32): void {
  setPeriod(root, false);
}

// While there are streams, failures and prefixes of the other workers are known within one `tickMs` of the
// configuration. An ingest root has nothing to hurry for.
function setPeriod(root: u32, isIdle: bool): void {
  if (rootRole(root) == ROLE_INGEST) return;
  const at = periods + ((<usize>root) << 2);
  const ms = isIdle ? TICK_IDLE_MS : configTickMs(rootConfig(root));
  if (load<u32>(at) == ms) return;
  store<u32>(at, ms);
  setTickMs(ms);
}

// Answers in one piece show no first token: their prompts count as computed when that is to be expected.
function releasePrefilled(context: u32, now: f64): void {
  if (now - releasedMs < RELEASE_MS && now >= releasedMs) return;
  releasedMs = now;
  prefillsLost(context, now);
  if (streamCount() == 0) return;
  for (let slot: u32 = 0; slot < streamsTouched(); slot++) {
    if (phaseOf(streamAt(slot)) == PHASE_DECIDED) releaseExpected(streamAt(slot), now);
  }
}

function meter(now: f64): void {
  meterTotals();
  for (let pool: u32 = 0; pool < poolCount(); pool++) {
    let requests: f64 = 0;
    let tokens: f64 = 0;
    const first = pool * POOL_ENDPOINTS_MAX;
    for (let row = first; row < first + POOL_ENDPOINTS_MAX; row++) {
      requests += rowF64(COLUMN_INFLIGHT_REQUESTS, row);
      tokens += rowF64(COLUMN_INFLIGHT_TOKENS, row);
    }
    meterInflight(pool, <u64>requests, <u64>tokens);
    meterKv(pool);
    if (poolHasSnapshot(pool))
      meterPool(pool, <u64>Math.max(0, now - poolReceivedMs(pool)), readyEndpoints(pool));
  }
}

// Streams of unproven roots that wait for a body which may never come.
function watch(context: u32, root: u32, now: f64): void {
  if (isProven(root) || streamCount() == 0) return;
  const isIngest = rootRole(root) == ROLE_INGEST;
  const end = isIngest ? <u32>STREAMS_MAX + <u32>CONTROL_STREAMS_MAX : streamsTouched();
  let isElsewhere = false;
  for (let slot: u32 = isIngest ? <u32>STREAMS_MAX : 0; slot < end; slot++) {
    const stream = streamAt(slot);
    if (phaseOf(stream) != (isIngest ? PHASE_INGEST : PHASE_READING)) continue;
    if (load<u32>(stream, S_ROOT) != root || load<u32>(stream, S_SEEN) != 0) continue;
    if (now - load<f64>(stream, S_STARTED) < WAIT_MS) continue;
    if (setEffectiveContext(load<u32>(stream, S_CONTEXT)) != 0) continue;
    isElsewhere = true;
    if (isIngest) {
      answerStuck(stream);
      continue;
    }
    noteResumed(root, now);
    guardRest(stream, rootConfig(root));
    if (conclude(stream, rootConfig(root), true) == ACTION_CONTINUE) continueStream(STREAM_REQUEST);
  }
  if (isElsewhere) setEffectiveContext(context);
}

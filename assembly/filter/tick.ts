// What happens without a request: reading the others, publishing, the watchdog, the slow metrics.
import { ACTION_CONTINUE, STREAM_REQUEST } from "../abi/constants";
import { continueStream, setEffectiveContext, setTickMs } from "../abi/host";
import { ascii } from "../text/text";
import { poolCount, poolHasSnapshot, poolReceivedMs } from "../pool/table";
import { readyEndpoints } from "../pool/snapshot";
import { COLUMN_INFLIGHT_REQUESTS, COLUMN_INFLIGHT_TOKENS, rowF64 } from "../pool/rows";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { meterInflight, meterPool, meterTotals } from "./counters";
import { conclude } from "./request";
import { answerStuck } from "./ingest";
import { NO_ROOT, ROLE_INGEST, ROLE_PICKER, rootConfig, rootRole } from "./roots";
import {
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
import { isWorkerVm, nowMs, publish, sync } from "./worker";

/** Tick period of a VM with streams: failures and prefixes of the other workers are known this soon. */
export const TICK_ACTIVE_MS: u32 = 5;
/** Tick period of a VM without: a decision reads the others' cells itself when they are older than SYNC_MS. */
export const TICK_IDLE_MS: u32 = 100;
/** Time without streams after which the tick slows down. */
const IDLE_AFTER_MS: f64 = 1000;
/** Period of the metrics that follow totals. */
const METERS_MS: f64 = 1000;

let tickRoot: u32 = NO_ROOT;
let tickMs: u32 = TICK_IDLE_MS;
let metersAtMs: f64 = 0;
let busyAtMs: f64 = 0;

/** A root's tick. Several roots live in one VM: the first picker's does the work, an ingest root's only where there is none. */
export function tick(context: u32, root: u32): void {
  const now = nowMs();
  watch(context, root, now);
  if (rootRole(root) == ROLE_INGEST && tickRoot != root && tickRoot != NO_ROOT) return;
  if (rootRole(root) == ROLE_PICKER && (tickRoot == NO_ROOT || rootRole(tickRoot) != ROLE_PICKER)) tickRoot = root;
  if (tickRoot != root || !isWorkerVm()) return;
  sync(now);
  publish(now);
  if (streamCount() > 0) busyAtMs = now;
  if (now - metersAtMs >= METERS_MS || now < metersAtMs) {
    metersAtMs = now;
    meter(now);
  }
  setPeriod(now - busyAtMs > IDLE_AFTER_MS ? TICK_IDLE_MS : TICK_ACTIVE_MS);
}

/** A root is gone: another takes the work over at its next tick. */
export function tickRootGone(root: u32): void {
  if (tickRoot == root) tickRoot = NO_ROOT;
}

/** A stream began: ticks come fast until there has been none for a while. */
export function tickFaster(): void {
  setPeriod(TICK_ACTIVE_MS);
}

function setPeriod(ms: u32): void {
  if (ms == tickMs) return;
  tickMs = ms;
  setTickMs(ms);
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
    if (poolHasSnapshot(pool)) meterPool(pool, <u64>Math.max(0, now - poolReceivedMs(pool)), readyEndpoints(pool));
  }
}

// Streams of unproven roots that wait for a body which may never come.
function watch(context: u32, root: u32, now: f64): void {
  if (isProven(root) || streamCount() == 0) return;
  let isElsewhere = false;
  for (let slot: u32 = 0; slot < streamsTouched(); slot++) {
    const stream = streamAt(slot);
    const phase = phaseOf(stream);
    if (phase != PHASE_READING && phase != PHASE_INGEST) continue;
    if (load<u32>(stream, S_ROOT) != root || load<u32>(stream, S_SEEN) != 0) continue;
    if (now - load<f64>(stream, S_STARTED) < WAIT_MS) continue;
    if (setEffectiveContext(load<u32>(stream, S_CONTEXT)) != 0) continue;
    isElsewhere = true;
    if (phase == PHASE_INGEST) {
      answerStuck(stream);
      continue;
    }
    noteResumed(root, now);
    if (conclude(stream, rootConfig(root), true) == ACTION_CONTINUE) continueStream(STREAM_REQUEST);
  }
  if (isElsewhere) setEffectiveContext(context);
}

// The watchdog for gateways that did not enable stop-iteration: there, no body callback ever comes for held
// headers (Envoy rewrites StopIteration to StopAllIterationAndWatermark unless the plugin's
// allow_on_headers_stop_iteration is true; source/extensions/common/wasm/context.cc, convertFilterHeadersStatus).
//
// A root whose streams have had a body callback is proven and never watched again. In an unproven root the
// tick resumes a stream that has waited WAIT_MS, by a pick without the body; from then on the root decides at
// the headers. It tries to read a body again after a time that doubles, as the client may only have been slow.
import { LOG_ERROR } from "../abi/constants";
import { log } from "../abi/host";
import { writeBegin, writeLength, writeLiteral } from "../text/text";
import { COUNT_WATCHDOG, NOW_HEADER_ONLY, countUp, setCounter } from "./counters";
import { ROOTS_MAX } from "./roots";

/** How long held headers wait for the first body callback in an unproven root, ms. */
export const WAIT_MS: f64 = 300;
/** First time until a body is tried again, ms, and the most it doubles to. */
const RETRY_MIN_MS: f64 = 10000;
const RETRY_MAX_MS: f64 = 600000;

//   ┌ root, 24 bytes: 0 u32 proven  4 u32 streams being tried  8 f64 header-only until ms  16 f64 retry ms ┐
const ROOT_BYTES: usize = 24;
const roots: usize = memory.data(16 * 24, 8);

function rootAt(root: u32): usize {
  return roots + <usize>(root & (ROOTS_MAX - 1)) * ROOT_BYTES;
}

/** Forgets what was learnt of a root's place, for its next owner. */
export function watchdogReset(root: u32): void {
  memory.fill(rootAt(root), 0, ROOT_BYTES);
  showHeaderOnly();
}

/** Whether held headers of this root may wait for ever. */
export function isProven(root: u32): bool {
  return load<u32>(rootAt(root)) != 0;
}

/** A body callback came for held headers: stop-iteration is enabled. */
export function noteBodyCallback(root: u32): void {
  const at = rootAt(root);
  if (load<u32>(at) != 0) return;
  store<u32>(at, 1);
  store<f64>(at, 0, 8);
  showHeaderOnly();
}

/** Whether the root decides at the headers now. */
export function isHeaderOnly(root: u32, nowMs: f64): bool {
  const at = rootAt(root);
  const until = load<f64>(at, 8);
  if (until == 0 || load<u32>(at) != 0) return false;
  if (nowMs < until) return true;
  // One stream tries; the others go on without their bodies meanwhile.
  store<f64>(at, nowMs + WAIT_MS * 2, 8);
  return false;
}

const line: usize = memory.data(400);

/** A stream of this root was resumed by the tick. */
export function noteResumed(root: u32, nowMs: f64): void {
  const at = rootAt(root);
  countUp(COUNT_WATCHDOG);
  const retry = Math.min(Math.max(load<f64>(at, 16) * 2, RETRY_MIN_MS), RETRY_MAX_MS);
  if (load<f64>(at, 8) > nowMs + WAIT_MS * 2) return;
  if (load<f64>(at, 16) == 0) {
    writeBegin(line, 400);
    writeLiteral(
      "epp: no request body reached the filter: deciding at the headers from now on, without the prompt. ",
    );
    writeLiteral("Set allow_on_headers_stop_iteration: true in this plugin's configuration (Envoy >= 1.35)");
    log(LOG_ERROR, line, writeLength());
  }
  store<f64>(at, retry, 16);
  store<f64>(at, nowMs + retry, 8);
  showHeaderOnly();
}

function showHeaderOnly(): void {
  let count: u64 = 0;
  for (let root: u32 = 0; root < ROOTS_MAX; root++) if (load<f64>(rootAt(root), 8) != 0) count++;
  setCounter(NOW_HEADER_ONLY, count);
}

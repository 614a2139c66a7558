// How fast each endpoint computes prompts and answers, learnt from what its requests took.
//
//   prefill ms = base + slope × uncached tokens      from the time between an endpoint's first tokens
//   ms between tokens = base + slope × requests      from finished streams
//
// A sample of prefill is one piece of the engine's work (pieces.ts). The base is the pool's; it is the same for every
// endpoint, as what differs there is load. Every row learns its slope by itself (fit.ts); the pool's samples count as
// PRIOR_SAMPLES more, so that a new endpoint begins as the others are and one that nobody asks drifts back to that.
// The other workers' samples add up with ours (others-rates.ts).
import { POOLS_MAX, POOL_ENDPOINTS_MAX } from "../wire/limits";
import {
  COLUMN_BUSY_SINCE_MS,
  COLUMN_GENERATION,
  COLUMN_OTHERS_COMPUTED,
  COLUMN_PREFILLING,
  rowF64,
  rowU32,
} from "./rows";
import {
  FIT_BYTES,
  SUMS_BYTES,
  fitAdd,
  fitBase,
  fitInherit,
  fitLastMs,
  fitRegimeMs,
  fitRegimeSince,
  fitReset,
  fitSlope,
  shareLeft,
  sumsAdd,
  sumsClear,
  sumsSamples,
  sumsSolve,
  sumsSolveSlope,
} from "./fit";
import {
  othersRatesAddTo,
  othersRatesBegin,
  othersRatesRegime,
  othersRatesReset,
  othersRatesTake,
} from "./others-rates";
import {
  pieceAdd,
  pieceBegin,
  pieceClose,
  pieceEndMs,
  pieceIsOpen,
  pieceIsOver,
  pieceIsSettled,
  pieceTokens,
} from "./pieces";

/** Samples that the pool's fit counts for at each of its endpoints. */
export const PRIOR_SAMPLES: f64 = 4;
/** Prefill speeds that are believed: 1,000,000 to 10 tokens/s, as ms for a thousand tokens. */
export const PREFILL_SLOPE_MIN: f64 = 1;
export const PREFILL_SLOPE_MAX: f64 = 100000;
/** Endpoints of one pool differ in speed by this factor from its mean at most. */
export const SLOPE_RANGE: f64 = 8;
/** Before anything is known: 10,000 tokens/s, the order of one accelerator and a model of 8 to 70 billion parameters. */
export const PREFILL_SLOPE_FIRST: f64 = 100;
/** What a further request adds to the time between tokens at most, ms. */
export const TPOT_SLOPE_MAX: f64 = 1000;
/** The pool's fit is put together anew at most this often, ms; always while it has few samples. */
const REFRESH_MS: f64 = 100;
const FEW_SAMPLES: f64 = 32;

/** Samples of prefill in a pool from which its speed counts as measured. */
export const MEASURED_SAMPLES: f64 = 4;

/** Which of the two fits. */
export const FIT_PREFILL: u32 = 0;
export const FIT_TPOT: u32 = 1;

//   ┌ row, 248 bytes ─────────────────────────────────────────────────────────────┐
//   │ 0 prefill fit, 72   72 TPOT fit, 72   144 piece, 48                          │
//   │ 192 line: f64 base, slope, samples   216 TPOT line                           │
//   │ 240 u16 generation   244 u32 version of the lines                            │
//   └─────────────────────────────────────────────────────────────────────────────┘
const ROW_BYTES: usize = 248;
const AT_PIECE: usize = 144;
const AT_LINES: usize = 192;
const AT_GENERATION: usize = 240;
const AT_VERSION: usize = 244;
const LINE_BYTES: usize = 24;
const LINE_SLOPE: usize = 8;
const LINE_SAMPLES: usize = 16;
const rows: usize = memory.data(4096 * 248, 8);

//   ┌ pool, 88 bytes ───────────────────────────────────────────────────────────────┐
//   │ 0 sums[2]   48 f64 put together ms   56 u32 version   60 u32 changed since    │
//   │ 64 f64 prefill base, 72 f64 slope as last known (slope 0 = never)             │
//   │ 80 u32 was measured                                                           │
//   └──────────────────────────────────────────────────────────────────────────────┘
const POOL_BYTES: usize = 88;
const POOL_REFRESHED: usize = 48;
const POOL_VERSION: usize = 56;
const POOL_CHANGED: usize = 60;
const POOL_BASE: usize = 64;
const POOL_SLOPE: usize = 72;
const POOL_MEASURED: usize = 80;
const pools: usize = memory.data(16 * 88, 8);

const scratch: usize = memory.data(24, 8);

function rowAt(row: u32): usize {
  const at = rows + <usize>row * ROW_BYTES;
  const generation = rowU32(COLUMN_GENERATION, row);
  if (<u32>load<u16>(at, AT_GENERATION) != generation) {
    memory.fill(at, 0, ROW_BYTES);
    fitReset(at);
    fitReset(at + FIT_BYTES);
    store<u16>(at, <u16>generation, AT_GENERATION);
    othersRatesReset(row);
  }
  return at;
}

function poolAt(row: u32): usize {
  return pools + <usize>(row / POOL_ENDPOINTS_MAX) * POOL_BYTES;
}

function changedAt(row: u32): void {
  store<u32>(rowAt(row), 0, AT_VERSION);
  store<u32>(poolAt(row), 1, POOL_CHANGED);
}

/** A request goes to the row, where nothing was to be prefilled: a piece of work begins. Before reserve(). */
export function rateBegin(row: u32, nowMs: f64): void {
  const piece = rowAt(row) + AT_PIECE;
  if (rowF64(COLUMN_PREFILLING, row) > 0) return;
  if (pieceIsOpen(piece)) closePiece(row);
  pieceBegin(piece, rowF64(COLUMN_OTHERS_COMPUTED, row), nowMs);
}

/**
 * A first token came from the row at `nowMs`, of a prompt of `tokens` uncached tokens. Before the reservations know:
 * what they say of how long the row has been busy is of before.
 */
export function rateFirstToken(row: u32, tokens: f64, nowMs: f64): void {
  const piece = rowAt(row) + AT_PIECE;
  const since = rowF64(COLUMN_BUSY_SINCE_MS, row);
  if (pieceIsOver(piece, since, nowMs)) closePiece(row);
  pieceAdd(piece, tokens, since, rowF64(COLUMN_OTHERS_COMPUTED, row), nowMs);
}

function closePiece(row: u32): void {
  const piece = rowAt(row) + AT_PIECE;
  const thousands = pieceTokens(piece) / 1000;
  const end = pieceEndMs(piece);
  const ms = pieceClose(piece);
  if (ms > 0) learn(row, FIT_PREFILL, thousands, ms, end);
}

/** A stream ended that had `ms` between its tokens while `requests` were in flight at the row. */
export function rateTpot(row: u32, requests: f64, ms: f64, nowMs: f64): void {
  learn(row, FIT_TPOT, requests, ms, nowMs);
}

function learn(row: u32, which: u32, x: f64, y: f64, nowMs: f64): void {
  linesOf(row, nowMs);
  const at = rowAt(row);
  const line = at + AT_LINES + <usize>which * LINE_BYTES;
  const fit = at + <usize>which * FIT_BYTES;
  const samples = load<f64>(line, LINE_SAMPLES);
  if (fitAdd(fit, x, y, nowMs, load<f64>(line), load<f64>(line, LINE_SLOPE), samples)) {
    othersRatesRegime(row, which, nowMs);
  }
  changedAt(row);
}

// Brings the row's two lines up to date.
function linesOf(row: u32, nowMs: f64): usize {
  const at = rowAt(row);
  if (pieceIsSettled(at + AT_PIECE, rowF64(COLUMN_PREFILLING, row) == 0, nowMs)) closePiece(row);
  const pool = poolAt(row);
  refreshPool(row / POOL_ENDPOINTS_MAX, nowMs);
  const version = load<u32>(pool, POOL_VERSION);
  if (load<u32>(at, AT_VERSION) == version) return at + AT_LINES;
  store<u32>(at, version, AT_VERSION);
  for (let which: u32 = 0; which < 2; which++) {
    const line = at + AT_LINES + <usize>which * LINE_BYTES;
    sumsClear(scratch);
    addRow(scratch, row, which, nowMs);
    const prior = pool + <usize>which * SUMS_BYTES;
    const samples = sumsSamples(prior);
    if (samples > 0) sumsAdd(scratch, prior, Math.min(1, PRIOR_SAMPLES / samples));
    const isPrefill = which == FIT_PREFILL;
    const isKnown = isPrefill ? solvePrefill(prior, samples) : sumsSolve(scratch, 0, TPOT_SLOPE_MAX, false);
    store<f64>(line, isKnown ? fitBase() : isPrefill ? load<f64>(pool, POOL_BASE) : 0);
    store<f64>(line, isKnown ? fitSlope() : isPrefill ? slopeLast(pool) : 0, LINE_SLOPE);
    store<f64>(line, isKnown ? sumsSamples(scratch) : 0, LINE_SAMPLES);
  }
  return at + AT_LINES;
}

// The pool's slope when it was known last: as long as nothing is measured, nothing says that it has changed.
function slopeLast(pool: usize): f64 {
  return load<f64>(pool, POOL_SLOPE) > 0 ? load<f64>(pool, POOL_SLOPE) : PREFILL_SLOPE_FIRST;
}

// The row's slope beside the pool's base, within SLOPE_RANGE of the pool's slope.
function solvePrefill(pool: usize, samples: f64): bool {
  if (!(samples > 0) || !sumsSolve(pool, PREFILL_SLOPE_MIN, PREFILL_SLOPE_MAX, true)) return false;
  const slope = fitSlope();
  return sumsSolveSlope(scratch, fitBase(), slope / SLOPE_RANGE, slope * SLOPE_RANGE);
}

function addRow(sums: usize, row: u32, which: u32, nowMs: f64): void {
  const fit = rowAt(row) + <usize>which * FIT_BYTES;
  const last = fitLastMs(fit);
  if (last > 0) sumsAdd(sums, fit, shareLeft(nowMs - last));
  othersRatesAddTo(sums, row, which);
}

function refreshPool(pool: u32, nowMs: f64): void {
  const at = pools + <usize>pool * POOL_BYTES;
  const isNew = load<u32>(at, POOL_VERSION) == 0;
  if (!isNew && load<u32>(at, POOL_CHANGED) == 0) return;
  const isDue = Math.abs(nowMs - load<f64>(at, POOL_REFRESHED)) >= REFRESH_MS;
  if (!isNew && !isDue && sumsSamples(at) >= FEW_SAMPLES) return;
  store<u32>(at, 0, POOL_CHANGED);
  store<f64>(at, nowMs, POOL_REFRESHED);
  store<u32>(at, max<u32>(load<u32>(at, POOL_VERSION) + 1, 1), POOL_VERSION);
  sumsClear(at);
  sumsClear(at + SUMS_BYTES);
  for (let row = pool * POOL_ENDPOINTS_MAX; row < (pool + 1) * POOL_ENDPOINTS_MAX; row++) {
    if (rowU32(COLUMN_GENERATION, row) == 0) continue;
    addRow(at, row, FIT_PREFILL, nowMs);
    addRow(at + SUMS_BYTES, row, FIT_TPOT, nowMs);
  }
  if (sumsSamples(at) >= MEASURED_SAMPLES) store<u32>(at, 1, POOL_MEASURED);
  if (!sumsSolve(at, PREFILL_SLOPE_MIN, PREFILL_SLOPE_MAX, true)) return;
  store<f64>(at, fitBase(), POOL_BASE);
  store<f64>(at, fitSlope(), POOL_SLOPE);
}

let foundPrefill: usize = 0;

/** Looks up what is known of a row; the functions below tell it. */
export function ratesOf(row: u32, nowMs: f64): void {
  foundPrefill = linesOf(row, nowMs);
}

/** Prefill that every prompt costs there, ms. */
export function prefillBaseMs(): f64 {
  return load<f64>(foundPrefill);
}
/** Prefill of one token there, ms. */
export function prefillTokenMs(): f64 {
  return load<f64>(foundPrefill, LINE_SLOPE) / 1000;
}
/** Samples behind these, the pool's included, after forgetting. */
export function prefillSamples(): f64 {
  return load<f64>(foundPrefill, LINE_SAMPLES);
}
/** Time between tokens there with so many requests in flight, ms; NaN while nothing is known. */
export function tpotMs(requests: f64): f64 {
  const line = foundPrefill + LINE_BYTES;
  return load<f64>(line, LINE_SAMPLES) > 0 ? load<f64>(line) + load<f64>(line, LINE_SLOPE) * requests : NaN;
}
/** The line's intercept and slope, for those who show them. */
export function tpotBaseMs(): f64 {
  return load<f64>(foundPrefill, LINE_BYTES);
}
export function tpotRequestMs(): f64 {
  return load<f64>(foundPrefill, LINE_BYTES + LINE_SLOPE);
}
export function tpotSamples(): f64 {
  return load<f64>(foundPrefill, LINE_BYTES + LINE_SAMPLES);
}

/** Samples of prefill over all of a pool's rows and all workers, after forgetting. */
export function poolPrefillSamples(pool: u32): f64 {
  return sumsSamples(pools + <usize>pool * POOL_BYTES);
}

/** Whether the pool ever had MEASURED_SAMPLES samples of prefill at once: from then on its speed is known, if not afresh. */
export function poolIsMeasured(pool: u32): bool {
  return load<u32>(pools + <usize>pool * POOL_BYTES, POOL_MEASURED) != 0;
}

// What workers tell each other: their own sums, aged to the time of writing, and since when they are of one speed.

/** Whether this worker has learnt anything of the row. */
export function ratesKnown(row: u32): bool {
  const at = rowAt(row);
  return fitLastMs(at) > 0 || fitLastMs(at + FIT_BYTES) > 0;
}
/** Writes this worker's own sums of one fit to `to`, SUMS_BYTES. */
export function ratesOwnSums(row: u32, which: u32, nowMs: f64, to: usize): void {
  sumsClear(to);
  const fit = rowAt(row) + <usize>which * FIT_BYTES;
  if (fitLastMs(fit) > 0) sumsAdd(to, fit, shareLeft(nowMs - fitLastMs(fit)));
}
/** Since when they are of one speed, ms; 0 = always. */
export function ratesRegimeMs(row: u32, which: u32): f64 {
  return fitRegimeMs(rowAt(row) + <usize>which * FIT_BYTES);
}
/** What the others learnt is read anew from here on. */
export function ratesBeginOthers(): void {
  othersRatesBegin();
  for (let pool: u32 = 0; pool < <u32>POOLS_MAX; pool++) {
    store<u32>(pools + <usize>pool * POOL_BYTES, 1, POOL_CHANGED);
  }
}
/** Adds another worker's sums of one fit, as they were `ageMs` ago. */
export function ratesAddOther(row: u32, which: u32, sums: usize, regimeMs: f64, ageMs: f64): void {
  const fit = rowAt(row) + <usize>which * FIT_BYTES;
  fitRegimeSince(fit, regimeMs);
  othersRatesRegime(row, which, Math.max(regimeMs, fitRegimeMs(fit)));
  othersRatesTake(row, which, sums, regimeMs, ageMs);
}
/** Takes sums that were this worker's predecessor's, as of `writtenMs`, for own ones; unless there are own ones. */
export function ratesAddOwn(row: u32, which: u32, sums: usize, regimeMs: f64, writtenMs: f64): void {
  if (sumsSamples(sums) <= 0) return;
  fitInherit(rowAt(row) + <usize>which * FIT_BYTES, sums, regimeMs, writtenMs);
  changedAt(row);
}

// A line through samples that come one by one: weighted least squares, robust, with forgetting.
//
//   y = base + slope · x,  slope within bounds, base ≥ 0
//
// A record keeps sums, so the records of several workers, and a prior, add up to the fit of all their samples.
// A sample counts with weight 1 / (1 + x): what is measured here errs in proportion to its size. Forgetting
// goes by sample and by time (exponentially weighted least squares). A residual beyond OUTLIER times the usual
// one is cut to that (Huber 1964); RUN_SAMPLES of them in a row that agree by how much are no outliers but another
// engine speed: then all that was learnt is taken that much slower or faster.

//   ┌ sums, 24 bytes: f32 samples, w, wx, wy, wxx, wxy ┐
export const SUMS_BYTES: usize = 24;
const AT_W: usize = 4;
const AT_WX: usize = 8;
const AT_WY: usize = 12;
const AT_WXX: usize = 16;
const AT_WXY: usize = 20;

//   ┌ fit, 72 bytes, 8-byte aligned ────────────────────────────────────────────────────┐
//   │ 0 sums   24 f32 usual |ln(y/expected)|    28 i32 outliers in a row, signed        │
//   │ 32 f64 last sample ms   40 f64 regime: since when the samples are of one speed, ms│
//   │ 48 f32[5] residuals of the present run of outliers   68…71 zero                   │
//   └───────────────────────────────────────────────────────────────────────────────────┘
export const FIT_BYTES: usize = 72;
const AT_SPREAD: usize = 24;
const AT_RUN: usize = 28;
const AT_LAST: usize = 32;
const AT_REGIME: usize = 40;
const AT_RECENT: usize = 48;

/** Samples after which one has lost 63 % of its weight. */
export const FIT_MEMORY_SAMPLES: f64 = 128;
/** Time after which a sample has lost half of its weight, ms. */
export const FIT_HALF_LIFE_MS: f64 = 60000;
/** A residual of more than this many usual ones is an outlier. */
export const OUTLIER: f64 = 3;
/** Residuals, ln(y / expected), below this are never outliers: clocks and steps of the engine are no finer. */
export const OUTLIER_LEAST: f64 = 0.15;
/** Outliers on one side in a row that mean another speed. */
export const RUN_SAMPLES: i32 = 5;
/** Samples before which nothing is called an outlier. */
const TRUSTED_SAMPLES: f64 = 4;
/** Such a run is of one other speed when its residuals differ by no more than this; else it is noise: a factor of 2. */
export const AGREEMENT: f64 = 0.7;
/** What is left of the past where it is known by how much the speed has changed. */
const KEPT: f64 = 0.25;
/** And where that is not known. */
export const FORGOTTEN: f64 = 0.02;
/** Weight, in samples, of what is assumed where all samples have one x: see sumsSolve. */
const ASSUMED_SAMPLES: f64 = 0.25;
const SPREAD_FIRST: f64 = 0.2;
/** Nothing is taken to be smaller than this where ratios are formed. */
const LEAST_Y: f64 = 0.01;
const SPREAD_MEMORY_SAMPLES: f64 = 16;

/** Forgets everything. */
export function fitReset(fit: usize): void {
  memory.fill(fit, 0, FIT_BYTES);
  store<f32>(fit, <f32>SPREAD_FIRST, AT_SPREAD);
}

/** Samples behind sums, after forgetting. */
export function sumsSamples(sums: usize): f64 {
  return <f64>load<f32>(sums);
}

/** Empties sums. */
export function sumsClear(sums: usize): void {
  memory.fill(sums, 0, SUMS_BYTES);
}

/** Adds `share` times the sums `from` to the sums `to`. */
export function sumsAdd(to: usize, from: usize, share: f64): void {
  for (let at: usize = 0; at < SUMS_BYTES; at += 4) {
    store<f32>(to + at, <f32>(<f64>load<f32>(to + at) + share * <f64>load<f32>(from + at)));
  }
}

/** What is left of samples `ageMs` old. */
export function shareLeft(ageMs: f64): f64 {
  return ageMs > 0 ? Math.exp((-Math.LN2 * ageMs) / FIT_HALF_LIFE_MS) : 1;
}

/** When the fit's last sample came, ms; 0 = none has. */
export function fitLastMs(fit: usize): f64 {
  return load<f64>(fit, AT_LAST);
}

/** Since when its samples are of one speed, ms; 0 = as long as known. */
export function fitRegimeMs(fit: usize): f64 {
  return load<f64>(fit, AT_REGIME);
}

/** Begins with sums that somebody else left behind at `writtenMs`; a fit that has samples of its own keeps them. */
export function fitInherit(fit: usize, sums: usize, regimeMs: f64, writtenMs: f64): void {
  if (load<f64>(fit, AT_LAST) > 0) return;
  memory.copy(fit, sums, SUMS_BYTES);
  store<f64>(fit, writtenMs, AT_LAST);
  store<f64>(fit, regimeMs, AT_REGIME);
}

/** Another worker found that the speed changed at `regimeMs`: earlier samples count for next to nothing. */
export function fitRegimeSince(fit: usize, regimeMs: f64): void {
  if (regimeMs <= load<f64>(fit, AT_REGIME)) return;
  store<f64>(fit, regimeMs, AT_REGIME);
  store<i32>(fit, 0, AT_RUN);
  if (load<f64>(fit, AT_LAST) < regimeMs) scale(fit, FORGOTTEN);
}

/** Sums of samples from before the speed changed: they count for next to nothing from now on. */
export function sumsForget(sums: usize): void {
  scale(sums, FORGOTTEN);
}

function scale(sums: usize, share: f64): void {
  for (let at: usize = 0; at < SUMS_BYTES; at += 4) {
    store<f32>(sums + at, <f32>(<f64>load<f32>(sums + at) * share));
  }
}

/**
 * One sample. `base` and `slope` are the line as known so far over all workers, with `samples` samples behind it.
 * Returns whether the sample showed that the speed has changed. x, y ≥ 0 and finite; others are ignored.
 */
export function fitAdd(fit: usize, x: f64, y: f64, nowMs: f64, base: f64, slope: f64, samples: f64): bool {
  if (!(x >= 0 && y >= 0 && x < Infinity && y < Infinity)) return false;
  const last = load<f64>(fit, AT_LAST);
  scale(fit, (1 - 1 / FIT_MEMORY_SAMPLES) * (last > 0 ? shareLeft(nowMs - last) : 1));
  store<f64>(fit, nowMs, AT_LAST);
  if (samples < TRUSTED_SAMPLES) {
    sumsSample(fit, x, y);
    return false;
  }
  const expected = Math.max(base + slope * x, LEAST_Y);
  const residual = Math.log(Math.max(y, LEAST_Y) / expected);
  const limit = Math.max(OUTLIER * <f64>load<f32>(fit, AT_SPREAD), OUTLIER_LEAST);
  if (Math.abs(residual) <= limit) {
    endRun(fit, limit);
    widen(fit, Math.abs(residual));
    sumsSample(fit, x, y);
    return false;
  }
  const factor = noteOutlier(fit, residual, limit);
  if (factor > 0) {
    changeRegime(fit, factor, nowMs);
    sumsSample(fit, x, y);
    return true;
  }
  sumsSample(fit, x, expected * Math.exp(residual > 0 ? limit : -limit));
  return false;
}

function widen(fit: usize, size: f64): void {
  const spread = <f64>load<f32>(fit, AT_SPREAD);
  store<f32>(fit, <f32>(spread + (size - spread) / SPREAD_MEMORY_SAMPLES), AT_SPREAD);
}

// Outliers that did not mean another speed were noise: they count for what is usual.
function endRun(fit: usize, limit: f64): void {
  const run = load<i32>(fit, AT_RUN);
  store<i32>(fit, 0, AT_RUN);
  for (let i: i32 = run < 0 ? -run : run; i > 0; i--) widen(fit, limit);
}

// Factor by which the work takes longer now, once a run of outliers on one side is complete and they agree; else 0.
function noteOutlier(fit: usize, residual: f64, limit: f64): f64 {
  const isAbove = residual > 0;
  if (load<i32>(fit, AT_RUN) > 0 != isAbove) endRun(fit, limit);
  const run = isAbove ? load<i32>(fit, AT_RUN) + 1 : load<i32>(fit, AT_RUN) - 1;
  const length = run < 0 ? -run : run;
  store<f32>(fit + AT_RECENT + ((<usize>(length - 1)) << 2), <f32>residual);
  store<i32>(fit, run, AT_RUN);
  if (length < RUN_SAMPLES) return 0;
  let least = residual;
  let most = residual;
  let sum: f64 = 0;
  for (let i: i32 = 0; i < RUN_SAMPLES; i++) {
    const one = <f64>load<f32>(fit + AT_RECENT + ((<usize>i) << 2));
    least = Math.min(least, one);
    most = Math.max(most, one);
    sum += one;
  }
  if (most - least <= AGREEMENT) return Math.exp(sum / <f64>RUN_SAMPLES);
  endRun(fit, limit);
  return 0;
}

// All work takes so many times as long: what was learnt before keeps its shape and loses most of its weight.
function changeRegime(fit: usize, factor: f64, nowMs: f64): void {
  scale(fit, KEPT);
  store<f32>(fit, <f32>(<f64>load<f32>(fit, AT_WY) * factor), AT_WY);
  store<f32>(fit, <f32>(<f64>load<f32>(fit, AT_WXY) * factor), AT_WXY);
  store<i32>(fit, 0, AT_RUN);
  store<f64>(fit, nowMs, AT_REGIME);
}

function sumsSample(sums: usize, x: f64, y: f64): void {
  const w = 1 / (1 + x);
  store<f32>(sums, <f32>(<f64>load<f32>(sums) + 1));
  grow(sums, AT_W, w);
  grow(sums, AT_WX, w * x);
  grow(sums, AT_WY, w * y);
  grow(sums, AT_WXX, w * x * x);
  grow(sums, AT_WXY, w * x * y);
}

function grow(sums: usize, at: usize, by: f64): void {
  store<f32>(sums + at, <f32>(<f64>load<f32>(sums + at) + by));
}

let solvedBase: f64 = 0;
let solvedSlope: f64 = 0;

/** Intercept and slope of the line that sumsSolve() found. */
export function fitBase(): f64 {
  return solvedBase;
}
export function fitSlope(): f64 {
  return solvedSlope;
}

/**
 * The line of these sums, slope within [least, most]. Where all samples have (nearly) one x, either the line
 * starts at the origin (`fromOrigin`: no work takes no time), or it is flat. False: no sample has x > 0.
 */
export function sumsSolve(sums: usize, least: f64, most: f64, fromOrigin: bool): bool {
  const samples = sumsSamples(sums);
  const wxx = <f64>load<f32>(sums, AT_WXX);
  let w = <f64>load<f32>(sums, AT_W);
  if (!(samples > 0.000001 && wxx > 0 && w > 0)) return false;
  const assumed = (ASSUMED_SAMPLES * w) / samples;
  if (fromOrigin) w += assumed;
  const wx = <f64>load<f32>(sums, AT_WX);
  const wy = <f64>load<f32>(sums, AT_WY);
  const wxy = <f64>load<f32>(sums, AT_WXY);
  const ridge: f64 = fromOrigin ? 0 : assumed * wxx;
  const spread = Math.max(w * wxx - wx * wx, 0) + ridge;
  solvedSlope = clamp(spread > 0 ? (w * wxy - wx * wy) / spread : wxy / wxx, least, most);
  solvedBase = (wy - solvedSlope * wx) / w;
  if (solvedBase >= 0) return true;
  solvedBase = 0;
  solvedSlope = clamp(wxy / wxx, least, most);
  return true;
}

/** The line of these sums that has this base, slope within [least, most]; false: no sample has x > 0. */
export function sumsSolveSlope(sums: usize, base: f64, least: f64, most: f64): bool {
  const wxx = <f64>load<f32>(sums, AT_WXX);
  if (!(wxx > 0)) return false;
  const above = <f64>load<f32>(sums, AT_WXY) - base * <f64>load<f32>(sums, AT_WX);
  solvedSlope = clamp(above / wxx, least, most);
  solvedBase = base;
  return true;
}

function clamp(value: f64, least: f64, most: f64): f64 {
  return value < least ? least : value > most ? most : value;
}

// The robust line of assembly/pool/fit.ts: regimes, outliers, forgetting, bounds, and sums that add up over workers.
import {
  FIT_BYTES,
  FIT_HALF_LIFE_MS,
  FIT_MEMORY_SAMPLES,
  RUN_SAMPLES,
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
} from "../../assembly/pool/fit";

const LEAST: f64 = 1;
const MOST: f64 = 10000;
const fit: usize = memory.data(72, 8);
const other: usize = memory.data(72, 8);
const sums: usize = memory.data(24, 8);
const SEED: u32 = 20261121;
let state: u32 = SEED;

function random(): f64 {
  state = state * 1664525 + 1013904223;
  return <f64>(state >>> 8) / 16777216;
}

function learn(target: usize, x: f64, y: f64, nowMs: f64): bool {
  const isKnown = sumsSolve(target, LEAST, MOST, true);
  return fitAdd(
    target,
    x,
    y,
    nowMs,
    isKnown ? fitBase() : 0,
    isKnown ? fitSlope() : 100,
    sumsSamples(target),
  );
}

// `count` samples of base + slope · x, x from 0 to 8, each off by up to `noise` of itself.
function learnLine(target: usize, base: f64, slope: f64, noise: f64, count: i32, startMs: f64): void {
  for (let i = 0; i < count; i++) {
    const x = random() * 8;
    learn(target, x, (base + slope * x) * (1 + noise * (2 * random() - 1)), startMs + <f64>i * 10);
  }
}

function solve(target: usize): void {
  expect(sumsSolve(target, LEAST, MOST, true)).toBe(true);
}

function isNear(actual: f64, expected: f64, share: f64): void {
  const off = Math.abs(actual - expected);
  expect(off <= share * expected).toBe(true, `${actual} is not within ${share} of ${expected}; seed ${SEED}`);
}

describe("a line through noisy samples", () => {
  beforeEach(() => {
    state = SEED;
    fitReset(fit);
    fitReset(other);
  });

  it("comes out at any speed", () => {
    for (let slope: f64 = 10; slope <= 1000; slope *= 10) {
      fitReset(fit);
      learnLine(fit, 20, slope, 0.1, 300, 1000);
      solve(fit);
      isNear(fitSlope(), slope, 0.05);
      expect(Math.abs(fitBase() - 20) < 6 + 0.05 * slope).toBe(true, `base ${fitBase()} at slope ${slope}`);
    }
  });

  it("has no solution without a sample, and none while all x are 0", () => {
    expect(sumsSolve(fit, LEAST, MOST, true)).toBe(false);
    learn(fit, 0, 5, 1000);
    expect(sumsSolve(fit, LEAST, MOST, true)).toBe(false);
  });

  it("starts at the origin, or is flat, where all samples have one x", () => {
    for (let i = 0; i < 50; i++) learn(fit, 2, 400, <f64>(1000 + i));
    solve(fit);
    isNear(fitSlope(), 200, 0.01);
    expect(fitBase() < 2).toBe(true, `base ${fitBase()}`);
    expect(sumsSolve(fit, 0, MOST, false)).toBe(true);
    isNear(fitBase() + 2 * fitSlope(), 400, 0.01);
    expect(fitSlope() < 20).toBe(true, `slope ${fitSlope()}`);
  });

  it("keeps slope and base within their bounds", () => {
    for (let i = 0; i < 40; i++) fitAdd(fit, <f64>(i % 8), 800 - 90 * <f64>(i % 8), <f64>(1000 + i), 0, 1, 0);
    solve(fit);
    expect(fitSlope()).toBe(LEAST);
    fitReset(fit);
    for (let i = 0; i < 40; i++)
      fitAdd(fit, 1 + <f64>(i % 4), 1e6 * <f64>(1 + (i % 4)), <f64>(1000 + i), 0, 1, 0);
    solve(fit);
    expect(fitSlope()).toBe(MOST);
    fitReset(fit);
    for (let i = 0; i < 40; i++) {
      const x = 2 + <f64>(i % 4);
      fitAdd(fit, x, 100 * (x - 1.5), <f64>(1000 + i), 0, 1, 0);
    }
    solve(fit);
    expect(fitBase()).toBe(0);
  });

  it("ignores samples that are no numbers, negative or without end", () => {
    expect(fitAdd(fit, NaN, 1, 1000, 0, 1, 0)).toBe(false);
    fitAdd(fit, 1, NaN, 1000, 0, 1, 0);
    fitAdd(fit, -1, 1, 1000, 0, 1, 0);
    fitAdd(fit, 1, Infinity, 1000, 0, 1, 0);
    expect(sumsSamples(fit)).toBe(0);
    expect(fitLastMs(fit)).toBe(0);
  });
});

describe("outliers and regimes", () => {
  beforeEach(() => {
    state = SEED;
    fitReset(fit);
    learnLine(fit, 20, 100, 0.05, 200, 1000);
  });

  it("moves hardly for a sample in fifteen that is ten times too slow", () => {
    for (let i = 0; i < 150; i++) {
      const x = random() * 8;
      const y = (20 + 100 * x) * (1 + 0.1 * (random() - 0.5));
      expect(learn(fit, x, i % 15 == 7 ? y * 10 : y, <f64>(4000 + 10 * i))).toBe(false);
    }
    solve(fit);
    isNear(fitSlope(), 100, 0.08);
  });

  it("follows a GPU that is throttled after a handful of samples, and back", () => {
    let changed = 0;
    for (let i = 0; i < RUN_SAMPLES; i++) {
      const x = 1 + random() * 7;
      if (learn(fit, x, 2.5 * (20 + 100 * x), <f64>(5000 + 10 * i))) changed++;
    }
    expect(changed).toBe(1);
    expect(fitRegimeMs(fit)).toBe(<f64>(5000 + 10 * (RUN_SAMPLES - 1)));
    learnLine(fit, 50, 250, 0.05, 5, 5100);
    solve(fit);
    isNear(fitBase() + 4 * fitSlope(), 1050, 0.1);
    learnLine(fit, 20, 100, 0.05, RUN_SAMPLES + 5, 6000);
    solve(fit);
    isNear(fitBase() + 4 * fitSlope(), 420, 0.12);
  });

  it("takes outliers on both sides for noise", () => {
    for (let i = 0; i < 20; i++) {
      const x = 1 + random() * 7;
      expect(learn(fit, x, (20 + 100 * x) * (i % 2 == 0 ? 2 : 0.4), <f64>(5000 + i))).toBe(false);
    }
    expect(fitRegimeMs(fit)).toBe(0);
  });

  it("forgets what is older than a change that another worker saw, once", () => {
    const before = sumsSamples(fit);
    fitRegimeSince(fit, 500);
    expect(sumsSamples(fit)).toBe(before);
    fitRegimeSince(fit, 9000);
    expect(sumsSamples(fit) < 0.05 * before).toBe(true);
    const left = sumsSamples(fit);
    fitRegimeSince(fit, 9000);
    expect(sumsSamples(fit)).toBe(left);
  });
});

describe("forgetting", () => {
  beforeEach(() => {
    state = SEED;
    fitReset(fit);
    fitReset(other);
  });

  it("goes by sample: the newest FIT_MEMORY_SAMPLES decide", () => {
    learnLine(fit, 20, 100, 0.02, 2000, 1000);
    expect(sumsSamples(fit) <= FIT_MEMORY_SAMPLES).toBe(true);
    expect(sumsSamples(fit) > 0.9 * FIT_MEMORY_SAMPLES).toBe(true);
  });

  it("goes by time: half is left after the half-life", () => {
    learn(fit, 1, 100, 1000);
    learn(fit, 1, 100, 1000 + FIT_HALF_LIFE_MS);
    expect(Math.abs(sumsSamples(fit) - 1.5) < 0.02).toBe(true, `${sumsSamples(fit)} samples`);
    expect(shareLeft(-5)).toBe(1);
    expect(Math.abs(shareLeft(2 * FIT_HALF_LIFE_MS) - 0.25) < 1e-9).toBe(true);
  });

  it("adds up over workers: two halves of the samples give the line of all", () => {
    learnLine(fit, 30, 120, 0, 60, 1000);
    learnLine(other, 30, 120, 0, 60, 1000);
    sumsClear(sums);
    sumsAdd(sums, fit, 1);
    sumsAdd(sums, other, 1);
    solve(sums);
    isNear(fitSlope(), 120, 0.01);
    expect(Math.abs(sumsSamples(sums) - sumsSamples(fit) - sumsSamples(other)) < 0.001).toBe(true);
  });

  it("inherits a predecessor's sums unless it has its own", () => {
    learnLine(other, 30, 120, 0, 60, 1000);
    fitInherit(fit, other, 77, 3000);
    expect(sumsSamples(fit)).toBe(sumsSamples(other));
    expect(fitLastMs(fit)).toBe(3000);
    expect(fitRegimeMs(fit)).toBe(77);
    const samples = sumsSamples(fit);
    fitInherit(fit, sums, 99, 4000);
    expect(sumsSamples(fit)).toBe(samples);
  });

  it("keeps a record of the size it says", () => {
    expect(<u32>FIT_BYTES).toBe(72);
    expect(<u32>SUMS_BYTES).toBe(24);
  });
});

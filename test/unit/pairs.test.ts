// Where prompts are computed and answered as one choice: the price of a pair term by term, and against all pairs.
import { beforeAll, describe, expect, test } from "vitest";
import { compileHarness } from "./support/harness.ts";
import { LATENCY_COLUMNS, LatencyFleet } from "./support/latency-fleet.ts";
import { random } from "./support/random.ts";

let module: WebAssembly.Module;
beforeAll(async () => {
  module = await compileHarness("latency");
});

const SPEED = { baseMs: 10, tokenMs: 0.1 };
const PROMPTS = Array.from({ length: 200 }, (_, i) => 200 + ((i * 997) % 8_000));
const NONE = 0xffff_ffff;
/** Mean prefill of the pool's requests that can be elsewhere. */
const MOVABLE_TOKENS = 10_000;

let now = 0;

/** Endpoints that all compute prompts at SPEED, which is known well, and have nothing to do. */
function learnt(count: number, movable = MOVABLE_TOKENS): LatencyFleet {
  const fleet = new LatencyFleet(module, count);
  now = 0;
  for (let row = 0; row < count; row++) now = Math.max(now, fleet.serve(row, PROMPTS, SPEED, 1_000));
  now += 200;
  for (let row = 0; row < count; row++) fleet.clear(row);
  if (movable > 0) fleet.call("poolNoteMovable", 0, movable);
  return fleet;
}

/** Answers that are being generated at the row, and `legs` that only compute a prompt there. */
function answering(fleet: LatencyFleet, row: number, answers: number, legs = 0): void {
  fleet.set(row, LATENCY_COLUMNS.inflightRequests, answers + legs);
  fleet.set(row, LATENCY_COLUMNS.legs, legs);
}

/** Prompts of `tokens` in all wait at the row since just now. */
function queue(fleet: LatencyFleet, row: number, tokens: number): void {
  fleet.set(row, LATENCY_COLUMNS.inflightTokens, tokens);
  fleet.set(row, LATENCY_COLUMNS.prefilling, 1);
  fleet.set(row, LATENCY_COLUMNS.headSinceMs, now);
  fleet.set(row, LATENCY_COLUMNS.headTokens, tokens);
}

interface PairOptions {
  readonly nonCached?: number;
  readonly transferMs?: number;
  readonly gainMs?: number;
  readonly prefill?: readonly number[];
  readonly decode?: readonly number[];
  readonly ttftMs?: number;
}

interface Pair {
  readonly answer: number;
  /** The row itself: −1. */
  readonly prompt: number;
  readonly next: number;
}

function request(fleet: LatencyFleet, uncached: readonly number[], ttftMs: number): void {
  for (const [row, tokens] of uncached.entries()) fleet.set(row, LATENCY_COLUMNS.uncachedTokens, tokens);
  fleet.request({ prompt: Math.max(...uncached) }, now, 1n);
  fleet.call("requestSetTieKey", 0n);
  fleet.call("requestSetSlos", ttftMs, 0);
}

/** Decides as the filter does; all rows both compute and answer unless told otherwise. */
function pairOf(fleet: LatencyFleet, uncached: readonly number[], options: PairOptions = {}): Pair {
  const all = uncached.map((_, row) => row);
  request(fleet, uncached, options.ttftMs ?? 0);
  fleet.call("pairsBegin");
  fleet.candidates([...(options.prefill ?? all)]);
  if (fleet.call("schedule", fleet.plan, 0) > 0) fleet.call("pairsTakePrompt", fleet.call("resultRow", 0));
  fleet.candidates([...(options.decode ?? all)]);
  fleet.call("pairsWhole", options.nonCached ?? 1_000, options.transferMs ?? 0.01, options.gainMs ?? 0);
  fleet.call("schedule", fleet.plan, 0);
  const answer = fleet.call("resultRow", 0);
  const rowOrNone = (row: number): number => (row >>> 0 === NONE ? -1 : row);
  return {
    answer,
    prompt: rowOrNone(fleet.call("pairPrompt", answer)),
    next: rowOrNone(fleet.call("pairPromptNext", answer)),
  };
}

describe("a prompt", () => {
  test("is computed beside the answers only where it is short for them", () => {
    const fleet = learnt(3);
    answering(fleet, 0, 20);
    const long = pairOf(fleet, [8_000, 8_000, 8_000]);
    expect(long.answer).toBe(0);
    expect([1, 2]).toContain(long.prompt);
    expect(long.next).toBe(3 - long.prompt);
    expect(pairOf(fleet, [999, 8_000, 8_000])).toMatchObject({ answer: 0, prompt: -1 });
    expect(pairOf(fleet, [999, 999, 999])).toMatchObject({ prompt: -1 });
  });

  test("passes by endpoints whose queues are long, and is computed where it is answered when all are", () => {
    const fleet = learnt(3);
    answering(fleet, 0, 5);
    queue(fleet, 1, 100_000);
    expect(pairOf(fleet, [8_000, 8_000, 8_000])).toMatchObject({ answer: 0, prompt: 2 });
    queue(fleet, 2, 100_000);
    expect(pairOf(fleet, [8_000, 8_000, 8_000])).toMatchObject({ answer: 0, prompt: -1 });
  });

  test("goes where it is cached, if that is worth the transfer", () => {
    const fleet = learnt(3);
    answering(fleet, 0, 20);
    expect(pairOf(fleet, [20_000, 20_000, 2_000])).toMatchObject({ answer: 0, prompt: 2 });
    expect(pairOf(fleet, [20_000, 20_000, 2_000], { transferMs: 1 })).toMatchObject({ answer: 2 });
  });

  test("stays where another endpoint is not cheaper by the least gain", () => {
    const fleet = learnt(2);
    answering(fleet, 0, 4);
    const options = { decode: [0], prefill: [1] };
    expect(pairOf(fleet, [8_000, 8_000], options).prompt).toBe(1);
    expect(pairOf(fleet, [8_000, 8_000], { ...options, gainMs: 3_000 }).prompt).toBe(-1);
  });

  test("stays where no other endpoint computes any", () => {
    const fleet = learnt(2);
    const pair = pairOf(fleet, [8_000, 8_000], { decode: [0, 1], prefill: [0] });
    expect(fleet.call("pairHasPrompt", 0)).toBe(0);
    expect(fleet.call("pairHasPrompt", 1)).toBe(1);
    expect(pairOf(fleet, [8_000, 8_000], { decode: [0], prefill: [0] })).toMatchObject({
      answer: 0,
      prompt: -1,
      next: -1,
    });
    expect([0, 1]).toContain(pair.answer);
  });
});

describe("an answer", () => {
  test("goes where there are most, and not where prompts of others are computed", () => {
    const fleet = learnt(4);
    answering(fleet, 0, 6);
    answering(fleet, 1, 12);
    answering(fleet, 2, 0, 30);
    expect(pairOf(fleet, [8_000, 8_000, 8_000, 8_000]).answer).toBe(1);
  });

  test("does not gather while requests bring nothing that could be elsewhere", () => {
    const fleet = learnt(3, 0);
    answering(fleet, 0, 12);
    expect(pairOf(fleet, [600, 600, 600]).answer).not.toBe(0);
    expect(fleet.call("isLittleMovable", 0, SPEED.tokenMs)).toBe(1);
    fleet.call("poolNoteMovable", 0, 64 * MOVABLE_TOKENS);
    expect(fleet.call("isLittleMovable", 0, SPEED.tokenMs)).toBe(0);
    expect(pairOf(fleet, [600, 600, 600]).answer).toBe(0);
  });

  test.each([
    ["as much as its prompts take, while the engine tells nothing", Number.NaN, Number.NaN, false],
    ["as much as its prompts take, where the engine does not run them yet", 0, 0, false],
    ["what the engine uses, where prompts share blocks", 0.3, 12, true],
  ])("fills a cache by %s", (_, kvUsage, running, fits) => {
    const fleet = learnt(3);
    answering(fleet, 0, 12);
    fleet.call("poolNoteTokens", 0, 8_000, 83_000);
    fleet.set(0, LATENCY_COLUMNS.contextTokens, 999_000);
    fleet.set(0, LATENCY_COLUMNS.kvUsage, kvUsage);
    fleet.set(0, LATENCY_COLUMNS.running, running);
    answering(fleet, 1, 6);
    const pair = pairOf(fleet, [60_000, 60_000, 60_000]);
    expect(pair.answer).toBe(fits ? 0 : 1);
  });

  test("has its prompt computed where a wish for the first token is kept", () => {
    const fleet = learnt(3);
    answering(fleet, 0, 25);
    queue(fleet, 1, 12_000);
    queue(fleet, 2, 12_000);
    const uncached = [12_000, 12_000, 12_000];
    const decode = [0];
    expect(pairOf(fleet, uncached, { decode }).prompt).toBeGreaterThan(0);
    expect(pairOf(fleet, uncached, { decode, ttftMs: 1_300 }).prompt).toBe(-1);
  });

  test("stays where its prompt is computed if the wish for the first token is kept there and the transfer breaks it", () => {
    const fleet = learnt(3);
    answering(fleet, 0, 25);
    // Computed in 1,210 ms, transferred in 240.
    const uncached = [12_000, 12_000, 12_000];
    const transferMs = 0.02;
    const pair = (ttftMs: number): Pair => pairOf(fleet, uncached, { transferMs, ttftMs });
    expect(pair(0)).toMatchObject({ answer: 0 });
    expect(pair(1_500)).toMatchObject({ answer: 0 });
    expect(pair(1_300)).toMatchObject({ prompt: -1 });
    expect([1, 2]).toContain(pair(1_300).answer);
    // Missed by all.
    expect(pair(1_100)).toMatchObject({ answer: 0 });
  });

  test("goes to the others all the same where all queues are long", () => {
    const fleet = learnt(3);
    answering(fleet, 0, 12);
    for (const row of [0, 1, 2]) queue(fleet, row, 100_000);
    const options = { transferMs: 0.02, ttftMs: 11_300 };
    const pair = pairOf(fleet, [12_000, 12_000, 12_000], options);
    expect(pair.answer).toBe(0);
    expect([1, 2]).toContain(pair.prompt);
  });
});

describe("legs", () => {
  test("are told to the other workers, and are forgotten with their requests", () => {
    const [a, b] = [new LatencyFleet(module, 2), new LatencyFleet(module, 2)];
    const tell = (): void => {
      a.call("cellBuild", 7n, 1_000, 0n);
      const ptr = b.lay(a.built("cell"));
      b.call("cellsBegin");
      b.call("cellAdd", ptr);
      b.call("cellsEnd");
    };
    const seen = (): number[] =>
      [a, b].flatMap((one) => [
        one.get(1, LATENCY_COLUMNS.inflightRequests),
        one.get(1, LATENCY_COLUMNS.legs),
        one.get(1, LATENCY_COLUMNS.prefilling),
      ]);
    a.call("reserveLegAt", 1, 500, 900, 1_000);
    a.call("reserve", 1, 300, 300, 1_000);
    tell();
    expect(seen()).toEqual([2, 1, 2, 2, 1, 2]);
    a.call("releaseLegAt", 1, 500, 900);
    tell();
    expect(seen()).toEqual([1, 0, 1, 1, 0, 1]);
    b.call("cellsBegin");
    expect(b.get(1, LATENCY_COLUMNS.legs)).toBe(0);
  });
});

test("the pair found in two passes is the cheapest of all pairs, but for what counts as equal", () => {
  const { seed, next: draw } = random();
  console.info(`seed ${seed}`);
  const total = (fleet: LatencyFleet, i: number): number => -fleet.call("totalOf", i);
  for (let round = 0; round < 30; round++) {
    const count = 2 + Math.floor(draw() * 18);
    const rows = Array.from({ length: count }, (_, row) => row);
    const fleet = learnt(count);
    for (const row of rows) {
      answering(fleet, row, Math.floor(draw() * 20), Math.floor(draw() * 4));
      if (draw() < 0.5) queue(fleet, row, Math.floor(draw() * 30_000));
    }
    const uncached = rows.map(() => Math.floor(draw() * 12_000));
    const transferMs = draw() * 0.05;
    const gainMs = draw() * 50;
    request(fleet, uncached, 0);
    fleet.call("pairsBegin");
    fleet.candidates(rows);
    fleet.call("schedule", fleet.plan, 0);
    const prompt = rows.map((row) => total(fleet, row));
    fleet.candidates(rows);
    fleet.call("pairsWhole", 1_000, transferMs, gainMs);
    fleet.call("schedule", fleet.plan, 0);
    // No other endpoint was taken for the prompt: all are computed where they are answered.
    const answer = rows.map((row) => total(fleet, row) - prompt[row]!);
    const cost = (p: number, d: number): number => {
      if (p === d) return prompt[d]! + answer[d]!;
      if (uncached[d]! < 1_000) return Infinity;
      return prompt[p]! + transferMs * uncached[d]! + gainMs + answer[d]!;
    };
    const least = Math.min(...rows.flatMap((p) => rows.map((d) => cost(p, d))));
    const pair = pairOf(fleet, uncached, { transferMs, gainMs });
    const p = pair.prompt < 0 ? pair.answer : pair.prompt;
    const equalMs = 0.1 * SPEED.tokenMs * 12_000 + 0.1 * SPEED.baseMs + 2;
    const found = cost(p, pair.answer);
    expect(found, `round ${round}`).toBeGreaterThanOrEqual(least - 1e-6);
    expect(found, `round ${round}`).toBeLessThanOrEqual(least + 2 * equalMs);
    expect(pair.next === -1 || (pair.next !== p && pair.next !== pair.answer)).toBe(true);
  }
});

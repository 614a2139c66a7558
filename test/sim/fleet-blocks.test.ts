// Block hashes of simulated requests: what shares a prefix shares exactly the blocks within it.
import { describe, expect, it } from "vitest";
import { hashRequestBlocks, RequestBlocks } from "../../host-sim/fleet/blocks.ts";
import type { FleetRequest, Span } from "../../host-sim/fleet/types.ts";
import { hashBlocks } from "../../host-sim/model-server/block-hash.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { fleetRequest, span } from "./support/fleet.ts";

const ROUNDS = 300;

function withSpans(
  spans: readonly Span[],
  outputTokens = 1,
  fields: Partial<FleetRequest> = {},
): FleetRequest {
  return fleetRequest(fields.index ?? 0, 0, 0, outputTokens, { spans, ...fields });
}

/** How many leading hashes are equal. */
function shared(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let count = 0;
  while (count < a.length && count < b.length && a[count] === b[count]) count++;
  return count;
}

/** The request's tokens one by one: two requests have equal tokens exactly where their spans are equal. */
function tokensOf(request: FleetRequest): Int32Array {
  const tokens: number[] = [];
  const write = (id: number, count: number): void => {
    for (let i = 0; i < count; i++) tokens.push(id * 1000 + i);
  };
  for (const { id, tokens: count } of request.spans) write(id, count);
  write(request.answerSpan ?? 900_000 + request.index, request.outputTokens);
  return Int32Array.from(tokens);
}

describe("hashRequestBlocks", () => {
  it("gives one hash a full block of prompt and answer, none of them 0", () => {
    const hashes = hashRequestBlocks(withSpans([span(1, 9), span(2, 4)], 6), 4);
    expect(hashes.length).toBe(4);
    for (const hash of hashes) expect(Number.isSafeInteger(hash) && hash > 0).toBe(true);
    expect(new Set(hashes).size).toBe(4);
    expect(hashRequestBlocks(withSpans([span(1, 3)], 1), 8).length).toBe(0);
  });

  it("shares the blocks that end within the common spans, wherever the spans begin", () => {
    const base = [span(1, 5), span(2, 6)];
    const left = hashRequestBlocks(withSpans([...base, span(3, 9)]), 4);
    const right = hashRequestBlocks(withSpans([...base, span(4, 9)]), 4);
    // 11 common tokens are two whole blocks of 4; the third has one token of its own.
    expect(shared(left, right)).toBe(2);
    for (let i = 2; i < left.length; i++) expect(left[i]).not.toBe(right[i]);
  });

  it("finds an answer again as a span of the next prompt, also within a block that the prompt began", () => {
    const first = hashRequestBlocks(withSpans([span(1, 6)], 7, { answerSpan: 50 }), 4);
    const next = [span(1, 6), { id: 50, tokens: 7, role: "assistant" } as const, span(2, 20)];
    expect(shared(first, hashRequestBlocks(withSpans(next), 4))).toBe(3);
  });

  it("keeps answers that nobody repeats apart, by request and from every span", () => {
    const own = (index: number): Float64Array => hashRequestBlocks(withSpans([span(1, 4)], 8, { index }), 4);
    expect(shared(own(7), own(8))).toBe(1);
    expect(shared(own(7), hashRequestBlocks(withSpans([span(1, 4)], 8, { answerSpan: 7 }), 4))).toBe(1);
    expect(shared(own(7), own(7))).toBe(3);
  });

  it("shares nothing between an adapter and the base model, or between ids that differ above 2^32", () => {
    const spans = [span(1, 16)];
    expect(
      shared(
        hashRequestBlocks(withSpans(spans), 4),
        hashRequestBlocks(withSpans(spans, 1, { lora: "a" }), 4),
      ),
    ).toBe(0);
    expect(
      shared(
        hashRequestBlocks(withSpans(spans), 4),
        hashRequestBlocks(withSpans([span(2 ** 32 + 1, 16)]), 4),
      ),
    ).toBe(0);
  });

  const seed = (Date.now() ^ process.pid) >>> 0;
  it(`shares as many blocks as hashing every token would (seed ${seed})`, () => {
    const random = new Random(seed);
    const draw = (index: number): FleetRequest => {
      const spans = Array.from({ length: random.integer(1, 5) }, (_, i) =>
        span(random.integer(0, 1) + 2 * i, 7 + 3 * i),
      );
      const answer = random.uniform() < 0.5 ? { answerSpan: random.integer(20, 21) } : {};
      return withSpans(spans, random.integer(1, 9), { index, ...answer });
    };
    for (let round = 0; round < ROUNDS; round++) {
      const [left, right] = [draw(1), draw(2)];
      const blockTokens = random.integer(1, 12);
      const root = {};
      const bySpan = shared(hashRequestBlocks(left, blockTokens), hashRequestBlocks(right, blockTokens));
      const byToken = shared(
        hashBlocks(tokensOf(left), blockTokens, root),
        hashBlocks(tokensOf(right), blockTokens, root),
      );
      expect(bySpan, JSON.stringify({ round, blockTokens, left, right })).toBe(byToken);
    }
  });
});

describe("RequestBlocks", () => {
  it("gives the prompt's full blocks alone, computes each size once, and forgets what ended", () => {
    const blocks = new RequestBlocks();
    const request = withSpans([span(1, 10)], 6);
    expect(blocks.all(request, 4).length).toBe(4);
    expect([...blocks.prompt(request, 4)]).toEqual([...blocks.all(request, 4)].slice(0, 2));
    const known = blocks.all(request, 4);
    expect(blocks.all(request, 4)).toBe(known);
    expect(blocks.all(request, 5).length).toBe(3);
    blocks.release(request);
    expect(blocks.all(request, 4)).not.toBe(known);
  });
});

// The workload: seeded, Poisson, and made of conversations whose prefixes really repeat.
import { describe, expect, it } from "vitest";
import { readChatCall } from "../../host-sim/model-server/calls.ts";
import { SIMULATED_MODEL } from "../../host-sim/model-server/text-model.ts";
import { defaultWorkload, generateWorkload, WorkloadOptionsError } from "../../host-sim/workload/generate.ts";
import { Random } from "../../host-sim/workload/random.ts";
import type { PlannedRequest } from "../../host-sim/workload/types.ts";

const PLAN = generateWorkload(defaultWorkload({ requests: 400, seed: 7 }));

function messagesOf(request: PlannedRequest): { role: string; content: string }[] {
  return JSON.parse(request.body).messages;
}

describe("generateWorkload", () => {
  it("repeats itself byte for byte with the same seed, and not with another", () => {
    const options = defaultWorkload({ requests: 60, seed: 11 });
    expect(generateWorkload(options)).toEqual(generateWorkload(options));
    expect(generateWorkload({ ...options, seed: 12 })).not.toEqual(generateWorkload(options));
  });

  it("does not change earlier requests when more are asked for", () => {
    const options = defaultWorkload({ requests: 40, seed: 11 });
    expect(generateWorkload({ ...options, requests: 80 }).slice(0, 40)).toEqual(generateWorkload(options));
  });

  it("spaces arrivals exponentially around the rate", () => {
    const plan = generateWorkload(
      defaultWorkload({ requests: 3000, ratePerSecond: 50, seed: 5, shares: oneOffOnly }),
    );
    const gaps = plan.map(({ atMs }, i) => atMs - (plan[i - 1]?.atMs ?? 0));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    expect(Math.abs(mean / 20 - 1)).toBeLessThan(0.06);
    expect(Math.abs(deviation / mean - 1)).toBeLessThan(0.08);
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(0);
  });

  it("draws the kinds by their shares", () => {
    const counts = new Map<string, number>();
    for (const { kind } of PLAN) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    for (const [kind, share] of Object.entries(defaultWorkload().shares)) {
      expect(Math.abs(counts.get(kind)! / PLAN.length - share), kind).toBeLessThan(0.08);
    }
  });

  it("carries the whole conversation in every later turn, the expected answer included", () => {
    const last = new Map<string, PlannedRequest>();
    let laterTurns = 0;
    for (const request of PLAN.filter(({ kind }) => kind === "chat" || kind === "agent")) {
      const before = last.get(request.session);
      last.set(request.session, request);
      if (before === undefined) continue;
      laterTurns++;
      const earlier = messagesOf(before);
      const messages = messagesOf(request);
      expect(messages.slice(0, earlier.length)).toEqual(earlier);
      expect(messages[earlier.length]).toEqual({ role: "assistant", content: before.answer });
      expect(messages).toHaveLength(earlier.length + 2);
      expect(request.turn).toBe(before.turn + 1);
    }
    expect(laterTurns).toBeGreaterThan(PLAN.length / 4);
  });

  it("shares system prompts between agents, texts between questions, nothing between one-off prompts", () => {
    const firsts = (kind: string, part: number): number => {
      const texts = PLAN.filter((request) => request.kind === kind).map((request) => {
        return messagesOf(request)[part]!.content.slice(0, 2000);
      });
      return new Set(texts).size / texts.length;
    };
    expect(firsts("agent", 0)).toBeLessThan(0.1);
    expect(firsts("document", 1)).toBeLessThan(0.4);
    expect(firsts("one-off", 0)).toBe(1);
  });

  it("knows prompt lengths as the server counts them, and orders fields as OpenAI's client does", () => {
    for (const request of PLAN.slice(0, 40)) {
      const body = JSON.parse(request.body);
      expect(readChatCall(body, SIMULATED_MODEL).prompts[0]!).toHaveLength(request.promptTokens);
      expect(Object.keys(body).slice(0, 2)).toEqual(["messages", "model"]);
      expect(body.max_tokens).toBe(request.outputTokens);
    }
  });

  it.each([
    ["no requests", { requests: 0 }],
    ["too many requests", { requests: 100_001 }],
    ["no rate", { ratePerSecond: 0 }],
    ["shares that do not add up", { shares: { chat: 1, agent: 1, document: 0, "one-off": 0 } }],
  ])("refuses %s", (_, wrong) => {
    expect(() => generateWorkload(defaultWorkload(wrong))).toThrow(WorkloadOptionsError);
  });
});

const oneOffOnly = { chat: 0, agent: 0, document: 0, "one-off": 1 };

describe("Random", () => {
  it("has the promised distributions", () => {
    const random = new Random(1);
    const many = <T>(draw: () => T): T[] => Array.from({ length: 20_000 }, draw);
    const mean = (values: number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean(many(() => random.uniform()))).toBeCloseTo(0.5, 1);
    expect(Math.abs(mean(many(() => random.exponential(8))) / 8 - 1)).toBeLessThan(0.05);
    const whole = many(() => random.integer(3, 5));
    expect([Math.min(...whole), Math.max(...whole)]).toEqual([3, 5]);
    const lengths = many(() => random.logNormal(100, 0.5, 10, 300)).sort((a, b) => a - b);
    expect(Math.abs(lengths[10_000]! / 100 - 1)).toBeLessThan(0.05);
    expect([lengths[0]! >= 10, lengths.at(-1)]).toEqual([true, 300]);
    const ranks = many(() => random.zipf(10));
    const share = (rank: number): number => ranks.filter((each) => each === rank).length / ranks.length;
    expect(share(0) / share(9)).toBeGreaterThan(7);
    expect(new Set(ranks).size).toBe(10);
  });

  it("forks streams that do not depend on each other's use", () => {
    const [a, b] = [new Random(3), new Random(3)];
    const [left, right] = [a.fork(), b.fork()];
    left.uniform();
    expect(a.uniform()).toBe(b.uniform());
    expect(left.uniform()).not.toBe(right.uniform());
  });
});

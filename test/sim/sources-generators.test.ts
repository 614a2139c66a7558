// Built-in workloads: seeded, at the rate asked for, and each with the sharing that it is about.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { FleetRequest } from "../../host-sim/fleet/types.ts";
import { defaultEngineConfig } from "../../host-sim/model-server/engine.ts";
import {
  estimateLoad,
  GENERATORS,
  generate,
  reuseCeiling,
  SourceOptionsError,
} from "../../host-sim/fleet/sources/index.ts";
import { arrivalTimes } from "../../host-sim/fleet/sources/arrivals.ts";
import { CONVERSATION_TOKENS_MAX } from "../../host-sim/fleet/sources/conversations.ts";
import { REPLICAS_MAX } from "../../host-sim/fleet/check-run.ts";
import { WARM_UP_REQUESTS_MAX } from "../../host-sim/fleet/sources/generate.ts";
import { ReadyQueue } from "../../host-sim/fleet/sources/ready-queue.ts";
import { nominalAnswerMs } from "../../host-sim/fleet/sources/turns.ts";
import { Random } from "../../host-sim/workload/random.ts";

const NAMES = GENERATORS.map(({ name }) => name);
const COUNT = 3000;

function requestsOf(name: string, options: Parameters<typeof generate>[1] = {}): readonly FleetRequest[] {
  return generate(name, { requests: COUNT, seed: 5, ...options }).workload.requests;
}

function share(requests: readonly FleetRequest[], holds: (request: FleetRequest) => boolean): number {
  return requests.filter(holds).length / requests.length;
}

/** Share of the requests in a stretch of the run, from and to as shares of its length. */
function between(requests: readonly FleetRequest[], from: number, to: number): readonly FleetRequest[] {
  const endMs = requests.at(-1)!.arrivalMs;
  return requests.filter(({ arrivalMs }) => arrivalMs >= from * endMs && arrivalMs < to * endMs);
}

describe.each(NAMES)("the workload %s", (name) => {
  it("repeats itself with the same seed and not with another", () => {
    const options = { requests: 300, seed: 11 };
    expect(generate(name, options)).toEqual(generate(name, options));
    expect(generate(name, { ...options, seed: 12 }).workload).not.toEqual(generate(name, options).workload);
  });

  it("is in order, and its prompts are as long as their spans", () => {
    let earlierMs = 0;
    for (const [index, request] of requestsOf(name).entries()) {
      expect(request.index).toBe(index);
      expect(request.arrivalMs).toBeGreaterThanOrEqual(earlierMs);
      earlierMs = request.arrivalMs;
      expect(request.spans.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(request.promptTokens);
      expect(request.promptTokens).toBeLessThan(128_000);
      expect(request.outputTokens).toBeGreaterThanOrEqual(1);
      expect(request.spans.every(({ tokens }) => Number.isInteger(tokens) && tokens >= 1)).toBe(true);
    }
  });

  it("gives a span one length and one role", () => {
    const seen = new Map<number, string>();
    const differing: string[] = [];
    for (const { spans, answerSpan, outputTokens } of requestsOf(name)) {
      const all = [...spans];
      if (answerSpan !== undefined) all.push({ id: answerSpan, tokens: outputTokens, role: "assistant" });
      for (const { id, tokens, role } of all) {
        const content = `${tokens} ${role}`;
        const before = seen.get(id) ?? content;
        if (before !== content) differing.push(`span ${id}: ${before}, then ${content}`);
        seen.set(id, content);
      }
    }
    expect(seen.size).toBeGreaterThan(COUNT / 2);
    expect(differing).toEqual([]);
  });

  it.each([1, 2, 3])("meets the rate asked for within one part in twenty (seed %i)", (seed) => {
    for (const ratePerSecond of [7, 150]) {
      const requests = requestsOf(name, { seed, ratePerSecond });
      const rate = (requests.length / requests.at(-1)!.arrivalMs) * 1000;
      expect(Math.abs(rate / ratePerSecond - 1)).toBeLessThan(0.05);
    }
  });

  it("loads the fleet at its own rate to about 70 % with the best reuse", () => {
    const { workload, replicas } = generate(name);
    expect(replicas).toHaveLength(16);
    const { load } = estimateLoad(workload, replicas);
    expect(load).toBeGreaterThan(0.55);
    expect(load).toBeLessThan(0.8);
  });
});

describe("generate", () => {
  it("scales the rate with the fleet and by the factor", () => {
    const { ratePerSecond } = GENERATORS.find((generator) => generator.name === "chats")!;
    expect(generate("chats", { requests: 10, replicas: 8 }).ratePerSecond).toBe(ratePerSecond / 2);
    expect(generate("chats", { requests: 10, rateFactor: 1.5 }).ratePerSecond).toBe(ratePerSecond * 1.5);
    expect(generate("chats", { requests: 10, ratePerSecond: 3, rateFactor: 2 }).ratePerSecond).toBe(6);
  });

  it("passes on model and engine", () => {
    const engine = { ...defaultEngineConfig(), sequencesMax: 7 };
    const { workload, replicas } = generate("short", { requests: 3, replicas: 2, engine, model: "m" });
    expect(workload.requests.every(({ model }) => model === "m")).toBe(true);
    expect(replicas).toEqual([
      { engine, role: "both" },
      { engine, role: "both" },
    ]);
  });

  it("bounds the warm-up: at high rates it is too short for anyone to be back", () => {
    const ratePerSecond = 2 * WARM_UP_REQUESTS_MAX;
    const requests = requestsOf("chats", { requests: 200, ratePerSecond });
    expect(requests.every(({ spans }) => spans.length === 2)).toBe(true);
  });

  it.each([
    ["nothing", {}, /workload is "nothing", expected one of chats, agents,/],
    ["chats", { requests: 0 }, /requests is 0, expected an integer from 1 to 1000000/],
    ["chats", { requests: 1_000_001 }, /requests is 1000001/],
    ["chats", { requests: 2.5 }, /requests is 2\.5/],
    ["chats", { ratePerSecond: 0 }, /ratePerSecond is 0, expected a number > 0/],
    ["chats", { ratePerSecond: Number.POSITIVE_INFINITY }, /ratePerSecond/],
    ["chats", { rateFactor: -1 }, /rateFactor is -1/],
    ["chats", { seed: 2 ** 32 }, /seed is 4294967296/],
    ["chats", { replicas: 0 }, /replicas is 0, expected an integer from 1/],
    ["chats", { replicas: REPLICAS_MAX + 1 }, /replicas is/],
    ["failures", { replicas: 4 }, /replicas is 4, expected an integer from 5/],
    ["heterogeneous", { replicas: 1 }, /replicas is 1, expected an integer from 2/],
  ])("refuses %s %o", (name, options, message) => {
    expect(() => generate(name, options)).toThrow(SourceOptionsError);
    expect(() => generate(name, options)).toThrow(message);
  });
});

describe("docs/SIMULATOR.md", () => {
  const text = readFileSync(new URL("../../docs/SIMULATOR.md", import.meta.url), "utf8");
  const [listed] = text.split("## Policies");
  const rows = [...listed!.matchAll(/^\| `([\w-]+)` +\|([^|]+)\|([^|]+)\|([^|]+)\|([^|]+)%/gm)];
  const number = (cell: string | undefined): number => Number(cell!.replaceAll(",", ""));

  it("lists the workloads in their order", () => {
    expect(rows.map(([, name]) => name)).toEqual(NAMES);
  });

  it.each(NAMES)("has the figures of %s", (name) => {
    const row = rows.find(([, listed]) => listed === name)!;
    const { workload, ratePerSecond } = generate(name);
    const { requests } = workload;
    const promptTokens = requests.reduce((sum, request) => sum + request.promptTokens, 0) / requests.length;
    expect(row.slice(2).map(number)).toEqual([
      requests.length,
      ratePerSecond,
      Math.round(promptTokens),
      Math.round(reuseCeiling(workload) * 100),
    ]);
  });
});

describe("conversations", () => {
  it.each(["chats", "agents", "lora", "multi-tenant"])(
    "of %s repeat all that was said, the answer included",
    (name) => {
      const last = new Map<string, FleetRequest>();
      let laterTurns = 0;
      for (const request of requestsOf(name)) {
        const before = last.get(request.session);
        last.set(request.session, request);
        expect(request.promptTokens).toBeLessThan(CONVERSATION_TOKENS_MAX + 10_000);
        if (before === undefined) continue;
        laterTurns++;
        const heard = before.spans.length;
        expect(request.spans.slice(0, heard)).toEqual(before.spans);
        const answer = { id: before.answerSpan, tokens: before.outputTokens, role: "assistant" };
        expect(request.spans[heard]).toEqual(answer);
        expect(request.spans).toHaveLength(heard + 2);
        expect(request.lora).toBe(before.lora);
        expect(request.arrivalMs).toBeGreaterThan(before.arrivalMs + nominalAnswerMs(before.outputTokens));
      }
      expect(laterTurns).toBeGreaterThan(COUNT / 10);
    },
  );

  it("are under way when the run begins", () => {
    const first = requestsOf("chats").slice(0, 200);
    expect(share(first, ({ spans }) => spans.length > 2)).toBeGreaterThan(0.6);
  });

  it("do not name an answer that nobody will repeat", () => {
    const answers = new Set(requestsOf("chats").flatMap(({ spans }) => spans.map(({ id }) => id)));
    const requests = requestsOf("chats");
    const early = between(requests, 0, 0.2).filter(({ answerSpan }) => answerSpan !== undefined);
    expect(share(early, ({ answerSpan }) => answers.has(answerSpan!))).toBeGreaterThan(0.5);
    expect(share(requests, ({ answerSpan }) => answerSpan === undefined)).toBeGreaterThan(0.05);
  });
});

describe("what each workload is about", () => {
  it("agents: long shared instructions, tool results, turns that follow fast", () => {
    const requests = requestsOf("agents");
    expect(new Set(requests.map(({ spans }) => spans[0]!.id)).size).toBe(12);
    expect(share(requests, ({ spans }) => spans.at(-1)!.role === "tool")).toBeGreaterThan(0.8);
    expect(reuseCeiling({ name: "", requests })).toBeGreaterThan(0.85);
  });

  it("rag: popular documents, each question new and behind its document", () => {
    const requests = requestsOf("rag");
    const counts = new Map<string, number>();
    for (const { session } of requests) counts.set(session, (counts.get(session) ?? 0) + 1);
    expect(Math.max(...counts.values()) / requests.length).toBeGreaterThan(0.08);
    expect(new Set(requests.map(({ spans }) => spans.at(-1)!.id)).size).toBe(COUNT);
    expect(new Set(requests.map(({ spans }) => spans[1]!.id)).size).toBe(counts.size);
  });

  it("rag-shuffled: the same passages in other orders, so that little of them is a shared prefix", () => {
    const requests = requestsOf("rag-shuffled");
    const passages = requests.flatMap(({ spans }) => spans.slice(1, 5));
    expect(new Set(passages.map(({ id }) => id)).size).toBeLessThan(passages.length / 5);
    expect(requests.every(({ spans }) => new Set(spans.map(({ id }) => id)).size === spans.length)).toBe(
      true,
    );
    expect(reuseCeiling({ name: "", requests })).toBeLessThan(0.6);
  });

  it("bursts: ten times the arrivals at times, chats otherwise", () => {
    const requests = requestsOf("bursts", { requests: 10_000 });
    const counts = Array.from({ length: 200 }, (_, i) => between(requests, i / 200, (i + 1) / 200).length);
    counts.sort((a, b) => a - b);
    expect(counts[190]! / counts[40]!).toBeGreaterThan(5);
    expect(counts[190]! / counts[40]!).toBeLessThan(20);
  });

  it("viral: one prompt is half of the middle third and nothing before and after", () => {
    const requests = requestsOf("viral");
    const viral = ({ session }: FleetRequest): boolean => session === "viral";
    const { arrivalMs: endMs } = requests.at(-1)!;
    expect(share(between(requests, 0.34, 0.66), viral)).toBeGreaterThan(0.44);
    expect(share(between(requests, 0.34, 0.66), viral)).toBeLessThan(0.56);
    expect(share(between(requests, 0, 0.32), viral)).toBe(0);
    expect(requests.filter((request) => request.arrivalMs > 0.68 * endMs).some(viral)).toBe(false);
    expect(new Set(requests.filter(viral).map(({ spans }) => spans[0]!.id)).size).toBe(1);
  });

  it("failures: replicas fail, join, slow down, recover and drain, in order and within the run", () => {
    const { workload, replicas } = generate("failures", { requests: 500, replicas: 5 });
    const events = workload.events!;
    expect(new Set(events.map(({ kind }) => kind))).toEqual(new Set(["fail", "join", "slow", "drain"]));
    expect(events.map(({ atMs }) => atMs)).toEqual(events.map(({ atMs }) => atMs).sort((a, b) => a - b));
    expect(events.at(-1)!.atMs).toBeLessThan(workload.requests.at(-1)!.arrivalMs);
    expect(events.every(({ replica }) => replica >= 0 && replica < replicas.length)).toBe(true);
    expect(events.find(({ replica }) => replica === 4)!.kind).toBe("join");
    expect(
      events.filter(({ kind }) => kind === "slow").map((event) => "factor" in event && event.factor),
    ).toEqual([3, 1]);
  });

  it("heterogeneous: half of the fleet has half the speed and half the memory", () => {
    const { replicas } = generate("heterogeneous", { requests: 10, replicas: 6 });
    const engine = defaultEngineConfig();
    const slow = replicas.filter(
      (replica) => replica.engine.rates.prefillMsPerToken > engine.rates.prefillMsPerToken,
    );
    expect(slow).toHaveLength(3);
    for (const { engine: small } of slow) {
      expect(small.blockCount).toBe(Math.floor(engine.blockCount / 2));
      for (const rate of [
        "overheadMs",
        "weightsMs",
        "prefillMsPerToken",
        "decodeMsPerSequence",
        "contextMsPerToken",
      ] as const) {
        expect(small.rates[rate]).toBe(2 * engine.rates[rate]);
      }
    }
  });

  it.each([1, 2, 3, 4, 5, 6])(
    "lora: 4 to 16 adapters, some far more popular than others (seed %i)",
    (seed) => {
      const requests = requestsOf("lora", { seed });
      const counts = new Map<string, number>();
      for (const { lora } of requests) if (lora !== undefined) counts.set(lora, (counts.get(lora) ?? 0) + 1);
      expect(counts.size).toBeGreaterThanOrEqual(4);
      expect(counts.size).toBeLessThanOrEqual(16);
      expect(Math.max(...counts.values())).toBeGreaterThan(2 * Math.min(...counts.values()));
      expect(share(requests, ({ lora }) => lora === undefined)).toBeGreaterThan(0.08);
    },
  );

  it("short: 50 to 300 tokens that nobody shares", () => {
    const requests = requestsOf("short");
    expect(Math.min(...requests.map(({ promptTokens }) => promptTokens))).toBe(50);
    expect(Math.max(...requests.map(({ promptTokens }) => promptTokens))).toBe(300);
    expect(reuseCeiling({ name: "", requests })).toBe(0);
  });

  it("long: a few prompts of 30,000 tokens and more have most of the tokens to compute", () => {
    const requests = requestsOf("long");
    const long = requests.filter(({ session }) => session.startsWith("long-"));
    expect(long.length / requests.length).toBeGreaterThan(0.035);
    expect(long.length / requests.length).toBeLessThan(0.065);
    expect(Math.min(...long.map(({ promptTokens }) => promptTokens))).toBeGreaterThanOrEqual(30_000);
    expect(reuseCeiling({ name: "", requests: long })).toBe(0);
  });

  it("multi-tenant: ten long system prompts are nearly all of the tokens", () => {
    const requests = requestsOf("multi-tenant");
    const systems = new Map(requests.map(({ spans }) => [spans[0]!.id, spans[0]!.tokens]));
    expect(systems.size).toBe(10);
    expect(Math.min(...systems.values())).toBeGreaterThanOrEqual(8000);
    expect(reuseCeiling({ name: "", requests })).toBeGreaterThan(0.9);
  });

  it("days: eight times as many of each at noon as at midnight, in one proportion", () => {
    const requests = requestsOf("days", { requests: 12_000 });
    const parts = [between(requests, 0, 0.05), between(requests, 0.45, 0.55), between(requests, 0.95, 1)];
    const isDocument = ({ session }: FleetRequest): boolean => session.startsWith("document");
    const count = (part: readonly FleetRequest[], isOne: (request: FleetRequest) => boolean): number =>
      part.filter(isOne).length;
    for (const isOne of [isDocument, (one: FleetRequest) => !isDocument(one)]) {
      const [first, noon, last] = parts.map((part) => count(part, isOne));
      expect(noon! / (first! + last!)).toBeGreaterThan(6);
      expect(noon! / (first! + last!)).toBeLessThan(10);
    }
    expect(share(requests, isDocument)).toBeCloseTo(0.125, 2);
  });

  it("shifts: decode is short in the middle, prefill at the ends", () => {
    const requests = requestsOf("shifts");
    const shareOfDocuments = (part: readonly FleetRequest[]): number =>
      share(part, ({ session }) => session.startsWith("document"));
    expect(shareOfDocuments(between(requests, 0.4, 0.6))).toBeLessThan(0.05);
    const [first, last] = [between(requests, 0, 0.1), between(requests, 0.9, 1)];
    for (const part of [first, last]) expect(shareOfDocuments(part)).toBeGreaterThan(0.3);
    const prompts = (part: readonly FleetRequest[]): number =>
      part.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
    const answers = (part: readonly FleetRequest[]): number =>
      part.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
    const middle = between(requests, 0.45, 0.55);
    expect(prompts(last) / prompts(middle)).toBeGreaterThan(2);
    expect(answers(middle) / answers(last)).toBeGreaterThan(3);
  });

  it("mixed: all sorts of clients in one workload", () => {
    const sorts = new Set(requestsOf("mixed").map(({ session }) => session.replace(/-\d+$/, "")));
    expect(sorts).toEqual(new Set(["chat", "agent", "document", "short", "long"]));
  });

  it.each(["mixed", "short", "long"])("%s: a part of the clients says what it wants", (name) => {
    const requests = requestsOf(name);
    const asks = ({ sloTtftMs, sloTpotMs }: FleetRequest): boolean =>
      (sloTtftMs ?? 0) > 0 && (sloTpotMs ?? 0) > 0;
    expect(share(requests, asks)).toBeGreaterThan(0.1);
    expect(share(requests, asks)).toBeLessThan(0.7);
  });
});

describe("arrivalTimes", () => {
  it("follows the profile: twice the length at half the intensity has as many arrivals", () => {
    const profile = [
      { length: 2, intensity: 1 },
      { length: 1, intensity: 2 },
    ];
    const times = arrivalTimes(new Random(3), 20_000, 100, profile);
    const early = times.filter((atMs) => atMs < (200_000 * 2) / 3).length;
    expect(Math.abs(early / 20_000 - 0.5)).toBeLessThan(0.02);
    expect(times.at(-1)!).toBeLessThan(200_000);
  });

  it("spaces arrivals as a Poisson process does", () => {
    const times = arrivalTimes(new Random(8), 20_000, 50);
    const gaps = Array.from(times, (atMs, i) => atMs - (times[i - 1] ?? 0));
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - 20) ** 2, 0) / gaps.length);
    expect(Math.abs(deviation / 20 - 1)).toBeLessThan(0.05);
  });
});

describe("ReadyQueue", () => {
  it("gives items in order of their times, and of their coming at one time, but not before", () => {
    const seed = Math.floor(Math.random() * 2 ** 32);
    const random = new Random(seed);
    const queue = new ReadyQueue<number>();
    const times = Array.from({ length: 500 }, () => random.integer(0, 60));
    for (const [item, readyMs] of times.entries()) queue.push(readyMs, item);
    const expected = [...times.keys()].sort((a, b) => times[a]! - times[b]! || a - b);
    const taken: number[] = [];
    for (let nowMs = 0; nowMs <= 60; nowMs++) {
      for (let item = queue.take(nowMs); item !== undefined; item = queue.take(nowMs)) {
        expect(times[item]!, `seed ${seed}`).toBeLessThanOrEqual(nowMs);
        taken.push(item);
      }
    }
    expect(taken, `seed ${seed}`).toEqual(expected);
    expect(queue.take(1e9)).toBeUndefined();
    expect(queue.size).toBe(0);
  });
});

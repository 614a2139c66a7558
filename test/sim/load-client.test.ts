// The load client against a simulated replica: what it measures, and what it calls a failure.
import { describe, expect, it } from "vitest";
import { runLoad } from "../../host-sim/workload/client.ts";
import { defaultWorkload, generateWorkload } from "../../host-sim/workload/generate.ts";
import type { RequestResult } from "../../host-sim/workload/result.ts";
import { EVENT_CHARS_MAX, EventParser, EventTooLongError } from "../../host-sim/workload/sse.ts";
import type { PlannedRequest } from "../../host-sim/workload/types.ts";
import { startReplica } from "./support/replica.ts";

const PLAN = generateWorkload(
  defaultWorkload({ requests: 12, ratePerSecond: 400, seed: 2, model: "tiny" }),
).map((request) => ({ ...request, atMs: request.atMs / 4 }));

const ROOMY = { modelTokensMax: 60_000 };
const BLOCKS = { blockCount: 20_001 };

function one(more: Partial<PlannedRequest> = {}): PlannedRequest[] {
  return [{ ...PLAN[0]!, ...more }];
}

async function single(url: string, plan = one()): Promise<RequestResult> {
  const [result] = await runLoad(plan, { url });
  return result!;
}

describe("runLoad", () => {
  it("gets every answer as planned, with the tokens that the server counted", async () => {
    const replica = await startReplica({ ...ROOMY, name: "replica-7" }, BLOCKS);
    const seen: number[] = [];
    const results = await runLoad(PLAN, { url: replica.url, onResult: (_, done) => seen.push(done) });
    expect(results.map(({ failure, failureDetail }) => failure ?? failureDetail)).toEqual(PLAN.map(() => ""));
    results.forEach((result, i) => {
      expect(result).toMatchObject({
        index: i,
        servedBy: "replica-7",
        status: 200,
        promptTokens: PLAN[i]!.promptTokens,
        outputTokens: PLAN[i]!.outputTokens,
      });
      expect(result.timeToFirstTokenMs).toBeGreaterThan(0);
      expect(result.endToEndMs).toBeGreaterThanOrEqual(result.timeToFirstTokenMs);
      expect(result.timePerTokenMs).toBeGreaterThan(0);
    });
    expect(seen).toEqual(PLAN.map((_, i) => i + 1));
  });

  it("sends without waiting for answers, never before the planned time", async () => {
    const replica = await startReplica(ROOMY, BLOCKS);
    replica.inject({ slowdown: 2 });
    const results = await runLoad(PLAN, { url: replica.url });
    for (const { lateMs } of results) expect(lateMs).toBeGreaterThanOrEqual(0);
    const firstEndMs = Math.min(...results.map((result) => result.sentMs + result.endToEndMs));
    expect(results.filter(({ sentMs }) => sentMs < firstEndMs).length).toBeGreaterThan(1);
  });

  it("sees the cached tokens of a repeated prompt", async () => {
    const replica = await startReplica(ROOMY, BLOCKS);
    expect((await single(replica.url)).cachedTokens).toBe(0);
    const again = await single(replica.url);
    expect(again.cachedTokens).toBeGreaterThan(again.promptTokens - 17);
  });

  it.each([
    ["an error status", { errors: 1, errorStatus: 503 }, "http-5xx", 503],
    ["a refused request", { errors: 1, errorStatus: 429 }, "http-4xx", 429],
    ["a reset before the answer", { resetOnRequest: true }, "reset", 0],
    ["a reset within the answer", { resetAfterTokens: 3 }, "incomplete", 200],
  ] as const)("calls %s by its name", async (_, faults, failure, status) => {
    const replica = await startReplica(ROOMY, BLOCKS);
    replica.inject(faults);
    const result = await single(replica.url);
    expect([result.failure, result.status]).toEqual([failure, status]);
    expect(result.endToEndMs).toBeNaN();
  });

  it("tells a refused connection, a dead engine and a damaged answer apart", async () => {
    const replica = await startReplica(ROOMY, BLOCKS);
    expect((await single(replica.url, one({ answer: "something else" }))).failure).toBe("wrong-answer");
    replica.inject({ slowdown: 50 });
    const dying = single(replica.url);
    while (replica.generation.inFlight === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    replica.killEngine();
    expect((await dying).failure).toBe("stream-error");
    await replica.stop();
    expect((await single(replica.url)).failure).toBe("connect");
  });

  it("can use a new connection for every request", async () => {
    const replica = await startReplica(ROOMY, BLOCKS);
    const results = await runLoad(PLAN, { url: replica.url, freshConnections: true });
    expect(results.filter(({ failure }) => failure !== null)).toEqual([]);
  });

  it("stops when told to", async () => {
    const replica = await startReplica(ROOMY, BLOCKS);
    const abort = new AbortController();
    const load = runLoad([...PLAN, ...one({ atMs: 3_600_000 })], { url: replica.url, signal: abort.signal });
    setTimeout(() => abort.abort(new Error("enough")), 20);
    await expect(load).rejects.toThrow("enough");
  });
});

describe("EventParser", () => {
  const stream =
    ': keep-alive\n\ndata: {"a":"ü"}\n\nevent: x\ndata: one\r\n' +
    "data:two\n\n\nid: 4\ndata:  three\n\ndata: cut";
  const expected = ['{"a":"ü"}', "one\ntwo", " three"];

  it("gives the same events for every cut of the stream into chunks", () => {
    const bytes = new TextEncoder().encode(stream);
    for (let size = 1; size <= bytes.length; size++) {
      const events: string[] = [];
      const parser = new EventParser((data) => events.push(data));
      for (let at = 0; at < bytes.length; at += size) parser.push(bytes.subarray(at, at + size));
      expect(events, `chunks of ${size}`).toEqual(expected);
    }
  });

  it.each([
    ["in one line", "data: ", ""],
    ["in many lines", "data: ", "\n"],
  ])("refuses an event that never ends, %s", (_, start, end) => {
    const parser = new EventParser(() => undefined);
    const piece = new TextEncoder().encode(`${start}${"x".repeat(EVENT_CHARS_MAX / 4)}${end}`);
    for (let i = 0; i < 3; i++) parser.push(piece);
    expect(() => parser.push(piece)).toThrow(EventTooLongError);
  });
});

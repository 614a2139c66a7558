// Policies that compare costs: lmetric, dynamo, mooncake, preble and the oracle.
import { describe, expect, it } from "vitest";
import { ActiveBlocks, DYNAMO, DYNAMO_EVENTS, dynamoCost } from "../../host-sim/fleet/policies/dynamo.ts";
import { LMETRIC, lmetricScore } from "../../host-sim/fleet/policies/lmetric.ts";
import { MOONCAKE } from "../../host-sim/fleet/policies/mooncake.ts";
import { Backlog, ORACLE, predictTtftMs, uncachedTokens } from "../../host-sim/fleet/policies/oracle.ts";
import { exploits, PREBLE, REBALANCE_REQUESTS_MIN, WINDOW_MS } from "../../host-sim/fleet/policies/preble.ts";
import { prefillMs } from "../../host-sim/fleet/policies/prefill-time.ts";
import { RecentMedian } from "../../host-sim/fleet/policies/recent-median.ts";
import { hashRequestBlocks } from "../../host-sim/fleet/blocks.ts";
import type { FleetRequest, Policy } from "../../host-sim/fleet/types.ts";
import { defaultEngineConfig, Engine } from "../../host-sim/model-server/engine.ts";
import { LLAMA_3_3_70B_FP8_2XH100 as RATES } from "../../host-sim/model-server/rates.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { PolicyRig, prompt } from "./support/policy-gateway.ts";

const SEED = Number(process.env["TEST_SEED"] ?? 20_260_801);
const ENGINE = defaultEngineConfig();

/** Hands a request to an engine, as a run would. */
function submit(engine: Engine, request: FleetRequest, nowMs = 0): void {
  const { promptTokens, outputTokens, index } = request;
  const blockHashes = hashRequestBlocks(request, engine.config.blockSize);
  engine.submit({ id: String(index), promptTokens, outputTokens, blockHashes }, nowMs);
}

describe("prefillMs", () => {
  it.each([
    [0, 0],
    [1_000, 7.9 + 1_000 * 0.0798],
    // Reading the weights takes longer than 100 tokens do.
    [100, 7.9 + 10.6],
    [8_192, 7.9 + 8_192 * 0.0798],
    [8_292, 7.9 + 8_192 * 0.0798 + 7.9 + 10.6],
  ])("takes %i tokens in %d ms", (tokens, ms) => {
    expect(prefillMs(ENGINE, tokens)).toBeCloseTo(ms, 6);
  });

  it("gives every step's decodes their tokens and their time", () => {
    const decodes = { sequences: 192, contextTokens: 100_000 };
    const decodeMs = 192 * RATES.decodeMsPerSequence + 100_000 * RATES.contextMsPerToken;
    const ms = 2 * (7.9 + decodeMs) + 8_000 * 0.0798 + 4_000 * 0.0798;
    expect(prefillMs(ENGINE, 12_000, decodes)).toBeCloseTo(ms, 6);
  });

  it("is what an idle engine takes", () => {
    const engine = new Engine(ENGINE);
    submit(engine, prompt(0, [[1, 20_000]], { outputTokens: 1 }));
    let endMs = 0;
    for (; engine.nextEventMs() !== Number.POSITIVE_INFINITY; engine.advance(endMs)) {
      endMs = engine.nextEventMs();
    }
    expect(prefillMs(ENGINE, 20_000)).toBeCloseTo(endMs, 6);
  });
});

describe("RecentMedian", () => {
  it("is of the last values alone", () => {
    const median = new RecentMedian(3, 7);
    const seen = [4, 1, 9, 9, 5, 5].map((value) => {
      median.add(value);
      return median.value;
    });
    expect(new RecentMedian(3, 7).value).toBe(7);
    expect(seen).toEqual([4, 2.5, 4, 9, 9, 5]);
  });
});

describe("policies that remember prefixes", () => {
  it.each([LMETRIC, MOONCAKE, DYNAMO, DYNAMO_EVENTS, ORACLE, PREBLE].map((one) => [one.name, one] as const))(
    "%s spreads prompts that share nothing",
    async (_, policy) => {
      const rig = await PolicyRig.of(policy, 4);
      const chosen = Array.from({ length: 4 }, (_, i) => {
        const request = prompt(i, [[i, 2_000]]);
        const endpoint = rig.route(request);
        submit(rig.engines[endpoint]!, request);
        return endpoint;
      });
      expect(new Set(chosen).size).toBe(4);
    },
  );

  it.each([LMETRIC, MOONCAKE, DYNAMO, PREBLE].map((one) => [one.name, one] as const))(
    "%s returns to where a prefix is, not after another process took its place",
    async (_, policy) => {
      const home = async (restart: boolean): Promise<boolean[]> => {
        const rig = await PolicyRig.of(policy, 8);
        return Array.from({ length: 12 }, (_, i) => {
          const first = rig.serve(prompt(2 * i, [[i, 5_120]]));
          if (restart) rig.scrape({ [first]: { generation: 2 + i } });
          return (
            rig.serve(
              prompt(2 * i + 1, [
                [i, 5_120],
                [100 + i, 64],
              ]),
            ) === first
          );
        });
      };
      expect(await home(false)).toEqual(new Array(12).fill(true));
      expect((await home(true)).filter(Boolean).length).toBeLessThan(8);
    },
  );
});

describe("lmetric", () => {
  it.each([
    [1_000, 0, 1_000],
    [1_000, 9, 10_000],
    [0, 9, 0],
  ])("scores %i new tokens behind %i requests %i", (tokens, batch, score) => {
    expect(lmetricScore(tokens, batch)).toBe(score);
  });

  it.each([
    // 640 of 1,280 tokens are at home: worth as much as twice the requests.
    [0, true],
    [1, true],
    [3, false],
    [9, false],
  ])("weighs half a prompt against %i more requests: follows it %s", async (more, follows) => {
    const rig = await PolicyRig.of(LMETRIC, 2);
    const home = rig.serve(prompt(0, [[1, 640]]));
    rig.scrape({ [home]: { running: 1, waiting: more }, [1 - home]: { running: 1 } });
    expect(
      rig.route(
        prompt(1, [
          [1, 640],
          [2, 640],
        ]),
      ) === home,
    ).toBe(follows);
  });

  it("counts what it has sent since the last scrape, and what has ended", async () => {
    const rig = await PolicyRig.of(LMETRIC, 2);
    rig.scrape({ 0: { running: 2 }, 1: { running: 3 } });
    const sent = [0, 1, 2].map((i) => rig.route(prompt(i, [[i, 100]])));
    expect(sent[0]).toBe(0);
    expect(sent.filter((replica) => replica === 0)).toHaveLength(2);
    rig.finish(prompt(0, [[0, 100]]), 0);
    rig.finish(prompt(1 + sent.slice(1).indexOf(0), [[1, 100]]), 0);
    expect(rig.route(prompt(9, [[9, 100]]))).toBe(0);
  });
});

describe("dynamo", () => {
  it.each([
    [{ prefillBlocks: 10, overlapBlocks: 0, decodeBlocks: 10 }, 20],
    [{ prefillBlocks: 10, overlapBlocks: 6, decodeBlocks: 14 }, 18],
    [{ prefillBlocks: 10, overlapBlocks: 12, decodeBlocks: 10 }, 10],
  ])("costs %j %i blocks", (load, cost) => {
    expect(dynamoCost(load)).toBe(cost);
  });

  it("counts blocks that requests share once", () => {
    const active = new ActiveBlocks();
    const [long, short, equal] = [
      [1, 2, 3],
      [1, 2, 4],
      [1, 2, 4],
    ];
    active.add(long, true);
    active.add(short, false);
    active.add(equal, false);
    expect(active.count).toBe(5);
    expect(active.countNew([1, 2, 5, 6])).toBe(2);
    active.remove(long, true);
    expect(active.count).toBe(3);
    active.remove(short, false);
    expect(active.count).toBe(3);
    active.remove(equal, false);
    expect([active.count, active.countNew([1])]).toEqual([0, 1]);
  });

  it(`counts as a set of all blocks does (seed ${SEED})`, () => {
    const random = new Random(SEED);
    const active = new ActiveBlocks();
    let chains: number[][] = [];
    for (let i = 0; i < 2_000; i++) {
      if (chains.length > 0 && random.uniform() < 0.5) {
        const chain = random.pick(chains);
        chains = chains.filter((one) => one !== chain);
        active.remove(chain, false);
      } else {
        // A path in a binary tree: equal numbers mean equal paths to them.
        const chain: number[] = [];
        let node = 1;
        for (let depth = random.integer(0, 8); depth > 0; depth--)
          chain.push((node = 2 * node + random.integer(0, 1)));
        chains.push(chain);
        active.add(chain, false);
      }
      expect(active.count).toBe(new Set(chains.flat()).size);
    }
  });

  it("takes prefill off at the first token and blocks off at the end", async () => {
    const rig = await PolicyRig.of(DYNAMO, 2);
    const long = prompt(0, [[1, 1_600]]);
    const first = rig.route(long);
    const other = 1 - first;
    // 100 blocks to prefill and 100 to decode against 150 and 150.
    const longer = prompt(1, [[2, 2_400]]);
    expect(rig.route(longer)).toBe(other);
    rig.firstToken(longer, other);
    // 200 against 150.
    const third = prompt(2, [[3, 16]]);
    expect(rig.route(third)).toBe(other);
    rig.finish(third, other);
    rig.firstToken(long, first);
    // 100 against 150.
    expect(rig.route(prompt(3, [[4, 16]]))).toBe(first);
  });

  it("knows of what it sent alone, unless events tell", async () => {
    const follows = async (policy: Policy): Promise<number> => {
      let count = 0;
      for (let seed = 0; seed < 10; seed++) {
        const rig = await PolicyRig.of(policy, 4, { seed });
        submit(rig.engines[2]!, prompt(0, [[1, 1_600]], { outputTokens: 1 }));
        rig.engines[2]!.advance(60_000);
        if (rig.route(prompt(1, [[1, 1_600]])) === 2) count++;
      }
      return count;
    };
    expect(await follows(DYNAMO_EVENTS)).toBe(10);
    expect(await follows(DYNAMO)).toBeLessThan(8);
  });
});

describe("mooncake", () => {
  it("adds up what waits for its first token", async () => {
    const rig = await PolicyRig.of(MOONCAKE, 2);
    const long = prompt(0, [[1, 10_000]]);
    const first = rig.route(long);
    const short = prompt(1, [[2, 1_000]]);
    expect(rig.route(short)).toBe(1 - first);
    expect(rig.route(prompt(2, [[3, 1_000]]))).toBe(1 - first);
    rig.firstToken(long, first);
    expect(rig.route(prompt(3, [[4, 1_000]]))).toBe(first);
  });

  it("leaves a prefix when waiting for it takes longer than computing it", async () => {
    const rig = await PolicyRig.of(MOONCAKE, 2);
    const home = rig.serve(prompt(0, [[1, 5_120]]));
    const filler = prompt(1, [
      [1, 5_120],
      [2, 3_072],
    ]);
    expect(rig.route(filler)).toBe(home);
    expect(rig.route(prompt(2, [[1, 5_120]]))).toBe(home);
    const longer = prompt(3, [
      [1, 5_120],
      [3, 4_096],
    ]);
    expect(rig.route(longer)).toBe(home);
    expect(rig.route(prompt(4, [[1, 5_120]]))).toBe(1 - home);
  });

  it("gives back what it added when a request ends without a first token", async () => {
    const rig = await PolicyRig.of(MOONCAKE, 2);
    const long = prompt(0, [[1, 10_000]]);
    const first = rig.route(long);
    rig.finish(long, first, 0, 0);
    expect(rig.route(prompt(1, [[1, 10_000]]))).toBe(first);
  });
});

describe("preble", () => {
  it.each([
    [0, 100, false],
    [49, 100, false],
    [50, 100, true],
    [100, 100, true],
  ])("with %i of %i tokens cached exploits: %s", (cached, all, exploit) => {
    expect(exploits(cached, all)).toBe(exploit);
  });

  it("explores by what was sent in the window", async () => {
    const rig = await PolicyRig.of(PREBLE, 2);
    const first = rig.serve(prompt(0, [[1, 20_000]]));
    expect(rig.serve(prompt(1, [[2, 1_000]]), 1)).toBe(1 - first);
    expect(rig.serve(prompt(2, [[3, 1_000]]), 2)).toBe(1 - first);
    // The long prompt's three minutes are over, those of the short ones are not.
    expect(rig.route(prompt(3, [[4, 1_000]]), WINDOW_MS + 1)).toBe(first);
  });

  it("hands what the busiest would exploit to the least busy, after its first requests", async () => {
    const rig = await PolicyRig.of(PREBLE, 3);
    const shared = (i: number): FleetRequest =>
      prompt(i, [
        [1, 6_400],
        [100 + i, 640],
      ]);
    const chosen = Array.from({ length: REBALANCE_REQUESTS_MIN + 30 }, (_, i) => rig.serve(shared(i), i));
    const home = chosen[0]!;
    expect(chosen.slice(0, REBALANCE_REQUESTS_MIN).every((replica) => replica === home)).toBe(true);
    expect(chosen[REBALANCE_REQUESTS_MIN]).not.toBe(home);
    // Two have the prefix now, and the less busy of them goes on with it.
    expect(new Set(chosen.slice(REBALANCE_REQUESTS_MIN)).size).toBe(1);
  });

  it("counts what a prompt would push out", async () => {
    const small = { kvCapacityTokens: 6_400 };
    const rig = await PolicyRig.of(PREBLE, 2);
    rig.scrape({ 0: small, 1: { ...small, kvCapacityTokens: 640_000 } });
    // Both were sent 6,400 tokens; on the small replica the next ones push them out.
    rig.scrape({ 0: small, 1: { ready: false } });
    expect(rig.serve(prompt(0, [[1, 6_400]]), 0)).toBe(0);
    rig.scrape({ 0: { ready: false }, 1: { kvCapacityTokens: 640_000 } });
    expect(rig.serve(prompt(1, [[2, 6_400]]), 0)).toBe(1);
    rig.scrape({ 0: small, 1: { kvCapacityTokens: 640_000 } });
    expect(rig.route(prompt(2, [[3, 6_400]]), 1)).toBe(1);
  });
});

describe("oracle", () => {
  it("sees caches that it did not fill", async () => {
    const rig = await PolicyRig.of(ORACLE, 4);
    submit(rig.engines[2]!, prompt(0, [[1, 4_096]], { outputTokens: 1 }));
    rig.engines[2]!.advance(60_000);
    expect(rig.route(prompt(1, [[1, 4_096]]), 60_000)).toBe(2);
    expect(uncachedTokens(rig.engines[2]!, hashed(prompt(1, [[1, 4_096]])))).toBe(16);
    expect(uncachedTokens(rig.engines[1]!, hashed(prompt(1, [[1, 4_096]])))).toBe(4_096);
  });

  it("sees the backlog, running and waiting, less what the present step computes", () => {
    const engine = new Engine(ENGINE);
    for (let i = 0; i < 3; i++) submit(engine, prompt(i, [[i, 6_000]]));
    // The step takes the first, which came to an idle engine; the others wait.
    expect(new Backlog().tokens(engine)).toBe(12_000);
    engine.advance(engine.nextEventMs());
    // The next step decodes one token and fills up with prompt.
    expect(new Backlog().tokens(engine)).toBe(12_000 - 8_191);
  });

  it("predicts the TTFT that comes", () => {
    const engine = new Engine(ENGINE);
    for (let i = 0; i < 3; i++) submit(engine, prompt(i, [[i, 6_000]], { outputTokens: 400 }));
    let nowMs = 0;
    for (let step = 0; step < 10; step++) {
      nowMs = engine.nextEventMs();
      engine.advance(nowMs);
    }
    for (let i = 3; i < 6; i++) submit(engine, prompt(i, [[i, 9_000]]), nowMs + i);
    const own = hashed(
      prompt(9, [
        [1, 6_000],
        [9, 3_000],
      ]),
    );
    const arrivalMs = nowMs + 10;
    const tokens = new Backlog().tokens(engine) + uncachedTokens(engine, own);
    const predictedMs = predictTtftMs(engine, tokens, arrivalMs);
    const last = engine.submit({ id: "9", outputTokens: 11, ...own }, arrivalMs);
    while (Number.isNaN(last.firstTokenMs)) engine.advance(engine.nextEventMs());
    const ttftMs = last.firstTokenMs - arrivalMs;
    expect(Math.abs(predictedMs - ttftMs) / ttftMs).toBeLessThan(0.03);
  });

  it("sees that a replica is slow, and takes none that is gone", async () => {
    const rig = await PolicyRig.of(ORACLE, 3, {});
    rig.engines[0]!.slowdown = 4;
    rig.engines[1]!.slowdown = 2;
    expect(rig.choose(prompt(0, [[1, 4_096]]))).toEqual({ endpoint: 2, fallbacks: [1, 0] });
    const gone = await PolicyRig.of(ORACLE, 2, {
      truth: (replica) => (replica === 0 ? undefined : rig.engines[2]),
    });
    expect(gone.route(prompt(1, [[1, 4_096]]))).toBe(1);
  });
});

function hashed(request: FleetRequest): { promptTokens: number; blockHashes: Float64Array } {
  return { promptTokens: request.promptTokens, blockHashes: hashRequestBlocks(request, ENGINE.blockSize) };
}

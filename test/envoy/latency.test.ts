// The latency picker in a real Envoy: it learns how fast each replica is, chooses by predicted time, and says why.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ENVOY_VERSIONS, type Gateway, startGateway, until, withEnvoy } from "./harness.ts";
import type { EndpointStatus } from "./status.ts";
import { ask, echoOf, settings, text } from "./support.ts";
import { type Behaviour, echo, held } from "./upstream.ts";

/** Prompt bytes that are one token until usage teaches otherwise. */
const BYTES_PER_TOKEN = 4;
const ANSWER_TOKENS = 12;
const EXPLAIN = "x-epp-explain";

/** What the latency picker adds to an endpoint's status. */
interface Learnt extends EndpointStatus {
  readonly prefilling: number;
  readonly foreignRequests: number | null;
  readonly prefillTokensPerSecond: number | null;
  readonly prefillBaseMs: number | null;
  readonly prefillSamples: number;
  readonly tpotBaseMs: number | null;
  readonly tpotRequestMs: number | null;
  readonly tpotSamples: number;
}

/** What is learnt of each replica, in their order, all at one moment: what is learnt fades with time. */
async function learntOfAll(gateway: Gateway): Promise<readonly Learnt[]> {
  const { pools } = await gateway.status<{
    readonly pools: readonly { readonly endpoints: readonly Learnt[] }[];
  }>();
  return gateway.replicas.map(({ address }) => pools[0]!.endpoints.find((one) => one.address === address)!);
}

const learnt = async (gateway: Gateway, replica: number): Promise<Learnt> =>
  (await learntOfAll(gateway))[replica]!;

/** A streamed answer whose first token comes after `msPerToken` for each prompt token, the others every `gapMs`. */
function computes(msPerToken: number, gapMs: number): Behaviour {
  return async ({ received, response, bodyRead }) => {
    await bodyRead;
    await sleep((received.body.length / BYTES_PER_TOKEN) * msPerToken);
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (let i = 0; i < ANSWER_TOKENS; i++) {
      response.write(`data: {"choices":[{"index":0,"delta":{"content":"word ${i} "}}]}\n\n`);
      await sleep(gapMs);
    }
    response.end("data: [DONE]\n\n");
  };
}

/** A prompt of its own, streamed. */
const stream = (gateway: Gateway, seed: string | number, bytes: number, headers = {}) =>
  ask(gateway, text(seed, bytes), { fields: { stream: true }, headers });

const candidates = (line: string): Map<string, Map<string, string>> =>
  new Map(
    line
      .split("; ")
      .slice(1)
      .map((part) => {
        const [address, ...figures] = part.split(" ");
        return [address!, new Map(figures.map((figure) => figure.split("=") as [string, string]))] as const;
      }),
  );

describe.each(ENVOY_VERSIONS)("the latency picker on Envoy %s", (version) => {
  describe("with a fast and a slow replica", () => {
    const [FAST, SLOW] = [0.02, 0.1];
    /** Time between their tokens, ms: far apart, as a loaded machine adds to both. */
    const [FAST_GAP_MS, SLOW_GAP_MS] = [2, 20];
    let gateway: Gateway & { stop(): Promise<void> };
    beforeAll(async () => {
      gateway = await startGateway(version, {
        replicas: 2,
        pluginConfig: settings({ debug: { explain: true }, unknownLoad: "mean" }, []),
      });
      gateway.replicas[0]!.behave(computes(FAST, FAST_GAP_MS));
      gateway.replicas[1]!.behave(computes(SLOW, SLOW_GAP_MS));
      // Pairs, so that both are asked.
      for (let i = 0; i < 14; i++) {
        const bytes = 2_000 + (i % 7) * 3_000;
        await Promise.all([0, 1].map((k) => stream(gateway, `teach ${i} ${k}`, bytes)));
      }
      await until("rates of both", async () => {
        const both = await learntOfAll(gateway);
        return both.every(({ prefillSamples, tpotSamples }) => prefillSamples >= 5 && tpotSamples >= 5);
      });
    });
    afterAll(() => gateway?.stop());

    it("shows in /status how fast each is, and what it generates", async () => {
      const [fast, slow] = (await learntOfAll(gateway)) as [Learnt, Learnt];
      expect(fast.prefillTokensPerSecond).toBeGreaterThan(1.5 * slow.prefillTokensPerSecond!);
      expect(fast.prefillBaseMs).toBe(slow.prefillBaseMs);
      expect(slow.tpotBaseMs! + slow.tpotRequestMs!).toBeGreaterThan(fast.tpotBaseMs! + fast.tpotRequestMs!);
      expect([fast.prefilling, slow.prefilling]).toEqual([0, 0]);
    });

    it("sends a long new prompt to the fast one, and predicts its time to the first token", async () => {
      for (let i = 0; i < 3; i++) {
        const reply = await stream(gateway, `long ${i}`, 20_000, { [EXPLAIN]: "1" });
        expect(gateway.servedBy(reply.headers)).toBe("replica-0");
        const line = String(reply.headers[EXPLAIN]);
        const figures = candidates(line);
        const [fast, slow] = gateway.replicas.map(({ address }) => figures.get(address)!);
        expect(line).toContain(`choice=${gateway.replicas[0]!.address} reason=cheapest`);
        expect(Number(fast!.get("ttft"))).toBeLessThan(Number(slow!.get("ttft")));
        expect(Number(fast!.get("cost"))).toBeLessThan(Number(slow!.get("cost")));
        expect(Number(fast!.get("tpot"))).toBeLessThan(Number(slow!.get("tpot")));
        expect(line.length).toBeLessThanOrEqual(2048);
      }
    });

    it("leaves the fast one while it is stuck, and goes back to the slow one for what that holds", async () => {
      const hold = held(computes(FAST, 0));
      gateway.replicas[0]!.behave(hold.behaviour);
      const waiting = stream(gateway, "stuck", 20_000);
      await until("a prompt at the fast one", async () => (await learnt(gateway, 0)).inflightRequests === 1);
      await sleep(1_500);
      const reply = await stream(gateway, "while it is stuck", 3_000);
      expect(gateway.servedBy(reply.headers)).toBe("replica-1");
      hold.release();
      expect(gateway.servedBy((await waiting).headers)).toBe("replica-0");
      gateway.replicas[0]!.behave(computes(FAST, FAST_GAP_MS));
      const next = await ask(gateway, `${text("while it is stuck", 3_000)} and more`, {
        fields: { stream: true },
        headers: { [EXPLAIN]: "1" },
      });
      expect(gateway.servedBy(next.headers)).toBe("replica-1");
      const holder = candidates(String(next.headers[EXPLAIN])).get(gateway.replicas[1]!.address)!;
      expect(Number(holder.get("match"))).toBeGreaterThan(600);
    });

    it.each([
      ["x-llm-d-slo-tpot-ms", "x-llm-d-slo-ttft-ms"],
      ["x-slo-tpot-ms", "x-slo-ttft-ms"],
    ])("prices broken wishes by %s and %s, and lets them through", async (tpot, ttft) => {
      const broken = async (headers: object): Promise<number[]> => {
        const seed = `wish ${Math.random()}`;
        const reply = await stream(gateway, seed, 2_000, { [EXPLAIN]: "1", ...headers });
        const figures = candidates(String(reply.headers[EXPLAIN]));
        return gateway.replicas.map(({ address }) => Number(figures.get(address)!.get("broken")));
      };
      expect(await broken({})).toEqual([0, 0]);
      const [fastGap, slowGap] = (await learntOfAll(gateway)).map(
        (one) => one.tpotBaseMs! + one.tpotRequestMs!,
      );
      const [fast, slow] = await broken({ [tpot]: ((fastGap! + slowGap!) / 2).toFixed(1) });
      expect(fast).toBe(0);
      expect(slow!).toBeGreaterThan(0);
      expect((await broken({ [ttft]: "0.5" })).every((ms) => ms > 0)).toBe(true);
      expect(await broken({ [ttft]: "soon", [tpot]: "-1" })).toEqual([0, 0]);
    });

    it("removes the question from the request, and answers nobody who does not ask", async () => {
      gateway.replicas[0]!.behave(echo);
      gateway.replicas[1]!.behave(echo);
      const asked = await ask(gateway, text("a question"), { headers: { [EXPLAIN]: "1" } });
      expect(asked.headers[EXPLAIN]).toContain("choice=");
      expect(echoOf(asked).headers[EXPLAIN]).toBeUndefined();
      for (const headers of [{}, { [EXPLAIN]: "0" }, { [EXPLAIN]: "yes" }]) {
        const reply = await ask(gateway, text("no question"), { headers });
        expect(reply.headers[EXPLAIN]).toBeUndefined();
        expect(echoOf(reply).headers[EXPLAIN]).toBeUndefined();
      }
    });
  });

  it("explains nothing where the configuration does not allow it", async () => {
    await withEnvoy(version, { replicas: 1 }, async (gateway) => {
      const reply = await ask(gateway, text("why"), { headers: { [EXPLAIN]: "1" } });
      expect(reply.headers[EXPLAIN]).toBeUndefined();
      expect(echoOf(reply).headers[EXPLAIN]).toBeUndefined();
    });
  });

  it("explains the score where a document adds scores", async () => {
    const plugins = [{ type: "queue-scorer" }, { type: "max-score-picker" }];
    const pluginConfig = settings({ debug: { explain: true } }, plugins);
    await withEnvoy(version, { replicas: 2, pluginConfig }, async (gateway) => {
      const reply = await ask(gateway, text("why"), { headers: { [EXPLAIN]: "1" } });
      expect(reply.headers[EXPLAIN]).toMatch(/^choice=\S+ reason=score prompt=\d.*; \S+ match=0 .*score=1/);
    });
  });

  it("gives an objective's requests the wishes that the configuration has for it", async () => {
    const picker = {
      type: "epp-wasm-latency-picker",
      parameters: { objectives: [{ name: "chat", sloTtftMs: 0.001 }] },
    };
    const pluginConfig = settings({ debug: { explain: true } }, [picker]);
    await withEnvoy(version, { replicas: 2, pluginConfig }, async (gateway) => {
      for (const replica of gateway.replicas) replica.behave(computes(0.02, 0));
      for (let i = 0; i < 6; i++) await stream(gateway, `teach ${i}`, 4_000 + 2_000 * i);
      const broken = async (headers: object): Promise<boolean> => {
        const reply = await stream(gateway, "a prompt", 8_000, { [EXPLAIN]: "1", ...headers });
        return !/broken=0(;|$)/.test(String(reply.headers[EXPLAIN]));
      };
      expect(await broken({ "x-llm-d-inference-objective": "chat" })).toBe(true);
      expect(await broken({ "x-gateway-inference-objective": "chat" })).toBe(true);
      expect(await broken({ "x-llm-d-inference-objective": "batch" })).toBe(false);
      expect(await broken({})).toBe(false);
    });
  });

  it("lets workers learn from one another: one that comes later knows what the first one does", async () => {
    await withEnvoy(version, { replicas: 2, concurrency: 4 }, async (gateway) => {
      for (const replica of gateway.replicas) replica.behave(computes(0.05, 1));
      for (let i = 0; i < 24; i++) await stream(gateway, `teach ${i}`, 2_000 + 1_000 * (i % 6));
      const { prefillSamples, prefillTokensPerSecond } = await until("samples of all workers", async () => {
        const one = await learnt(gateway, 0);
        return one.prefillSamples >= 8 && one;
      });
      expect(prefillSamples).toBeGreaterThanOrEqual(8);
      expect(prefillTokensPerSecond).toBeGreaterThan(5_000);
      expect(prefillTokensPerSecond).toBeLessThan(40_000);
    });
  });

  it("counts a prompt whose answer comes in one piece as computed before that", async () => {
    await withEnvoy(version, { replicas: 1 }, async (gateway) => {
      const hold = held();
      gateway.replicas[0]!.behave(hold.behaviour);
      const reply = ask(gateway, text("one piece", 4_000));
      await until("it in flight", async () => (await learnt(gateway, 0)).inflightRequests === 1);
      await until("its prompt counted as computed", async () => {
        const { inflightRequests, inflightTokens, prefilling } = await learnt(gateway, 0);
        return inflightRequests === 1 && inflightTokens === 0 && prefilling === 0;
      });
      hold.release();
      expect((await reply).status).toBe(200);
      expect((await learnt(gateway, 0)).prefillSamples).toBe(0);
    });
  });
});

// A fleet whose endpoints all do both, behind a real Envoy: prompts stay while there is no load, and leave the answers'.
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it, onTestFinished } from "vitest";
import { BOTH, disaggregation, PREFILLER } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { settled, type EndpointStatus, type Status } from "./status.ts";
import { ask, text } from "./support.ts";
import type { Behaviour, Received } from "./upstream.ts";

const REPLICAS = 3;
const BYTES_PER_TOKEN = 4;
/** Slow enough that what the machine adds is little of it. */
const MS_PER_TOKEN = 0.2;
/** A transfer takes a tenth of a prefill: what is learnt may be wrong by half and the choice is the same. */
const TRANSFER = { kvBytesPerToken: 40_960, transferBytesPerMs: 2_000_000 };
const THRESHOLD_TOKENS = 500;
const LONG_BYTES = 12_000;
/** Answers that are being generated at once. */
const ANSWERS = 10;
const CHUNK = 'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n';

const TRANSFER_MS = ((LONG_BYTES / BYTES_PER_TOKEN) * TRANSFER.kvBytesPerToken) / TRANSFER.transferBytesPerMs;

const isHeld = ({ headers }: Received): boolean => headers["x-hold"] !== undefined;

/** Streams a first token after the time of the prompt, and the rest, of requests that are to be held, on `release`. */
function generates(released: Promise<void>): Behaviour {
  return async ({ received, response, bodyRead }) => {
    await bodyRead;
    await sleep((received.body.length / BYTES_PER_TOKEN) * MS_PER_TOKEN);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(CHUNK);
    if (isHeld(received)) await released;
    response.end("data: [DONE]\n\n");
  };
}

const streamed = { fields: { stream: true } };

/** The replica that got the prompt of that seed, and whom its sidecar was to ask; −1: nobody. */
function sentTo(gateway: Gateway, seed: string): { answer: number; prompt: number } {
  const answer = gateway.replicas.findIndex(({ received }) =>
    received.some(({ body }) => body.includes(`"${seed} `)),
  );
  const request = gateway.replicas[answer]!.received.find(({ body }) => body.includes(`"${seed} `))!;
  const prefiller = request.headers[PREFILLER];
  return { answer, prompt: gateway.replicas.findIndex(({ address }) => address === prefiller) };
}

interface Learnt extends EndpointStatus {
  readonly prefillSamples: number;
  readonly prefillBaseMs: number | null;
  readonly prefillTokensPerSecond: number | null;
}

async function learnt(gateway: Gateway): Promise<Learnt[]> {
  const { pools } = await gateway.status<Status>();
  return pools[0]!.endpoints as Learnt[];
}

/** What the filter takes so many tokens to take where they are computed soonest, ms. */
async function soonestMs(gateway: Gateway, tokens: number): Promise<number> {
  const all = await learnt(gateway);
  return Math.min(...all.map((one) => one.prefillBaseMs! + (1000 * tokens) / one.prefillTokensPerSecond!));
}

describe.each(ENVOY_VERSIONS)("endpoints that do both, on Envoy %s", (version) => {
  it("compute prompts where they answer without load, and elsewhere beside many answers", async () => {
    const gateway = await startGateway(version, {
      replicas: REPLICAS,
      snapshot: false,
      pluginConfig: disaggregation({ decider: THRESHOLD_TOKENS, parameters: TRANSFER }),
    });
    onTestFinished(() => gateway.stop());
    let release = (): void => undefined;
    const released = new Promise<void>((settle) => (release = settle));
    for (const replica of gateway.replicas) replica.behave(generates(released));
    expect((await gateway.push(new Array(REPLICAS).fill(BOTH))).status).toBe(204);

    // Nothing is measured yet: prices begin with a guess.
    await ask(gateway, text("first", LONG_BYTES), streamed);
    expect(sentTo(gateway, "first").prompt).toBe(-1);
    for (let i = 0; i < 12; i++) await ask(gateway, text(`teach${i}`, 4_000 + (i % 4) * 2_000), streamed);
    await until("how fast prompts are computed is known", async () => {
      return (await learnt(gateway)).some((one) => one.prefillSamples > 4);
    });
    const before = (await settled(gateway)).counters["promptsDisaggregated"]!;
    await ask(gateway, text("idle", LONG_BYTES), streamed);
    expect(sentTo(gateway, "idle").prompt).toBe(-1);
    expect((await settled(gateway)).counters["promptsDisaggregated"]).toBe(before);

    const answers = [];
    for (let i = 0; i < ANSWERS; i++) {
      answers.push(ask(gateway, `held${i} words`, { ...streamed, headers: { "x-hold": "1" } }));
      await until(
        "it is answered",
        () =>
          gateway.replicas.some(({ received }) => received.filter(isHeld).length >= 1) &&
          gateway.replicas.flatMap(({ received }) => received.filter(isHeld)).length === i + 1,
      );
      // Its first token ends the prefill: the next finds an answer there, and no queue.
      await until("its first token came", async () => {
        const { counters } = await gateway.status<Status>();
        return counters["inflightRequests"] === i + 1 && counters["inflightTokens"] === 0;
      });
    }
    const held = gateway.replicas.map(({ received }) => received.filter(isHeld).length);
    const most = held.indexOf(Math.max(...held));
    expect(held[most], `held ${held.join(" ")}`).toBe(ANSWERS);

    for (const seed of ["one", "two", "three"]) {
      await ask(gateway, text(seed, LONG_BYTES), streamed);
      const { answer, prompt } = sentTo(gateway, seed);
      expect([seed, answer]).toEqual([seed, most]);
      expect(prompt).toBeGreaterThanOrEqual(0);
      expect(prompt).not.toBe(most);
    }
    // What the last first token tells is learnt a few ms after it, and then what is learnt stays.
    await sleep(20);
    // Where it is computed it is there before its wish, and after a transfer behind it.
    const wishMs = (await soonestMs(gateway, LONG_BYTES / BYTES_PER_TOKEN)) + 0.5 * TRANSFER_MS;
    await ask(gateway, text("wished", LONG_BYTES), {
      ...streamed,
      headers: { "x-slo-ttft-ms": wishMs.toFixed(0) },
    });
    expect(sentTo(gateway, "wished").prompt).toBe(-1);
    // A short one needs nobody else.
    await ask(gateway, text("short", 1_000), streamed);
    expect(sentTo(gateway, "short").prompt).toBe(-1);
    release();
    await Promise.all(answers);
    expect((await settled(gateway)).counters["promptsDisaggregated"]).toBe(before + 3);
  }, 120_000);
});

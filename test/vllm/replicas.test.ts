// Two real vLLM servers: who gets which request, what the filter learns from their answers, what the sidecar reads.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { POOL, until } from "../envoy/harness.ts";
import { pushPolicy } from "../envoy/policy.ts";
import { settings } from "../envoy/support.ts";
import {
  askServer,
  documents,
  type Fields,
  metricOf,
  modelOf,
  prose,
  textOf,
  tokensOf,
  withFleet,
} from "./fleet.ts";
import { ADAPTERS, BLOCKS, BLOCK_TOKENS, MODEL, startVllms, type Vllm } from "./server.ts";

const SAMPLED = settings({ responseSampleEvery: 1 });
/** Each server's own name for the model, which comes first: its answers bear it. */
const NAMES = ["tiny-0", "tiny-1"] as const;
const CHAT = "/v1/chat/completions";

let servers: Vllm[] = [];
beforeAll(async () => {
  servers = await startVllms(
    NAMES.map((name) => ({ adapters: true, args: ["--served-model-name", name, MODEL] })),
  );
});
afterAll(() => Promise.all(servers.map((server) => server.stop())));

interface Message {
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
}

const user = (content: string): Message => ({ role: "user", content });
const chat = (messages: readonly Message[], fields: Fields = {}): Fields => ({
  model: MODEL,
  messages,
  max_tokens: 8,
  temperature: 0,
  ...fields,
});
describe("a conversation", () => {
  it("goes on where its first turn is in the cache, and the engine says so", async () => {
    await withFleet(servers, { pluginConfig: SAMPLED }, async ({ ask }) => {
      const served: string[] = [];
      for (let seed = 100; seed < 108; seed++) {
        const first = user(prose(seed, 300));
        const one = await ask(CHAT, chat([first]));
        expect(one.status, one.text).toBe(200);
        const said: Message = { role: "assistant", content: textOf(one) };
        const two = await ask(CHAT, chat([first, said, user("And then?")]));
        expect(modelOf(two)).toBe(modelOf(one));
        const before = tokensOf(one).prompt;
        // Whole blocks alone are kept; the last one ends in the assistant's turn.
        expect(tokensOf(two).cached).toBeGreaterThanOrEqual(before - 2 * BLOCK_TOKENS);
        expect(tokensOf(two).cached % BLOCK_TOKENS).toBe(0);
        served.push(modelOf(one));
      }
      expect(new Set(served)).toEqual(new Set(NAMES));
    });
  });

  it("has the same text streamed, whole, and from the server itself", async () => {
    await withFleet(servers, { pluginConfig: SAMPLED }, async ({ ask }) => {
      const body = chat([user(prose(200, 50))], { max_tokens: 24 });
      const direct = textOf(await askServer(servers[0]!, CHAT, body));
      expect(direct.length).toBeGreaterThan(10);
      expect(textOf(await askServer(servers[1]!, CHAT, body))).toBe(direct);
      expect(textOf(await ask(CHAT, body))).toBe(direct);
      const stream = await ask(CHAT, { ...body, stream: true });
      expect(documents(stream).length).toBeGreaterThan(8);
      expect(textOf(stream)).toBe(direct);
      const long = { ...body, max_tokens: 1_000, ignore_eos: true, stream: true };
      expect((await ask(CHAT, long)).pieces.length).toBeGreaterThan(5);
    });
  });
});

describe("what the filter learns", () => {
  const prompt = (seed: number): string => prose(seed, 200);
  const CALLS: readonly [string, string, (seed: number) => Fields][] = [
    ["chat", CHAT, (seed) => chat([user(prompt(seed))])],
    [
      "streamed chat",
      CHAT,
      (seed) => chat([user(prompt(seed))], { stream: true, stream_options: { include_usage: true } }),
    ],
    ["a completion", "/v1/completions", (seed) => ({ model: MODEL, prompt: prompt(seed), max_tokens: 4 })],
    ["a message", "/v1/messages", (seed) => chat([user(prompt(seed))])],
    ["a streamed message", "/v1/messages", (seed) => chat([user(prompt(seed))], { stream: true })],
    [
      "a response",
      "/v1/responses",
      (seed) => ({ model: MODEL, input: prompt(seed), max_output_tokens: 4, store: false }),
    ],
    [
      "a streamed response",
      "/v1/responses",
      (seed) => ({ model: MODEL, input: prompt(seed), max_output_tokens: 4, store: false, stream: true }),
    ],
  ];

  it.each(CALLS)("of %s is what the engine computed and took from its cache", async (_, path, body) => {
    await withFleet(servers, { pluginConfig: SAMPLED }, async ({ ask, counters }) => {
      const seed = 300 + CALLS.findIndex(([name]) => name === _);
      const engine = async (name: string): Promise<number> =>
        (await Promise.all(servers.map((server) => metricOf(server, name)))).reduce((a, b) => a + b);
      const before = await engine("vllm:prompt_tokens_total");
      const replies = [await ask(path, body(seed)), await ask(path, body(seed))];
      for (const { status, text } of replies) expect(status, text).toBe(200);
      const told = replies.map(tokensOf);
      expect(told[1]!.cached).toBeGreaterThan(2 * BLOCK_TOKENS);
      const sum = (of: (one: (typeof told)[0]) => number): number =>
        told.reduce((all, one) => all + of(one), 0);
      const { usagePromptTokens, usageCachedTokens } = await counters();
      expect(usagePromptTokens).toBe(sum(({ prompt: tokens }) => tokens));
      expect(usageCachedTokens).toBe(sum(({ cached }) => cached));
      expect(usagePromptTokens).toBe((await engine("vllm:prompt_tokens_total")) - before);
    });
  });

  it("lets it foretell what the engines find in their caches", async () => {
    await withFleet(servers, { pluginConfig: SAMPLED }, async ({ ask, counters }) => {
      // 12 users of four system prompts, three turns each.
      const talks = Array.from({ length: 12 }, (_, index) => [
        { role: "system", content: prose(400 + (index % 4), 250) } as Message,
      ]);
      let [prompts, cached] = [0, 0];
      for (let turn = 0; turn < 3; turn++) {
        for (const [index, talk] of talks.entries()) {
          talk.push(user(prose(500 + 20 * index + turn, 60)));
          const reply = await ask(CHAT, chat(talk));
          expect(reply.status, reply.text).toBe(200);
          talk.push({ role: "assistant", content: textOf(reply) });
          prompts += tokensOf(reply).prompt;
          cached += tokensOf(reply).cached;
        }
      }
      const { promptTokens, matchedTokens } = await counters();
      const [real, foretold] = [cached / prompts, matchedTokens! / promptTokens!];
      process.stdout.write(
        `prompt tokens: ${prompts}, counted by the filter ${promptTokens}; cached: ${cached}, foretold ${matchedTokens}\n`,
      );
      expect(real).toBeGreaterThan(0.6);
      expect(Math.abs(foretold - real)).toBeLessThan(0.1);
    });
  });
});

describe("the sidecar", () => {
  it("reads every figure of a vLLM that it has a name for", async () => {
    await withFleet(servers, { pluginConfig: SAMPLED }, async ({ monitor, ask }) => {
      for (const [index, server] of servers.entries()) {
        const { models, reading } = monitor(server);
        expect([...models].sort()).toEqual([...ADAPTERS, MODEL, NAMES[index]].sort());
        expect(reading).toMatchObject({
          engine: "vllm",
          waiting: 0,
          running: 0,
          kvUsage: 0,
          blockTokens: BLOCK_TOKENS,
          kvCapacityTokens: BLOCKS * BLOCK_TOKENS,
          hasLora: true,
          loraMax: 2,
          preemptions: 0,
          asleep: false,
        });
        expect(reading.startTimeSeconds).toBeGreaterThan(Date.now() / 1_000 - 3_600);
      }
      // More than run at once (8): some wait. All at one server.
      const work = Array.from({ length: 12 }, (_, index) =>
        ask(
          CHAT,
          chat([user(prose(800 + index, 30))], { model: NAMES[0], max_tokens: 800, ignore_eos: true }),
        ),
      );
      const { reading } = monitor(servers[0]!);
      await until("the queue, the batch and the cache were seen", () => {
        return reading.running === 8 && reading.waiting > 0 && reading.kvUsage > 0;
      });
      expect(monitor(servers[1]!).reading.running).toBe(0);
      for (const { status, text } of await Promise.all(work)) expect(status, text).toBe(200);
      await until(
        "it was idle again, and had counted",
        () => reading.running === 0 && reading.generationTokens > 0,
      );
      const totals = ["vllm:prompt_tokens_total", "vllm:generation_tokens_total"];
      const [prompts, generated] = await Promise.all(totals.map((name) => metricOf(servers[0]!, name)));
      await until("the totals were those of the page", () => {
        return reading.promptTokens === prompts && reading.generationTokens === generated;
      });
    });
  });
});

describe("models", () => {
  const LORA = JSON.stringify({
    apiVersion: "llm-d.ai/v1alpha1",
    kind: "EndpointPickerConfig",
    plugins: [{ type: "lora-affinity-scorer" }, { type: "max-score-picker" }],
    schedulingProfiles: [
      {
        name: "default",
        plugins: [{ pluginRef: "lora-affinity-scorer" }, { pluginRef: "max-score-picker" }],
      },
    ],
  });

  it("go to the server that serves them", async () => {
    await withFleet(servers, { pluginConfig: SAMPLED }, async ({ ask }) => {
      for (let turn = 0; turn < 6; turn++) {
        const name = NAMES[turn % 2]!;
        const reply = await ask(CHAT, chat([user(prose(900 + turn, 40))], { model: name }));
        expect(reply.status, reply.text).toBe(200);
        expect(modelOf(reply)).toBe(name);
      }
      const unknown = await ask(CHAT, chat([user("x")], { model: "nobody's" }));
      expect(unknown.status).toBe(404);
      expect(JSON.parse(unknown.text)).toMatchObject({ error: { type: "NotFoundError", code: 404 } });
    });
  });

  it("that are adapters go where the adapter is at work", async () => {
    await withFleet(servers, { pluginConfig: LORA }, async ({ ask, monitor }) => {
      const adapter = ADAPTERS[0];
      const long = ask(CHAT, chat([user("begin")], { model: adapter, max_tokens: 3_500, ignore_eos: true }));
      const busy = await until("an adapter was at work", () =>
        servers.find((server) => monitor(server).reading.loraActive.includes(adapter)),
      );
      for (let turn = 0; turn < 6; turn++) {
        await until("it still was", () => monitor(busy).reading.loraActive.includes(adapter));
        const before = await metricOf(busy, "vllm:prompt_tokens_total");
        const reply = await ask(CHAT, chat([user(prose(950 + turn, 40))], { model: adapter, max_tokens: 2 }));
        expect(reply.status, reply.text).toBe(200);
        const computed = (await metricOf(busy, "vllm:prompt_tokens_total")) - before;
        expect(computed, `turn ${turn}`).toBe(tokensOf(reply).prompt);
      }
      expect((await long).status).toBe(200);
    });
  });

  it("that a rule rewrites reach the server under its own name, and the client under the one it asked for", async () => {
    await withFleet(servers, { pluginConfig: SAMPLED }, async ({ ask, gateway }) => {
      const { status, text } = await pushPolicy(gateway, { "gpt-x": NAMES[1] }, {}, POOL);
      expect(status, text).toBeLessThan(300);
      const before = await metricOf(servers[1]!, "vllm:prompt_tokens_total");
      const whole = await ask(CHAT, chat([user(prose(970, 40))], { model: "gpt-x" }));
      const stream = await ask(
        CHAT,
        chat([user(prose(971, 40))], {
          model: "gpt-x",
          stream: true,
          stream_options: { include_usage: true },
        }),
      );
      for (const reply of [whole, stream]) {
        expect(reply.status, reply.text).toBe(200);
        expect(new Set(documents(reply).map((document) => document["model"]))).toEqual(new Set(["gpt-x"]));
      }
      const prompts = tokensOf(whole).prompt + tokensOf(stream).prompt;
      expect((await metricOf(servers[1]!, "vllm:prompt_tokens_total")) - before).toBe(prompts);
    });
  });
});

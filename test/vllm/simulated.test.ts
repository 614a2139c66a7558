// The simulated model server against the real one: the same calls have answers of the same shape, errors too.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { defaultEngineConfig } from "../../host-sim/model-server/engine.ts";
import { replicaConfig } from "../../host-sim/model-server/replica-types.ts";
import { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { type Reply, send } from "../envoy/clients.ts";
import { FAST_RATES } from "../sim/support/replica.ts";
import type { Fields } from "./fleet.ts";
import { BLOCK_TOKENS, BLOCKS, CONTEXT_TOKENS, MODEL, startVllm, type Vllm } from "./server.ts";

let real: Vllm;
let simulated: SimulatedReplica;
beforeAll(async () => {
  const engine = {
    ...defaultEngineConfig(),
    blockTokens: BLOCK_TOKENS,
    blockCount: BLOCKS,
    rates: FAST_RATES,
  };
  simulated = new SimulatedReplica(
    replicaConfig({ modelName: MODEL, modelTokensMax: CONTEXT_TOKENS, engine }),
  );
  await simulated.start();
  real = await startVllm();
});
afterAll(async () => {
  await real?.stop();
  await simulated?.stop();
});

/** Every path of a document with the type of what stands there; of a list its first entry. */
function shapeOf(value: unknown, path = "$"): string[] {
  if (Array.isArray(value)) return value.length === 0 ? [`${path}: []`] : shapeOf(value[0], `${path}[]`);
  if (value === null || typeof value !== "object")
    return [`${path}: ${value === null ? "null" : typeof value}`];
  return Object.entries(value).flatMap(([name, inner]) => shapeOf(inner, `${path}.${name}`));
}

/** An answer without what differs between any two: status, kind, event names in their order, shapes. */
function outline({ status, headers, text }: Reply): unknown {
  const type = String(headers["content-type"]).split(";")[0];
  if (type !== "text/event-stream") {
    // Errors are compared word by word: clients go by them.
    const isShape = type === "application/json" && status < 400;
    return { status, type, content: isShape ? shapeOf(JSON.parse(text)).sort() : text };
  }
  const events = text.split("\n\n").filter((event) => event !== "");
  const shapes = events.map((event) => {
    const name = /^event: (.*)$/m.exec(event)?.[1] ?? "";
    const data = /^data: (.*)$/m.exec(event)?.[1] ?? "";
    return `${name} ${data.startsWith("{") ? shapeOf(JSON.parse(data)).sort().join("; ") : data}`;
  });
  // How many tokens come in one event is the machine's doing.
  return { status, type, events: shapes.filter((shape, index) => shape !== shapes[index - 1]) };
}

const MESSAGES = [{ role: "user", content: "Hello there, how are you?" }];
const chat = (fields: Fields = {}): Fields => ({
  model: MODEL,
  messages: MESSAGES,
  max_tokens: 4,
  temperature: 0,
  ignore_eos: true,
  ...fields,
});
const USAGE = { stream: true, stream_options: { include_usage: true } };
const TOO_LONG = "word ".repeat(CONTEXT_TOKENS + 100);

/** Ids of as many tokens as the context has, and so many more. */
const tokens = (more: number): number[] =>
  Array.from({ length: CONTEXT_TOKENS + more }, (_, id) => 300 + (id % 97));

const CALLS: readonly [string, string, Fields | string][] = [
  ["chat", "/v1/chat/completions", chat()],
  ["streamed chat", "/v1/chat/completions", chat({ stream: true })],
  ["streamed chat with usage", "/v1/chat/completions", chat(USAGE)],
  [
    "a completion",
    "/v1/completions",
    { model: MODEL, prompt: "Hello there", max_tokens: 4, ignore_eos: true },
  ],
  [
    "a streamed completion",
    "/v1/completions",
    { model: MODEL, prompt: "Hello there", max_tokens: 4, ignore_eos: true, ...USAGE },
  ],
  ["a message", "/v1/messages", chat()],
  ["a streamed message", "/v1/messages", chat({ stream: true })],
  ["counted tokens", "/v1/messages/count_tokens", { model: MODEL, messages: MESSAGES }],
  ["tokens of a text", "/tokenize", { model: MODEL, prompt: "Hello there" }],
  ["an unknown model", "/v1/chat/completions", chat({ model: "nobody's" })],
  ["a message to an unknown model", "/v1/messages", chat({ model: "nobody's" })],
  ["no JSON", "/v1/chat/completions", '{"model": '],
  ["no messages", "/v1/chat/completions", { model: MODEL }],
  ["a prompt that is too long", "/v1/completions", { model: MODEL, prompt: TOO_LONG, max_tokens: 1 }],
  ["a prompt of too many tokens", "/v1/completions", { model: MODEL, prompt: tokens(1), max_tokens: 1 }],
  ["a prompt of far too many", "/v1/completions", { model: MODEL, prompt: tokens(100), max_tokens: 1 }],
  ["a prompt that leaves no room", "/v1/completions", { model: MODEL, prompt: tokens(0), max_tokens: 1 }],
  [
    "more answer tokens than there is room for",
    "/v1/completions",
    { model: MODEL, prompt: tokens(-4), max_tokens: 9, ignore_eos: true },
  ],
  ["more answer tokens than the context", "/v1/chat/completions", chat({ max_tokens: CONTEXT_TOKENS + 1 })],
  ["an unknown path", "/v1/nothing", {}],
];

describe("the simulated server answers as vLLM", () => {
  it.each(CALLS)("%s", async (_, path, body) => {
    const ask = (url: string): Promise<Reply> => send(url, { path, method: "POST", body });
    expect(outline(await ask(simulated.url))).toEqual(outline(await ask(real.url)));
  });

  it.each(["/v1/models", "/health", "/version", "/ping"])("GET %s", async (path) => {
    expect(outline(await send(simulated.url, { path }))).toEqual(outline(await send(real.url, { path })));
  });

  it("has only metrics that a vLLM has, of the same kinds and labels", async () => {
    const page = async (url: string): Promise<Map<string, string>> => {
      const { text } = await send(url, { path: "/metrics" });
      const kinds = new Map(
        [...text.matchAll(/^# TYPE (vllm:\S+) (\S+)$/gm)].map(([, name, kind]) => [name!, kind!]),
      );
      const labels = new Map<string, string>();
      for (const [, name, inside] of text.matchAll(/^(vllm:\w+)\{(.*)\} \S+$/gm)) {
        const names = [...inside!.matchAll(/(\w+)="/g)].map(([, label]) => label!).sort();
        const base = kinds.has(name!) ? name! : name!.replace(/_(bucket|sum|count)$/, "");
        if (base === name) labels.set(name, `${kinds.get(base)} ${names.join()}`);
      }
      return labels;
    };
    const [ours, theirs] = [await page(simulated.url), await page(real.url)];
    expect(ours.size).toBeGreaterThan(8);
    for (const [name, outlined] of ours) {
      // Its labels are the whole configuration, of which each version has other fields.
      if (name === "vllm:cache_config_info") continue;
      expect(`${name} ${outlined}`).toBe(`${name} ${theirs.get(name)}`);
    }
  });
});

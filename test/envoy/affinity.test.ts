// Where prompts go again: the prefix index over four workers, in conversations, bursts and repeats.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, startGateway, until } from "./harness.ts";
import { settled, type Status } from "./status.ts";
import { ask, CHAT_PATH, text } from "./support.ts";
import { echo, held } from "./upstream.ts";

const WORKERS = 4;
const TURNS = 8;
const BURST = 30;

/** Two ticks: by then every worker has read what the others stored. */
const told = (): Promise<void> => sleep(12);

interface Message {
  readonly role: string;
  readonly content: string;
}

describe.each(ENVOY_VERSIONS)("prefix affinity on Envoy %s with four workers", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, { replicas: 4, concurrency: WORKERS });
    await until("all workers have had a stream", async () => {
      await ask(gateway, text("hello", 100));
      return (await gateway.status<Status>()).workers === WORKERS;
    });
  });
  afterAll(() => gateway?.stop());

  const talk = async (messages: readonly Message[], fields: object = {}): Promise<string | undefined> => {
    const body = { model: "test-model", messages, ...fields };
    const reply = await send(gateway.url, { path: CHAT_PATH, body });
    expect(reply.status).toBe(200);
    await told();
    return gateway.servedBy(reply.headers);
  };
  const decisions = (kind: string): Promise<number> =>
    gateway.metric("epp_decisions_total", { pool: POOL, kind });

  it("keeps a conversation whose turns come in on different connections on its replica", async () => {
    const before = await decisions("prefix");
    const conversations = Array.from({ length: 6 }, async (_, conversation) => {
      // Long enough that computing it again costs more than the turns of all the others at once.
      const messages: Message[] = [{ role: "system", content: text(`rules of ${conversation}`, 12_000) }];
      const served = new Set<string | undefined>();
      for (let turn = 0; turn < TURNS; turn++) {
        messages.push({ role: "user", content: text(`question ${turn} of ${conversation}`, 300) });
        served.add(await talk(messages));
        messages.push({ role: "assistant", content: text(`answer ${turn} of ${conversation}`, 300) });
      }
      return served.size;
    });
    expect(await Promise.all(conversations)).toEqual(conversations.map(() => 1));
    expect(await decisions("prefix")).toBe(before + conversations.length * (TURNS - 1));
  });

  it("finds the entry of a new system prompt while its first request is still being computed", async () => {
    const system = { role: "system", content: text("a system prompt of many agents", 8_000) };
    const hold = held();
    for (const replica of gateway.replicas) {
      replica.forget();
      replica.behave(hold.behaviour);
    }
    const received = (): number => gateway.replicas.reduce((sum, one) => sum + one.received.length, 0);
    const [prefix, cold] = [await decisions("prefix"), await decisions("cold")];
    const first = talk([system, { role: "user", content: "question 0" }]);
    await until("the first request at its replica", () => received() === 1);
    await told();
    const { counters } = await gateway.status<Status>();
    const rest = Array.from({ length: BURST }, (_, i) =>
      talk([system, { role: "user", content: `question ${i + 1}` }]),
    );
    await until("all requests at the replicas", () => received() === BURST + 1);
    hold.release();
    await Promise.all([first, ...rest]);
    for (const replica of gateway.replicas) replica.behave(echo);

    expect(await decisions("cold")).toBe(cold + 1);
    expect(await decisions("prefix")).toBe(prefix + BURST);
    const after = (await settled(gateway)).counters;
    const matched = after["matchedTokens"]! - counters["matchedTokens"]!;
    const prompt = after["promptTokens"]! - counters["promptTokens"]!;
    expect(matched / prompt).toBeGreaterThan((0.9 * BURST) / (BURST + 1));
  });

  it.each<[string, object, object]>([
    ["another model", {}, { model: "another" }],
    ["another cache_salt", { cache_salt: "tenant-a" }, { cache_salt: "tenant-b" }],
    [
      "another set of tools",
      {},
      { tools: [{ type: "function", function: { name: "look_up", parameters: {} } }] },
    ],
  ])("does not take the same messages with %s for the same prompt", async (what, some, others) => {
    const messages = [{ role: "user", content: text(what) }];
    const cold = await decisions("cold");
    const prefix = await decisions("prefix");
    await talk(messages, some);
    await talk(messages, others);
    expect(await decisions("cold")).toBe(cold + 2);
    await talk(messages, some);
    await talk(messages, others);
    expect(await decisions("prefix")).toBe(prefix + 2);
  });

  it("knows the same prompt whichever way its JSON is written", async () => {
    const content = text("one prompt, written 'twice' ☕");
    const plain = JSON.stringify({
      model: "test-model",
      messages: [{ role: "user", content }],
      temperature: 0,
    });
    const escaped = content.replace(/[^ ]/gu, (char) =>
      [...Array(char.length).keys()]
        .map((i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`)
        .join(""),
    );
    const other = `{ "temperature" :1, "messages":[ {"content":"${escaped}","role" : "user"} ]\n,"model":"test-model"}`;
    expect(JSON.parse(other)).toMatchObject({ messages: [{ role: "user", content }] });
    const prefix = await decisions("prefix");
    for (const body of [plain, other]) {
      expect((await send(gateway.url, { path: CHAT_PATH, body })).status).toBe(200);
      await told();
    }
    expect(await decisions("prefix")).toBe(prefix + 1);
  });

  it("keeps a session of Claude Code on its replica, whose attribution is another one in every request", async () => {
    const messages: Message[] = [];
    const served = new Set<string | undefined>();
    for (let turn = 0; turn < TURNS; turn++) {
      messages.push({ role: "user", content: text(`task ${turn}`, 300) });
      const line = `x-anthropic-billing-header: cc_version=2.1.37; cc_entrypoint=cli; cch=a${turn}b2c;`;
      const system = [line, text("an agent's rules", 2_000)].map((one) => ({ type: "text", text: one }));
      const body = { model: "test-model", max_tokens: 8, messages, system };
      const reply = await send(gateway.url, { path: "/v1/messages", body });
      await told();
      served.add(gateway.servedBy(reply.headers));
      messages.push({ role: "assistant", content: text(`step ${turn}`, 300) });
    }
    expect(served.size).toBe(1);
  });

  it("forgets a prompt that its replica refused to compute", async () => {
    const [cold, prefix] = [await decisions("cold"), await decisions("prefix")];
    for (const replica of gateway.replicas) {
      replica.behave(async ({ response, bodyRead }) => {
        await bodyRead;
        response.writeHead(400).end("{}");
      });
    }
    for (let i = 0; i < 2; i++) {
      expect((await ask(gateway, text("refused"))).status).toBe(400);
      // What one worker forgets the others hear of at their next reading, 2 ms later at the most.
      await new Promise((settle) => setTimeout(settle, 20));
    }
    for (const replica of gateway.replicas) replica.behave(echo);
    expect(await decisions("cold")).toBe(cold + 2);
    expect(await decisions("prefix")).toBe(prefix);
  });
});

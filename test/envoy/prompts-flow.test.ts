// The exact index while requests come and go: what is in flight counts, what is only remembered does not.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { renderChat } from "../../sidecar/prompts/program.ts";
import { base, tagged } from "../unit/support/prompt-renderer.ts";
import { type Reply, send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, type GatewayOptions, POOL, until, withEnvoy } from "./harness.ts";
import { cellKeys, KvSource } from "./kv-batches.ts";
import { explained, pushPrompts, talk, tell } from "./prompt-programs.ts";
import { settled } from "./status.ts";
import { CHAT_PATH, settings, text } from "./support.ts";
import { held } from "./upstream.ts";

const PROGRAM = tagged();
const REPLICAS = 3;
const ALL_EXACT = ["exact", "exact", "exact"] as const;

function ask(gateway: Gateway, messages: unknown, fields: object = {}): Promise<Reply> {
  const headers = { "x-epp-explain": "1" };
  return send(gateway.url, {
    path: CHAT_PATH,
    headers,
    body: { model: "m", messages, stream: true, ...fields },
  });
}

/** A gateway that knows the caches of all its replicas, which are empty. */
async function withExact(
  version: string,
  parameters: object,
  options: GatewayOptions,
  test: (gateway: Gateway, source: KvSource) => Promise<void>,
): Promise<void> {
  const pluginConfig = settings({ debug: { explain: true }, exposeDecision: true, ...parameters });
  const fixed = { replicas: REPLICAS, concurrency: 1, snapshot: { models: [] }, pluginConfig };
  await withEnvoy(version, { ...fixed, ...options }, async (gateway) => {
    await pushPrompts(gateway, [base("m", PROGRAM)]);
    // A worker follows the engines from its first request on.
    await ask(gateway, talk("first"));
    const source = new KvSource();
    for (let slot = 0; slot < REPLICAS; slot++) source.copy(slot).exact(slot);
    await tell(gateway, source, ALL_EXACT);
    await test(gateway, source);
  });
}

describe.each(ENVOY_VERSIONS)("with exact indexes on Envoy %s", (version) => {
  it("a burst of one new prefix finds what is being computed, and later ones only what is cached", async () => {
    await withExact(version, {}, {}, async (gateway, source) => {
      const messages = talk("burst");
      const hold = held();
      for (const replica of gateway.replicas) replica.behave(hold.behaviour);
      const first = ask(gateway, messages);
      const received = (): number => gateway.replicas.reduce((sum, one) => sum + one.received.length, 0);
      // The gateway's own first request is there too.
      await until("the first is on its way", () => received() === 2);
      const second = ask(gateway, [...messages, { role: "assistant", content: text("answer", 640) }]);
      await until("both wait", () => received() === 3);
      hold.release();
      const [one, two] = [explained(await first), explained(await second)];
      expect(Object.values(one.match)).toEqual([0, 0, 0]);
      // 3,000 bytes of contents, 4 a token until usage teaches otherwise; the shared part to within a block.
      expect(two.match[one.choice]).toBeGreaterThan(650);
      expect(two.match[one.choice]).toBeLessThan(two.prompt);
      expect(Object.values(two.match).filter((match) => match > 0)).toHaveLength(1);
      await settled(gateway);
      // No engine says that it has it cached. That is said again, so that no engine counts as silent.
      await tell(gateway, source, ALL_EXACT);
      const third = explained(await ask(gateway, messages));
      expect(Object.values(third.match)).toEqual([0, 0, 0]);
      source.store(1, cellKeys(renderChat(PROGRAM, messages)!).slice(0, 20)).exact(1);
      await tell(gateway, source, ALL_EXACT);
      const fourth = explained(await ask(gateway, messages));
      expect([fourth.choice, fourth.match[fourth.choice]]).toEqual([gateway.replicas[1]!.address, 320]);
    });
  });

  it("a long body that is decided early is matched as far as it was read", async () => {
    await withExact(version, { decisionBytesMax: 4_096 }, {}, async (gateway, source) => {
      const messages = [{ role: "user" as const, content: text("long", 60_000) }];
      source.store(2, cellKeys(renderChat(PROGRAM, messages)!).slice(0, 50)).exact(2);
      await tell(gateway, source, ALL_EXACT);
      const { choice, match, index, prompt } = explained(await ask(gateway, messages));
      expect([choice, match[choice], index[choice]]).toEqual([gateway.replicas[2]!.address, 800, "exact"]);
      // The rest of the body is expected to go on as it began.
      expect(prompt).toBeGreaterThan(800 + (60_000 - 3_200) / 4 - 100);
      expect((await settled(gateway)).counters["decisionsEarly"]).toBe(1);
    });
  });

  it("a long body whose end may hold other fields goes by what was sent where that tells more", async () => {
    await withExact(version, { decisionBytesMax: 4_096 }, {}, async (gateway, source) => {
      // OpenAI's Python client writes tools behind the messages; the engine's prompt begins with them.
      const tools = [{ type: "function", function: { name: "f" } }];
      const messages = [{ role: "user" as const, content: text("agent", 600_000) }];
      const labels = { pool: POOL, reason: "unread" };
      source.store(2, cellKeys(renderChat(PROGRAM, messages)!).slice(0, 2)).exact(2);
      await tell(gateway, source, ALL_EXACT);
      const first = explained(await ask(gateway, messages, { tools }));
      expect(first.match[gateway.replicas[2]!.address]).toBe(32);
      await settled(gateway);
      const again = explained(await ask(gateway, messages, { tools }));
      expect([again.choice, again.index[again.choice]]).toEqual([first.choice, "approximate"]);
      expect(again.match[again.choice]).toBeGreaterThan(900);
      expect(await gateway.metric("epp_prompts_not_rendered_total", labels)).toBe(1);
      // An engine that holds most of it was sent just this.
      source.store(2, cellKeys(renderChat(PROGRAM, messages)!).slice(0, 4_000)).exact(2);
      await tell(gateway, source, ALL_EXACT);
      const { choice, match, index } = explained(await ask(gateway, messages));
      expect([choice, Object.values(index)]).toEqual([gateway.replicas[2]!.address, [...ALL_EXACT]]);
      expect(match[choice]).toBeGreaterThan(900);
    });
  });

  it("the access log tells the tokens and by which index they were matched", async () => {
    const folder = await mkdtemp(join(tmpdir(), "epp-access-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const accessLogPath = join(folder, "access.log");
    await withExact(version, {}, { accessLogPath }, async (gateway, source) => {
      const messages = talk("logged");
      source.store(0, cellKeys(renderChat(PROGRAM, messages)!).slice(0, 7), 0, (i) => 3 * i + 2).exact(0);
      await tell(gateway, source, ALL_EXACT);
      await ask(gateway, messages);
      await ask(gateway, messages, { tools: [{ type: "function", function: { name: "f" } }] });
      await send(gateway.url, { path: "/v1/models" });
    });
    // Envoy writes the rest of its log when it ends.
    const lines = (await readFile(accessLogPath, "utf8")).trim().split("\n").slice(-3);
    const told = lines.map((line) => (JSON.parse(line) as { decision: string }).decision);
    expect(told[0]).toMatch(/ kind=prefix prompt_tokens=\d+ matched_tokens=20 index=exact$/);
    expect(told[1]).toMatch(/ matched_tokens=0 index=approximate$/);
    expect(told[2]).toMatch(/ kind=load prompt_tokens=0 matched_tokens=0$/);
  });

  it("all workers render by programs that were pushed once", async () => {
    const pluginConfig = settings({});
    await withEnvoy(version, { replicas: 2, concurrency: 3, pluginConfig }, async (gateway) => {
      await pushPrompts(gateway, [base("test-model", PROGRAM)]);
      const body = { model: "test-model", messages: talk("workers") };
      for (let i = 0; i < 20; i++) await send(gateway.url, { path: CHAT_PATH, body });
      const { counters, workers } = await settled(gateway);
      expect(workers).toBeGreaterThan(1);
      expect([counters["promptsRendered"], counters["promptsNotRendered"]]).toEqual([20, 0]);
    });
  });
});

// Rendered prompts on a real gateway: programs are taken or refused whole, and requests go where their prefix is held.
import { Client } from "undici";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { encodePrompts } from "../../sidecar/prompts/encode.ts";
import { type Message, renderChat, renderCompletion } from "../../sidecar/prompts/program.ts";
import { adapter, base, tagged } from "../unit/support/prompt-renderer.ts";
import { open, PROTOCOLS, type Reply, type RequestOptions, send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, startGateway, until } from "./harness.ts";
import { cellKeys, KvSource } from "./kv-batches.ts";
import { explained, indexStatus, pushPrompts, rootOf, talk, tell } from "./prompt-programs.ts";
import { encodeSnapshot, seal } from "./snapshot.ts";
import { settled, type Status } from "./status.ts";
import { CHAT_PATH, settings, text } from "./support.ts";

const COMPLETIONS_PATH = "/v1/completions";
const PATH = `/v1/pools/${POOL}/prompts`;
const PROGRAM = tagged({}, wire.PROGRAM_TRIMS_USER | wire.PROGRAM_EDITS_THINKING);
const MODELS = [base("m", PROGRAM), adapter("lora", PROGRAM)];
const GOOD = encodePrompts(MODELS);

describe.each(ENVOY_VERSIONS)("prompt programs on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, { replicas: 1, concurrency: 1, snapshot: { models: [] } });
    // A worker shows its figures from its first request on.
    await send(gateway.url, { path: CHAT_PATH, body: { model: "m", messages: talk("first") } });
  });
  afterAll(() => gateway?.stop());

  it("are shown, and a snapshot's answer tells which are held", async () => {
    expect(await indexStatus(gateway)).toMatchObject({
      promptProgramsId: 0,
      promptProgramsAgeMs: null,
      promptPrograms: 0,
      promptModels: 0,
    });
    expect((await pushPrompts(gateway, MODELS)).status).toBe(204);
    const { promptProgramsAgeMs, ...status } = await indexStatus(gateway);
    expect(status).toMatchObject({ promptProgramsId: GOOD.id, promptPrograms: 1, promptModels: 2 });
    expect(promptProgramsAgeMs).toBeGreaterThanOrEqual(0);
    const snapshot = encodeSnapshot([{ address: gateway.replicas[0]!.address, models: [] }], 2);
    const client = new Client("http://control", { socketPath: gateway.envoy.controlSocket });
    onTestFinished(() => client.destroy());
    const path = `/v1/pools/${POOL}/snapshot`;
    const { headers } = await client.request({ path, method: "POST", body: snapshot });
    expect(headers[wire.PROMPTS_ID_HEADER]).toBe(String(GOOD.id));
  });

  it.each<[string, () => Buffer, string]>([
    ["a few bytes", () => Buffer.from("EPT1"), "totalBytes"],
    ["a snapshot", () => encodeSnapshot([{ address: "127.0.0.1:1" }]), "magic"],
    ["the next version", () => spoilt((bytes) => bytes.writeUInt16LE(2, wire.PROMPTS_AT_VERSION)), "version"],
    [
      "a literal outside",
      () =>
        spoilt((bytes) => bytes.writeUInt32LE(1e6, wire.PROMPTS_HEADER_BYTES + wire.PROGRAM_AT_LITERALS + 8)),
      "programs[0].literals[1].offset",
    ],
  ])("of %s are refused, the field named, and the last good ones kept", async (_, bytes, field) => {
    await pushPrompts(gateway, MODELS);
    const { counters } = await settled(gateway);
    const { status, text } = await gateway.control("POST", PATH, bytes());
    expect(status).toBe(400);
    expect(JSON.parse(text)).toMatchObject({
      error: { field, message: expect.stringContaining("expected") },
    });
    await until("the refusal is counted", async () => {
      const after = (await gateway.status<Status>()).counters;
      return after["promptProgramsRefused"] === counters["promptProgramsRefused"]! + 1;
    });
    expect(gateway.envoy.log()).toContain(`prompt programs refused: ${field}`);
    expect((await indexStatus(gateway)).promptProgramsId).toBe(GOOD.id);
  });

  it("may be as large as programs can be, and no larger", async () => {
    const { status, text } = await gateway.control("POST", PATH, Buffer.alloc(wire.PROMPTS_BYTES_MAX + 1));
    expect([status, text]).toEqual([413, expect.stringContaining("16384")]);
  });
});

function spoilt(spoil: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(GOOD.bytes);
  spoil(bytes);
  return seal(bytes);
}

describe.each(ENVOY_VERSIONS)("a rendered prompt on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  let source: KvSource;
  let told = 0;
  const REPLICAS = 3;
  const ALL_EXACT = ["exact", "exact", "exact"] as const;
  beforeAll(async () => {
    gateway = await startGateway(version, {
      replicas: REPLICAS,
      concurrency: 1,
      snapshot: { models: [] },
      pluginConfig: settings({ debug: { explain: true }, exposeDecision: true }),
    });
    await pushPrompts(gateway, MODELS);
    // A worker follows the engines from its first request on.
    await chat(talk("first"));
    source = new KvSource();
    for (let slot = 0; slot < REPLICAS; slot++) source.copy(slot).exact(slot);
    await tell(gateway, source, ALL_EXACT);
  });
  afterAll(() => gateway?.stop());

  const addressOf = (replica: number): string => gateway.replicas[replica]!.address;
  const post = (path: string, body: object | string, options: RequestOptions = {}): Promise<Reply> =>
    send(gateway.url, { path, method: "POST", headers: { "x-epp-explain": "1" }, body, ...options });
  const chat = (messages: unknown, fields: object = {}, options: RequestOptions = {}): Promise<Reply> =>
    post(CHAT_PATH, { model: "m", messages, ...fields }, options);
  const renderedOf = (messages: readonly Message[]): Buffer => renderChat(PROGRAM, messages)!;

  /** Tells that the replica holds the first `cells` cells of a text: 10 tokens each and an odd number of more. */
  async function hold(replica: number, bytes: Buffer, cells: number, root?: bigint): Promise<number> {
    const keys = cellKeys(bytes, root).slice(0, cells);
    expect(keys).toHaveLength(cells);
    const odd = (told++ % 5) + 1;
    source.store(replica, keys, 0, (i) => (i + 1) * 10 + odd).exact(replica);
    await tell(gateway, source, ALL_EXACT);
    return cells * 10 + odd;
  }

  function expectExact(reply: Reply, replica: number, tokens: number): void {
    const { choice, match, index } = explained(reply);
    expect(choice).toBe(addressOf(replica));
    expect(gateway.servedBy(reply.headers)).toBe(gateway.replicas[replica]!.name);
    const others = Object.keys(match).filter((address) => address !== choice);
    expect(match[choice]).toBe(tokens);
    expect(others.map((address) => match[address])).toEqual(others.map(() => 0));
    expect(Object.values(index)).toEqual(["exact", "exact", "exact"]);
  }

  it.each(PROTOCOLS)(
    "goes over %s to the replica that holds its prefix, with the tokens that were told",
    async (protocol) => {
      for (let replica = 0; replica < REPLICAS; replica++) {
        const messages = talk(`${protocol} ${replica}`);
        const tokens = await hold(replica, renderedOf(messages), 30);
        expectExact(await chat(messages, {}, { protocol }), replica, tokens);
        // The next turn goes on where this one ended.
        const turn = [...messages, { role: "assistant", content: "yes" }, { role: "user", content: "more" }];
        expectExact(await chat(turn, {}, { protocol }), replica, tokens);
      }
    },
  );

  it("goes where the longest prefix is held, and tells what the others hold", async () => {
    const messages = talk("several");
    const rendered = renderedOf(messages);
    const tokens = [await hold(0, rendered, 10), await hold(1, rendered, 40), await hold(2, rendered, 25)];
    const { choice, match, prompt } = explained(await chat(messages));
    expect(choice).toBe(addressOf(1));
    expect([0, 1, 2].map((replica) => match[addressOf(replica)])).toEqual(tokens);
    // What is not cached is told by its bytes.
    expect(prompt).toBeCloseTo(tokens[1]! + (rendered.length - 40 * 64) / 4, 3);
  });

  it("is found however its body is cut, escaped and ordered", async () => {
    const messages = talk("cut é 漢字 😀");
    const tokens = await hold(2, renderedOf(messages), 40);
    const body = JSON.stringify({ messages, model: "m" }).replace(
      /[^ -~]/g,
      (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    for (const protocol of PROTOCOLS) {
      const headers = { "x-epp-explain": "1", "content-type": "application/json" };
      const exchange = open(gateway.url, { path: CHAT_PATH, method: "POST", protocol, headers });
      for (let at = 0; at < body.length; at += 333) await exchange.write(body.slice(at, at + 333));
      exchange.end();
      expectExact(await exchange.reply, 2, tokens);
    }
  });

  it("of a completion goes where its text is held", async () => {
    const prompt = ` ${text("completion", 1_500)}`;
    const tokens = await hold(1, renderCompletion(PROGRAM, prompt)!, 20);
    expectExact(await post(COMPLETIONS_PATH, { model: "m", prompt }), 1, tokens);
    expectExact(await post(COMPLETIONS_PATH, { model: "m", prompt: [prompt] }), 1, tokens);
  });

  it("of a completion with a suffix, which engines write into the prompt, goes by the approximate index", async () => {
    const prompt = ` ${text("fill in", 1_500)}`;
    const tokens = await hold(1, renderCompletion(PROGRAM, prompt)!, 20);
    const complete = (fields: object): Promise<Reply> =>
      post(COMPLETIONS_PATH, { model: "m", prompt, ...fields });
    for (const suffix of ["", null]) expectExact(await complete({ suffix }), 1, tokens);
    const { index } = explained(await complete({ suffix: "}\n" }));
    expect(Object.values(index)).toEqual(["approximate", "approximate", "approximate"]);
  });

  it("with an empty list of tool calls is one without, unless the template tells them apart", async () => {
    const turns = [
      ...talk("calls"),
      { role: "assistant" as const, content: "yes" },
      ...talk("more").slice(1),
    ];
    const sent = turns.map((turn) => (turn.role === "assistant" ? { ...turn, tool_calls: [] } : turn));
    const tokens = await hold(0, renderedOf(turns), 40);
    expectExact(await chat(sent), 0, tokens);
    onTestFinished(async () => void (await pushPrompts(gateway, MODELS)));
    await pushPrompts(gateway, [base("m", { ...PROGRAM, flags: PROGRAM.flags | wire.PROGRAM_EDITS_CALLS })]);
    expectExact(await chat(turns), 0, tokens);
    const { index } = explained(await chat(sent));
    expect(Object.values(index)).toEqual(["approximate", "approximate", "approximate"]);
  });

  it("is another one with an adapter, and with a salt", async () => {
    const messages = talk("roots");
    const rendered = renderedOf(messages);
    const plain = await hold(0, rendered, 30);
    const lora = await hold(1, rendered, 30, rootOf("lora"));
    const salted = await hold(2, rendered, 30, rootOf(null, "tenant ☂"));
    expectExact(await chat(messages), 0, plain);
    expectExact(await chat(messages, { model: "lora" }), 1, lora);
    expectExact(await chat(messages, { cache_salt: "tenant ☂" }), 2, salted);
    const both = explained(await chat(messages, { model: "lora", cache_salt: "tenant ☂" }));
    expect(Object.values(both.match)).toEqual([0, 0, 0]);
  });

  it("is not believed to be where it was sent once the engine says otherwise", async () => {
    const messages = talk("evicted");
    const rendered = renderedOf(messages);
    const tokens = await hold(0, rendered, 40);
    expectExact(await chat(messages), 0, tokens);
    source.remove(0, cellKeys(rendered).slice(20, 40)).exact(0);
    await tell(gateway, source, ALL_EXACT);
    expectExact(await chat(messages), 0, tokens - 200);
    source.remove(0, cellKeys(rendered).slice(0, 20)).exact(0);
    await tell(gateway, source, ALL_EXACT);
    const { match, index } = explained(await chat(messages));
    expect(Object.values(match)).toEqual([0, 0, 0]);
    expect(Object.values(index)).toEqual(["exact", "exact", "exact"]);
  });

  it.each<[string, object, string]>([
    ["tools", { tools: [{ type: "function", function: { name: "f" } }] }, "field"],
    ["an unknown model", { model: "unknown" }, "model"],
  ])("that is none for %s goes by the approximate index", async (_, fields, reason) => {
    const messages = talk(`${reason} twice`);
    await hold(0, renderedOf(messages), 40);
    const labels = { pool: POOL, reason };
    const before = await gateway.metric("epp_prompts_not_rendered_total", labels);
    const first = explained(await chat(messages, fields));
    expect(Object.values(first.match)).toEqual([0, 0, 0]);
    const again = explained(await chat(messages, fields));
    expect(again.choice).toBe(first.choice);
    expect(again.match[again.choice]).toBeGreaterThan(500);
    expect(Object.values(again.index)).toEqual(["approximate", "approximate", "approximate"]);
    expect(await gateway.metric("epp_prompts_not_rendered_total", labels)).toBe(before + 2);
  });

  it("and another API's go by the approximate index, and are counted", async () => {
    const before = await gateway.metric("epp_prompts_not_rendered_total", { pool: POOL, reason: "api" });
    const body = { model: "m", max_tokens: 5, messages: [{ role: "user", content: text("anthropic") }] };
    expect(Object.values(explained(await post("/v1/messages", body)).index)).toContain("approximate");
    await until("counted", async () => {
      return (
        (await gateway.metric("epp_prompts_not_rendered_total", { pool: POOL, reason: "api" })) === before + 1
      );
    });
    const { counters } = await settled(gateway);
    expect(counters["promptsRendered"]).toBe(
      await gateway.metric("epp_prompts_rendered_total", { pool: POOL }),
    );
    expect(counters["promptsRendered"]).toBeGreaterThan(10);
  });

  it("goes by the approximate index at a replica that is degraded, and at that one alone", async () => {
    const messages = talk("degraded");
    const tokens = await hold(1, renderedOf(messages), 20);
    source.degraded(0);
    await tell(gateway, source, ["degraded", "exact", "exact"]);
    const reply = await chat(messages);
    const { choice, match, index } = explained(reply);
    expect([choice, match[choice]]).toEqual([addressOf(1), tokens]);
    expect([0, 1, 2].map((replica) => index[addressOf(replica)])).toEqual(["approximate", "exact", "exact"]);
    source.copy(0).exact(0);
    await tell(gateway, source, ALL_EXACT);
    expectExact(await chat(messages), 1, tokens);
  });
});

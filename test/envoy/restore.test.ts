// Answers to rewritten requests: the client reads the name that it sent, and every other byte as the replica wrote it.
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { open, type Protocol, PROTOCOLS, type Reply, send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { pushPolicy } from "./policy.ts";
import { settled } from "./status.ts";
import { CHAT_PATH, settings } from "./support.ts";
import { answer, held, stream } from "./upstream.ts";

const TARGET = "org/target-70b";
const CLIENT = 'my "alias" \\ é☕';
const AS_JSON = JSON.stringify(CLIENT);
const JSON_TYPE = { "content-type": "application/json" };

const USAGE = { prompt_tokens: 600, completion_tokens: 3 };
/** Events of all APIs, with a model in each place where one may stand, and where it must stay. */
const eventsWith = (name: string): string =>
  [
    ": keep-alive",
    `data: {"id":"1","model":${name},"choices":[{"delta":{"content":"h\\u00e9 \\"model\\":\\"${TARGET}\\" ☕"}}]}`,
    `data:{"choices":[{"delta":{},"model":"${TARGET}"}],"model" : ${name} }`,
    `event: response.created\r\ndata: {"type":"response.created","response":{"id":"r","model":${name},"tools":[{"model":"${TARGET}"}]}}\r`,
    `event: message_start\ndata: {"type":"message_start","message":{"model":${name},"content":[],"usage":{"model":"${TARGET}"}}}`,
    `data: {"input":{"model":"${TARGET}"},"other":{"model":"${TARGET}"},"model":"another-model"}`,
    `data: {"choices":[],"usage":${JSON.stringify(USAGE)},"model":${name}}`,
    "data: [DONE]",
    "",
  ].join("\n\n");
const EVENTS = eventsWith(`"${TARGET}"`);
const EXPECTED = eventsWith(AS_JSON);

function cut(bytes: string, size: number): string[] {
  const buffer = Buffer.from(bytes, "latin1");
  return Array.from({ length: Math.ceil(buffer.length / size) }, (_, i) =>
    buffer.toString("latin1", i * size, (i + 1) * size),
  );
}

describe.each(ENVOY_VERSIONS)("an answer to a rewritten request on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    const pluginConfig = settings({ responseSampleEvery: 2 });
    gateway = await startGateway(version, { replicas: 1, snapshot: { models: [] }, pluginConfig });
    expect((await pushPolicy(gateway, { [CLIENT]: TARGET })).status).toBe(204);
  });
  afterAll(() => gateway?.stop());

  const asked = (protocol: Protocol = "http1", model = CLIENT): Promise<Reply> =>
    send(gateway.url, {
      protocol,
      path: CHAT_PATH,
      body: { model, messages: [{ role: "user", content: "x" }] },
    });
  const missed = async (): Promise<number> => (await settled(gateway)).counters["responsesNotRestored"]!;

  describe.each(PROTOCOLS)("over %s", (protocol) => {
    it("names the client's model in every event, however the stream is cut", async () => {
      for (const size of [1, 2, 3, 7, 64, 100_000]) {
        // Pieces are bytes: characters of UTF-8 are cut too.
        const pieces = cut(Buffer.from(EVENTS).toString("latin1"), size).map((piece) =>
          Buffer.from(piece, "latin1"),
        );
        gateway.replicas[0]!.behave(stream(pieces as unknown as string[]));
        const reply = await asked(protocol);
        expect(reply.headers["content-type"]).toBe("text/event-stream");
        expect(reply.text).toBe(EXPECTED);
      }
    });

    it("names it in a JSON body, whose length is told anew or not at all", async () => {
      const make = (name: string): string =>
        `{"id":"1","model" : ${name},"choices":[{"message":{"content":"x","model":"${TARGET}"}}],"usage":${JSON.stringify(USAGE)}}`;
      gateway.replicas[0]!.behave(answer(200, make(`"${TARGET}"`), JSON_TYPE));
      const reply = await asked(protocol);
      expect(reply.text).toBe(make(AS_JSON));
      const length = reply.headers["content-length"];
      if (length !== undefined) expect(length).toBe(String(reply.body.length));
    });
  });

  it("reaches the client while it is being written", async () => {
    const hold = held(({ response }) => {
      response.end(`data: {"model":"${TARGET}"}\n\n`);
    });
    gateway.replicas[0]!.behave(async (context) => {
      context.response.writeHead(200, { "content-type": "text/event-stream" });
      context.response.write(`data: {"model":"${TARGET}"}\n\ndata: {"model":"${TARGET.slice(0, 5)}`);
      await hold.behaviour(context);
    });
    const exchange = open(gateway.url, { path: CHAT_PATH });
    exchange.end(JSON.stringify({ model: CLIENT, messages: [{ role: "user", content: "x" }] }));
    const first = `data: {"model":${AS_JSON}}\n\ndata: {"model":"`;
    await until("the first event", () => exchange.received() === first);
    hold.release();
    // The second event was broken off by the replica: what was held back of it comes out.
    expect((await exchange.reply).text).toBe(`${first}${TARGET.slice(0, 5)}data: {"model":"${TARGET}"}\n\n`);
  });

  it("is restored behind megabytes of other things, and in large pieces", async () => {
    for (const count of [1_000, 60_000, 400_000]) {
      const data = `[${Array.from({ length: count }, (_, i) => `0.${i}`).join(",")}]`;
      const make = (name: string): string => `{"response":{"model":${name}},"data":${data},"model":${name}}`;
      gateway.replicas[0]!.behave(answer(200, make(`"${TARGET}"`), JSON_TYPE));
      // Compared by hand: what differs would fill the terminal.
      expect((await asked()).text === make(AS_JSON)).toBe(true);
    }
    const events = `data: {"model":"${TARGET}","x":"${"x".repeat(1_000)}"}\n\n`.repeat(3_000);
    gateway.replicas[0]!.behave(answer(200, events, { "content-type": "text/event-stream" }));
    expect((await asked()).text === events.replaceAll(`"${TARGET}"`, AS_JSON)).toBe(true);
  });

  it("that grows too much passes as it is from there on, and is counted", async () => {
    const before = await missed();
    const long = "long ".repeat(50).trim();
    await pushPolicy(gateway, { [CLIENT]: TARGET, [long]: "m" });
    const event = 'data: {"model":"m"}\n\n';
    gateway.replicas[0]!.behave(answer(200, event.repeat(40_000), { "content-type": "text/event-stream" }));
    const { text } = await asked("http1", long);
    expect(text.replaceAll(JSON.stringify(long), '"m"') === event.repeat(40_000)).toBe(true);
    // The chunks that came at once may have been small enough: then every name was given back.
    const isWhole = !text.includes('"m"');
    expect(await missed()).toBe(before + (isWhole ? 0 : 1));
  });

  it.each<[string, number, string, Record<string, string>]>([
    ["another name of the engine's", 200, '{"model":"snapshot-2026"}', JSON_TYPE],
    ["a longer name", 200, `{"model":"${TARGET}-instruct"}`, JSON_TYPE],
    ["no name", 200, '{"id":"1","choices":[]}', JSON_TYPE],
    ["no object", 200, `[{"model":"${TARGET}"}]`, JSON_TYPE],
    [
      "an error",
      404,
      `{"error":{"message":"The model ${TARGET} does not exist","model":"${TARGET}"}}`,
      JSON_TYPE,
    ],
    ["an unfinished document", 200, `{"id":"1","model":"${TARGET.slice(0, 6)}`, JSON_TYPE],
    ["plain text", 200, `{"model":"${TARGET}"}`, { "content-type": "text/plain" }],
    ["no type", 200, `{"model":"${TARGET}"}`, {}],
    ["nothing", 200, "", JSON_TYPE],
  ])("with %s stays as it is", async (_, status, body, headers) => {
    gateway.replicas[0]!.behave(answer(status, body, headers));
    const reply = await asked();
    expect([reply.status, reply.text]).toEqual([status, body]);
  });

  it("that is compressed stays as it is, and is counted", async () => {
    const before = await missed();
    const body = gzipSync(`{"model":"${TARGET}"}`);
    gateway.replicas[0]!.behave(answer(200, body, { ...JSON_TYPE, "content-encoding": "gzip" }));
    const reply = await asked();
    expect(reply.body.equals(body)).toBe(true);
    expect(await missed()).toBe(before + 1);
    gateway.replicas[0]!.behave(
      answer(200, `{"model":"${TARGET}"}`, { ...JSON_TYPE, "content-encoding": "identity" }),
    );
    expect((await asked()).text).toBe(`{"model":${AS_JSON}}`);
    expect(await missed()).toBe(before + 1);
  });

  it("to a request that was not rewritten keeps its length and its model", async () => {
    const body = `{"model":"${TARGET}"}`;
    gateway.replicas[0]!.behave(answer(200, body, { ...JSON_TYPE, "content-length": String(body.length) }));
    const reply = await asked("http1", "of no rule");
    expect([reply.text, reply.headers["content-length"]]).toEqual([body, String(body.length)]);
  });

  it("teaches the gateway its usage as before", async () => {
    const { counters } = await settled(gateway);
    expect(counters["usagePromptTokens"]).toBeGreaterThan(0);
  });
});

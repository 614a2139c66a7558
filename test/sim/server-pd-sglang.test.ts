// Disaggregation as SGLang does it: both legs at once, which meet in a room of the prefiller's bootstrap server.
import { describe, expect, it } from "vitest";
import {
  NIXL_SIDE_CHANNEL_PORT,
  noDisaggregation,
  SGLANG_BOOTSTRAP_PORT,
} from "../../host-sim/model-server/disaggregation/config.ts";
import { CHAT, chat, contentOf, messageOf, startPair, statusOf } from "./support/disaggregation.ts";
import { sampleValue } from "./support/metrics-page.ts";
import { eventsOf, get, send, startReplica, until } from "./support/replica.ts";

type Pair = Awaited<ReturnType<typeof startPair>>;

/** A body with the fields that a router adds; the room is text, as it may exceed 2^53. */
function withRoom({ prefiller }: Pair, body: object, room: string, change: object = {}): string {
  const [host, port] = statusOf(prefiller).sideChannel.split(":");
  const fields = { ...body, bootstrap_host: host, bootstrap_port: Number(port), ...change };
  return `${JSON.stringify(fields).slice(0, -1)},"bootstrap_room":${room}}`;
}

/** Sends both legs at once. */
async function bothLegs(
  pair: Pair,
  body: object,
  room = "1",
): Promise<{ prefilled: { status: number; text: string }; decoded: { status: number; text: string } }> {
  const text = withRoom(pair, body, room);
  const [prefilled, decoded] = await Promise.all([
    send(pair.prefiller, CHAT, text),
    send(pair.decoder, CHAT, text),
  ]);
  return { prefilled, decoded };
}

async function untilEmpty({ prefiller, decoder }: Pair): Promise<void> {
  await until(() => statusOf(prefiller).rooms.length === 0 && statusOf(prefiller).heldBlocks === 0);
  await until(() => prefiller.generation.inFlight + decoder.generation.inFlight === 0);
  expect(prefiller.generation.engines[0]!.engine.cache.usage).toBe(0);
  expect(decoder.generation.engines[0]!.engine.cache.usage).toBe(0);
}

describe("two legs", () => {
  it("give the text of an undisaggregated server; the prefill leg ends with one token", async () => {
    const pair = await startPair("sglang");
    const plain = await startReplica();
    const expected = contentOf((await send(plain, CHAT, chat("alpha"))).text);
    const { prefilled, decoded } = await bothLegs(pair, chat("alpha"));
    expect([prefilled.status, decoded.status]).toEqual([200, 200]);
    expect(contentOf(decoded.text)).toBe(expected);
    expect(JSON.parse(prefilled.text).usage.completion_tokens).toBe(1);
    expect(JSON.parse(decoded.text).usage.completion_tokens).toBe(8);
    const source = '{engine="0",model_name="tiny",source="external_kv_transfer"}';
    const page = await get(pair.decoder, "/metrics");
    const pulled = sampleValue(page, `vllm:prompt_tokens_by_source_total${source}`);
    expect(pulled).toBe(JSON.parse(decoded.text).usage.prompt_tokens);
    await untilEmpty(pair);
  });

  it("stream", async () => {
    const { prefilled, decoded } = await bothLegs(await startPair("sglang"), chat("alpha", { stream: true }));
    expect(eventsOf(prefilled.text).at(-1)).toBe("[DONE]");
    expect(eventsOf(decoded.text)).toHaveLength(8 + 2);
  });

  it.each(["prefiller", "decoder"] as const)("meet when the %s hears of the call first", async (first) => {
    const pair = await startPair("sglang");
    const text = withRoom(pair, chat("alpha"), "5");
    const early = send(pair[first], CHAT, text);
    await until(() => statusOf(pair.prefiller).rooms.length === 1);
    const state = first === "prefiller" ? "prefill-waits" : "decode-waits";
    expect(statusOf(pair.prefiller).rooms).toEqual([{ room: "5", state }]);
    const late = await send(first === "prefiller" ? pair.decoder : pair.prefiller, CHAT, text);
    expect([(await early).status, late.status]).toEqual([200, 200]);
    await untilEmpty(pair);
  });

  it("meet in rooms that differ only beyond 2^53", async () => {
    const pair = await startPair("sglang");
    const rooms = ["9223372036854775806", "9223372036854775807"];
    const answers = await Promise.all(rooms.map((room, i) => bothLegs(pair, chat(`word${i}`), room)));
    for (const { prefilled, decoded } of answers) {
      expect([prefilled.status, decoded.status]).toEqual([200, 200]);
      expect(contentOf(decoded.text)).not.toContain("\uFFFD");
    }
    expect(statusOf(pair.decoder).staleReads).toBe(0);
  });

  it("can have a room again when it is over, unless strict", async () => {
    const pair = await startPair("sglang");
    await bothLegs(pair, chat("alpha"), "7");
    await untilEmpty(pair);
    expect((await bothLegs(pair, chat("bravo"), "7")).decoded.status).toBe(200);
    const strict = await startPair("sglang", { strict: true });
    await bothLegs(strict, chat("alpha"), "7");
    await untilEmpty(strict);
    const { prefilled, decoded } = await bothLegs(strict, chat("alpha"), "7");
    expect([prefilled.status, messageOf(prefilled.text)]).toEqual([400, "room 7 was used before"]);
    expect([decoded.status, messageOf(decoded.text)]).toEqual([
      500,
      "Decode transfer failed: room 7 was used before",
    ]);
  });
});

describe("legs that do not meet", () => {
  it("time out, each with 500, and leave nothing behind", async () => {
    const pair = await startPair("sglang", { roomTimeoutMs: 50 });
    const alone = await send(pair.prefiller, CHAT, withRoom(pair, chat("alpha"), "1"));
    expect(alone.status).toBe(500);
    expect(messageOf(alone.text)).toBe("Prefill bootstrap failed: room 1: no decode leg came within 50 ms");
    const unknown = await send(pair.decoder, CHAT, withRoom(pair, chat("alpha"), "2"));
    expect(unknown.status).toBe(500);
    expect(messageOf(unknown.text)).toBe("Decode transfer failed: room 2: no prefill was done within 50 ms");
    await untilEmpty(pair);
  });

  it("are refused a room that has such a leg", async () => {
    const pair = await startPair("sglang");
    const text = withRoom(pair, chat("alpha"), "3");
    const first = send(pair.prefiller, CHAT, text);
    await until(() => statusOf(pair.prefiller).rooms.length === 1);
    const second = await send(pair.prefiller, CHAT, text);
    expect([second.status, messageOf(second.text)]).toEqual([400, "room 3 already has a prefill leg"]);
    expect((await send(pair.decoder, CHAT, text)).status).toBe(200);
    expect((await first).status).toBe(200);
    await untilEmpty(pair);
  });

  it("of two decodes in one room the second fails", async () => {
    const pair = await startPair("sglang");
    const text = withRoom(pair, chat("alpha"), "4");
    const first = send(pair.decoder, CHAT, text);
    await until(() => statusOf(pair.prefiller).rooms.length === 1);
    const second = await send(pair.decoder, CHAT, text);
    expect(messageOf(second.text)).toBe("Decode transfer failed: room 4 already has a decode leg");
    const third = await send(pair.prefiller, CHAT, text);
    expect([third.status, (await first).status]).toEqual([200, 200]);
  });

  it("are let go when the client goes away", async () => {
    const pair = await startPair("sglang");
    for (const replica of [pair.prefiller, pair.decoder]) {
      const abort = new AbortController();
      const request = fetch(replica.url + CHAT, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: withRoom(pair, chat("alpha"), "6"),
        signal: abort.signal,
      });
      await until(() => statusOf(pair.prefiller).rooms.length === 1);
      abort.abort();
      await Promise.allSettled([request]);
      await untilEmpty(pair);
    }
  });

  it("find a prefiller that died meanwhile, or another port: 500", async () => {
    const pair = await startPair("sglang");
    const wrong = await send(pair.decoder, CHAT, withRoom(pair, chat("alpha"), "8", { bootstrap_port: 1 }));
    expect([wrong.status, messageOf(wrong.text)]).toEqual([
      500,
      expect.stringContaining("Decode transfer failed: no answer from 127.0.0.1:1:"),
    ]);
    const waiting = send(pair.decoder, CHAT, withRoom(pair, chat("alpha"), "9"));
    await until(() => statusOf(pair.prefiller).rooms.length === 1);
    await pair.prefiller.kill();
    expect((await waiting).status).toBe(500);
    expect(pair.decoder.generation.engines[0]!.engine.cache.usage).toBe(0);
    expect((await send(pair.decoder, "/v1/completions", { prompt: "a" })).status).toBe(400);
  });
});

describe("legs of different prompts", () => {
  const legs = async (pair: Pair): Promise<{ status: number; text: string }[]> => {
    return Promise.all([
      send(pair.prefiller, CHAT, withRoom(pair, chat("alpha"), "1")),
      send(pair.decoder, CHAT, withRoom(pair, chat("bravo"), "1")),
    ]);
  };

  it("decode garbage", async () => {
    const pair = await startPair("sglang");
    const [, decoded] = await legs(pair);
    expect([decoded!.status, contentOf(decoded!.text)]).toEqual([200, "\uFFFD".repeat(8)]);
    expect(statusOf(pair.decoder).staleReads).toBe(1);
  });

  it("are refused by a strict prefiller", async () => {
    const pair = await startPair("sglang", { strict: true });
    const [prefilled, decoded] = await legs(pair);
    expect([prefilled!.status, decoded!.status]).toEqual([500, 500]);
    expect(messageOf(decoded!.text)).toMatch(/room 1: the prompts are .* and .*, expected one$/);
    await untilEmpty(pair);
  });
});

describe("fields", () => {
  it.each([
    ["no room", { bootstrap_room: undefined }, "Disaggregated request received without bootstrap room id"],
    ["null for a room", { bootstrap_room: null }, "Disaggregated request received without bootstrap room id"],
    ["a fraction", { bootstrap_room: 1.5 }, "bootstrap_room is 1.5, expected an integer from 0 to 2^63 − 1"],
    ["a negative room", { bootstrap_room: -1 }, "bootstrap_room is -1, expected"],
    ["a room of text", { bootstrap_room: "1" }, 'bootstrap_room is "1", expected'],
    ["no host", { bootstrap_room: 1, bootstrap_host: undefined }, "bootstrap_host is absent, expected"],
    [
      "a port of text",
      { bootstrap_room: 1, bootstrap_port: "x" },
      'bootstrap_port is "x", expected 1 to 65535',
    ],
    ["port 0", { bootstrap_room: 1, bootstrap_port: 0 }, "bootstrap_port is 0, expected 1 to 65535"],
    ["two answers", { bootstrap_room: 1, n: 2 }, "bootstrap_room serves one sequence, the call has 2"],
  ])("%s: 400 from both servers", async (_, change, message) => {
    const pair = await startPair("sglang");
    const body = { ...chat("a"), bootstrap_host: "127.0.0.1", bootstrap_port: 8998, ...change };
    for (const replica of [pair.prefiller, pair.decoder]) {
      const { status, text } = await send(replica, CHAT, body);
      expect(status).toBe(400);
      expect(messageOf(text)).toContain(message);
      expect(statusOf(replica).refusals).toEqual([messageOf(text)]);
    }
  });

  it("refuses a room beyond 63 bits", async () => {
    const pair = await startPair("sglang");
    const { status } = await send(pair.decoder, CHAT, withRoom(pair, chat("a"), "9223372036854775808"));
    expect(status).toBe(400);
  });

  it("of a strict prefill leg must name that prefiller", async () => {
    const pair = await startPair("sglang", { strict: true });
    const { sideChannel } = statusOf(pair.prefiller);
    const body = withRoom(pair, chat("a"), "1", { bootstrap_port: 8998 });
    const { status, text } = await send(pair.prefiller, CHAT, body);
    expect([status, messageOf(text)]).toEqual([
      400,
      `bootstrap_host:bootstrap_port is 127.0.0.1:8998, expected ${sideChannel}`,
    ]);
  });

  it("have the ports of the real servers", () => {
    expect([NIXL_SIDE_CHANNEL_PORT, SGLANG_BOOTSTRAP_PORT]).toEqual([5600, 8998]);
    expect(noDisaggregation()).toMatchObject({ handshakeTimeoutMs: 5000, roomTimeoutMs: 300_000 });
  });
});

// Strict disaggregation: what a real decoder would answer from the wrong blocks is refused, with the reason.
import { describe, expect, it } from "vitest";
import {
  bothLegs,
  CHAT,
  chat,
  contentOf,
  decodeBody,
  messageOf,
  prefill,
  PREFILL_PARAMS,
  startPair,
  statusOf,
} from "./support/disaggregation.ts";
import { send, until } from "./support/replica.ts";

describe("strict mode", () => {
  it("lets a router that does it right pass, and sees integers beyond 2^53 survive", async () => {
    const pair = await startPair("nixl", { strict: true });
    const { params } = await prefill(pair.prefiller, chat("alpha"));
    const check = BigInt(/"check":(\d+)/.exec(params)![1]!);
    expect(BigInt(Number(check))).not.toBe(check);
    const headers = { "x-request-id": "rid" };
    const { status, text } = await send(pair.decoder, CHAT, decodeBody(chat("alpha"), params), headers);
    expect(status).toBe(200);
    expect(contentOf(text)).not.toContain("\uFFFD");
    await until(() => statusOf(pair.prefiller).heldBlocks === 0);
    expect(statusOf(pair.prefiller).issued[0]).toMatchObject({ state: "fetched", usedBy: "chatcmpl-rid" });
    expect(statusOf(pair.decoder).refusals).toEqual([]);
  });

  it("refuses parameters that were re-serialised", async () => {
    const pair = await startPair("nixl", { strict: true });
    const { status, text } = await bothLegs(pair, chat("alpha"));
    expect(status).toBe(400);
    expect(messageOf(text)).toMatch(
      /^kv_transfer_params of request .* are \{.*\}, expected \{.*\} as issued$/,
    );
    expect(statusOf(pair.decoder).refusals).toEqual([messageOf(text)]);
    expect(statusOf(pair.prefiller).issued[0]!.state).toBe("held");
  });

  it("refuses the second use, streams too, and even at the same time", async () => {
    const { prefiller, decoder } = await startPair("nixl", { strict: true });
    const { params } = await prefill(prefiller, chat("alpha"));
    const body = decodeBody(chat("alpha", { stream: true }), params);
    const answers = await Promise.all([send(decoder, CHAT, body), send(decoder, CHAT, body)]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400]);
    const refused = answers.find(({ status }) => status === 400)!;
    expect(messageOf(refused.text)).toMatch(/were already fetched, by chatcmpl-/);
    expect((await send(decoder, CHAT, body)).status).toBe(400);
  });

  it("refuses what was never issued, is another engine's, or another prompt's", async () => {
    const { prefiller, decoder } = await startPair("nixl", { strict: true });
    const { params } = await prefill(prefiller, chat("alpha"));
    const refused = async (text: string, words = "alpha"): Promise<string> => {
      const answer = await send(decoder, CHAT, decodeBody(chat(words), text));
      expect(answer.status).toBe(400);
      return messageOf(answer.text);
    };
    const renamed = params.replace(/"remote_request_id":"[^"]*"/, '"remote_request_id":"chatcmpl-nope"');
    expect(await refused(renamed)).toMatch(/of request chatcmpl-nope were never issued by engine /);
    const moved = params.replace(/"remote_engine_id":"[^"]*"/, '"remote_engine_id":"another"');
    expect(await refused(moved)).toMatch(/name engine another, this is /);
    expect(await refused(params, "bravo")).toMatch(
      /belong to another prompt: \d+ tokens [0-9a-f]{8}, this one is /,
    );
    expect((await send(decoder, CHAT, decodeBody(chat("alpha"), params))).status).toBe(200);
  });

  it("refuses what has expired", async () => {
    const { prefiller, decoder } = await startPair("nixl", { strict: true, engine: { holdMs: 50 } });
    const { params } = await prefill(prefiller, chat("alpha"));
    await until(() => statusOf(prefiller).heldBlocks === 0);
    const { status, text } = await send(decoder, CHAT, decodeBody(chat("alpha"), params));
    expect(status).toBe(400);
    expect(messageOf(text)).toContain("have expired: their blocks are released");
  });

  it("answers a dead prefiller as a real decoder does", async () => {
    const { prefiller, decoder } = await startPair("nixl", { strict: true, handshakeTimeoutMs: 50 });
    const { params } = await prefill(prefiller, chat("alpha"));
    await prefiller.kill();
    expect((await send(decoder, CHAT, decodeBody(chat("alpha"), params))).status).toBe(500);
  });

  const leg = { ...chat("a"), max_tokens: 1, kv_transfer_params: PREFILL_PARAMS };
  const params = (change: object): object => ({
    ...leg,
    kv_transfer_params: { ...PREFILL_PARAMS, ...change },
  });
  const remote = { do_remote_prefill: true, do_remote_decode: false };
  it.each([
    ["prefill", { ...leg, stream: true }, "stream is true, expected false in a prefill leg"],
    ["prefill", { ...leg, max_tokens: 8 }, "max_tokens is 8, expected 1 in a prefill leg"],
    [
      "prefill",
      { ...leg, max_completion_tokens: 8 },
      "max_completion_tokens is 8, expected 1 in a prefill leg",
    ],
    ["prefill", { ...leg, max_tokens: undefined }, "max_tokens is absent, expected 1 in a prefill leg"],
    ["prefill", { ...leg, min_tokens: 3 }, "min_tokens is 3, expected no such field in a prefill leg"],
    ["prefill", { ...leg, n: 2 }, "n is 2, expected 1: kv_transfer_params belong to one sequence"],
    ["prefill", params({ remote_host: "x" }), 'kv_transfer_params.remote_host is "x", expected null'],
    [
      "prefill",
      params({ do_remote_prefill: true }),
      "kv_transfer_params.do_remote_prefill is true, expected false",
    ],
    ["prefill", chat("a"), 'role is "prefill", expected prefill legs only, not ordinary requests'],
    [
      "prefill",
      { ...leg, kv_transfer_params: remote },
      'role is "prefill", expected prefill legs only, not decode',
    ],
    ["decode", leg, 'role is "decode", expected decode legs and ordinary requests'],
    [
      "decode",
      { ...leg, kv_transfer_params: remote },
      "kv_transfer_params.remote_engine_id is absent, expected what",
    ],
  ] as const)("of a %s server refuses %j", async (role, body, message) => {
    const pair = await startPair("nixl", { strict: true });
    const replica = role === "prefill" ? pair.prefiller : pair.decoder;
    const { status, text } = await send(replica, CHAT, body);
    expect(status).toBe(400);
    expect(messageOf(text)).toContain(message);
    expect(statusOf(replica)).toMatchObject({ heldBlocks: 0, refusals: [messageOf(text)] });
  });

  it("of a decode server answers long ordinary requests", async () => {
    const { decoder } = await startPair("nixl", { strict: true });
    const body = { prompt: "some words ".repeat(400), max_tokens: 1 };
    expect((await send(decoder, "/v1/completions", body)).status).toBe(200);
  });

  it("of a server for both takes every request, its own parameters too", async () => {
    const { decoder } = await startPair("nixl", { strict: true, role: "both" });
    const { params } = await prefill(decoder, chat("alpha"));
    expect((await send(decoder, CHAT, decodeBody(chat("alpha"), params))).status).toBe(200);
    expect((await send(decoder, CHAT, chat("bravo"))).status).toBe(200);
  });
});

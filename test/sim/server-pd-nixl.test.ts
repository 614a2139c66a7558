// Disaggregation as vLLM 0.32.0 with NixlConnector does it, field for field as two real servers were seen to.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
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
import { pageShape, sampleValue } from "./support/metrics-page.ts";
import { eventsOf, get, send, startReplica, until } from "./support/replica.ts";

/** The families that NixlConnector adds to the page of vLLM 0.32.0. */
const NIXL_SHAPE = fileURLToPath(new URL("fixtures/vllm-0.32.0-nixl-metrics.txt", import.meta.url));
const ENGINE = '{engine="0",model_name="tiny"}';
const INTERNAL =
  '{"error":{"message":"Internal server error","type":"InternalServerError","param":null,"code":500}}';

async function metric(replica: SimulatedReplica, name: string): Promise<number> {
  return sampleValue(await get(replica, "/metrics"), name);
}

describe("a prefill leg", () => {
  it("answers the parameters of its held blocks, in vLLM's order", async () => {
    const { prefiller } = await startPair("nixl");
    const { answer, params } = await prefill(prefiller, chat("alpha"));
    const issued = JSON.parse(params) as Record<string, unknown>;
    expect(Object.keys(issued).join()).toBe(
      "do_remote_prefill,do_remote_decode,remote_block_ids,remote_engine_id,remote_request_id,remote_host," +
        "remote_port,tp_size,dcp_size,pp_size,remote_num_tokens,remote_blocks_expiry_time,transfer_mode," +
        "remote_prefill_cached_tokens",
    );
    const { prompt_tokens } = answer.usage;
    const blocks = Math.ceil(prompt_tokens / 16);
    const [host, port] = statusOf(prefiller).sideChannel.split(":");
    expect(issued).toMatchObject({
      do_remote_prefill: true,
      do_remote_decode: false,
      remote_block_ids: [Array.from({ length: blocks }, (_, i) => i + 1)],
      remote_engine_id: statusOf(prefiller).engineId,
      remote_host: host,
      remote_port: Number(port),
      remote_num_tokens: prompt_tokens,
      remote_blocks_expiry_time: null,
      remote_prefill_cached_tokens: 0,
    });
    expect(statusOf(prefiller).heldBlocks).toBe(blocks);
    const usage = await metric(prefiller, `vllm:kv_cache_usage_perc${ENGINE}`);
    expect(usage).toBeCloseTo(blocks / 1024, 9);
  });

  it.each([
    [CHAT, chat("a"), /^chatcmpl-rid-[0-9a-f]{8}$/],
    ["/v1/completions", { prompt: "one two three" }, /^cmpl-rid-0-[0-9a-f]{8}$/],
    ["/v1/messages", { messages: [{ role: "user", content: "hi" }] }, /^chatcmpl-rid-[0-9a-f]{8}$/],
    ["/v1/responses", { input: "hi", max_output_tokens: 1 }, /^resp_rid_0-[0-9a-f]{8}$/],
  ])("of %s is named after its answer's id", async (path, body, id) => {
    const { prefiller } = await startPair("nixl");
    const leg = { ...body, max_tokens: 1, kv_transfer_params: PREFILL_PARAMS };
    const { text } = await send(prefiller, path, leg, { "x-request-id": "rid" });
    expect(JSON.parse(text).kv_transfer_params.remote_request_id).toMatch(id);
  });

  it("tells its prefix cache hits, unless it generated more than one token", async () => {
    const { prefiller } = await startPair("nixl");
    await prefill(prefiller, chat("alpha"));
    const { params } = await prefill(prefiller, chat("alpha"));
    expect(JSON.parse(params).remote_prefill_cached_tokens).toBeGreaterThan(0);
    const longer = { ...chat("alpha"), max_tokens: 5, kv_transfer_params: PREFILL_PARAMS };
    const { text } = await send(prefiller, CHAT, longer);
    const issued = JSON.parse(text);
    expect(issued.kv_transfer_params).not.toHaveProperty("remote_prefill_cached_tokens");
    expect(issued.kv_transfer_params.remote_num_tokens).toBe(issued.usage.prompt_tokens + 4);
  });

  it("that is streamed holds its blocks and tells nothing", async () => {
    const { prefiller } = await startPair("nixl");
    const leg = { ...chat("alpha"), max_tokens: 1, stream: true, kv_transfer_params: PREFILL_PARAMS };
    const { text } = await send(prefiller, CHAT, leg);
    expect(text).not.toContain("kv_transfer_params");
    expect(statusOf(prefiller).heldBlocks).toBeGreaterThan(0);
  });

  it("of two prompts tells the first one's parameters and holds both", async () => {
    const { prefiller } = await startPair("nixl");
    const body = { prompt: ["one two three", "four five six seven"], max_tokens: 1 };
    const { text } = await send(prefiller, "/v1/completions", {
      ...body,
      kv_transfer_params: PREFILL_PARAMS,
    });
    expect(JSON.parse(text).kv_transfer_params.remote_block_ids).toEqual([[1]]);
    expect(statusOf(prefiller).heldBlocks).toBe(2);
  });

  it("whose client goes away before the end holds nothing", async () => {
    const { prefiller } = await startPair("nixl");
    const abort = new AbortController();
    const body = { ...chat("alpha"), max_tokens: 3000, kv_transfer_params: PREFILL_PARAMS };
    const request = fetch(prefiller.url + CHAT, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: abort.signal,
    });
    await until(() => prefiller.generation.inFlight === 1);
    abort.abort();
    await Promise.allSettled([request]);
    await until(() => prefiller.generation.inFlight === 0);
    expect(statusOf(prefiller)).toMatchObject({ heldBlocks: 0, issued: [] });
  });

  it.each([
    [
      "[]",
      "body.kv_transfer_params', 'msg': 'Input should be a valid dictionary', 'input': '<list of 0 items>'",
    ],
    ['"x"', "body.kv_transfer_params', 'msg': 'Input should be a valid dictionary', 'input': 'x'"],
  ])("with %s for parameters is refused", async (value, message) => {
    const { prefiller } = await startPair("nixl");
    const { status, text } = await send(prefiller, CHAT, decodeBody(chat("a"), value));
    expect(status).toBe(400);
    expect(messageOf(text)).toContain(message);
  });

  it("is an ordinary request to a server without connector, and for parameters that ask nothing", async () => {
    const plain = await startReplica();
    const { text } = await send(plain, CHAT, { ...chat("a"), kv_transfer_params: PREFILL_PARAMS });
    expect(JSON.parse(text).kv_transfer_params).toBeNull();
    const { decoder } = await startPair("nixl");
    for (const value of ["{}", '{"do_remote_prefill":false}', '{"a":9223372036854775808}']) {
      expect((await send(decoder, CHAT, decodeBody(chat("a"), value))).status).toBe(200);
    }
    expect(statusOf(decoder)).toMatchObject({ heldBlocks: 0, refusals: [] });
  });
});

describe("a decode leg", () => {
  it("says what an undisaggregated server says, without computing the prompt", async () => {
    const pair = await startPair("nixl");
    const plain = await startReplica();
    const expected = contentOf((await send(plain, CHAT, chat("alpha"))).text);
    const { status, text } = await bothLegs(pair, chat("alpha"));
    expect([status, contentOf(text)]).toEqual([200, expected]);
    const { usage, kv_transfer_params } = JSON.parse(text);
    expect(kv_transfer_params).toBeNull();
    expect(usage.prompt_tokens_details).toMatchObject({ cached_tokens: 0, created_cache_tokens: 0 });
    const tokens = usage.prompt_tokens as number;
    const blocks = Math.ceil(tokens / 16);
    const page = await get(pair.decoder, "/metrics");
    const source = (name: string): string => `{engine="0",model_name="tiny",source="${name}"}`;
    expect(sampleValue(page, `vllm:prompt_tokens_by_source_total${source("external_kv_transfer")}`)).toBe(
      tokens,
    );
    expect(sampleValue(page, `vllm:prompt_tokens_by_source_total${source("local_compute")}`)).toBe(0);
    expect(sampleValue(page, `vllm:prompt_tokens_cached_by_source_total${source("p2p")}`)).toBe(tokens);
    expect(sampleValue(page, `vllm:external_prefix_cache_queries_total${ENGINE}`)).toBe(tokens);
    expect(sampleValue(page, `vllm:external_prefix_cache_hits_total${ENGINE}`)).toBe(tokens);
    expect(sampleValue(page, `vllm:prompt_tokens_cached_total${ENGINE}`)).toBe(tokens);
    expect(sampleValue(page, `vllm:request_prefill_kv_computed_tokens_sum${ENGINE}`)).toBe(tokens);
    expect(sampleValue(page, `vllm:nixl_bytes_transferred_sum${ENGINE}`)).toBe(blocks * 16 * 163_840);
    await until(() => statusOf(pair.prefiller).heldBlocks === 0);
    expect(statusOf(pair.prefiller).issued[0]).toMatchObject({ state: "fetched", tokens });
  });

  it("streams, and reports the prefiller's prefix cache hits as cached tokens", async () => {
    const pair = await startPair("nixl");
    await bothLegs(pair, chat("alpha"));
    const body = chat("alpha", { stream: true, stream_options: { include_usage: true } });
    const { params } = await prefill(pair.prefiller, chat("alpha"));
    const cached = JSON.parse(params).remote_prefill_cached_tokens as number;
    const { text } = await send(pair.decoder, CHAT, decodeBody(body, params));
    const events = eventsOf(text);
    expect(events.at(-1)).toBe("[DONE]");
    expect(JSON.parse(events.at(-2)!).usage.prompt_tokens_details.cached_tokens).toBe(cached);
    expect(cached).toBeGreaterThan(0);
  });

  it("reports all prompt tokens as cached when it is not told the prefiller's hits", async () => {
    const { text } = await bothLegs(await startPair("nixl"), chat("alpha"), (params) => {
      const { remote_prefill_cached_tokens: _, ...rest } = params;
      return rest;
    });
    const { usage } = JSON.parse(text);
    expect(usage.prompt_tokens_details.cached_tokens).toBe(usage.prompt_tokens);
  });

  it("pulls only what it does not have", async () => {
    const pair = await startPair("nixl");
    await bothLegs(pair, chat("alpha"));
    const before = await metric(pair.decoder, `vllm:external_prefix_cache_hits_total${ENGINE}`);
    await bothLegs(pair, chat("alpha"));
    const pulled = (await metric(pair.decoder, `vllm:external_prefix_cache_hits_total${ENGINE}`)) - before;
    expect(pulled).toBeGreaterThan(0);
    expect(pulled).toBeLessThanOrEqual(16);
  });

  it("works in every API, and on a prefiller", async () => {
    const { prefiller, decoder } = await startPair("nixl");
    const bodies: [string, object][] = [
      ["/v1/completions", { prompt: "one two three four five six" }],
      ["/v1/messages", { messages: [{ role: "user", content: "hi there" }] }],
      ["/v1/responses", { input: "hi there", max_output_tokens: 1 }],
    ];
    for (const [path, body] of bodies) {
      const { params } = await prefill(prefiller, body, path);
      expect((await send(decoder, path, decodeBody({ max_tokens: 3, ...body }, params))).status).toBe(200);
    }
    const { params } = await prefill(decoder, chat("back"));
    expect((await send(prefiller, CHAT, decodeBody(chat("back"), params))).status).toBe(200);
    expect([statusOf(prefiller).staleReads, statusOf(decoder).staleReads]).toEqual([0, 0]);
  });

  it("reads garbage, with 200, when the parameters were used before, or are another prompt's", async () => {
    const { prefiller, decoder } = await startPair("nixl");
    const { params } = await prefill(prefiller, chat("alpha"));
    await send(decoder, CHAT, decodeBody(chat("alpha"), params));
    const again = await send(decoder, CHAT, decodeBody(chat("bravo"), params));
    expect([again.status, contentOf(again.text)]).toEqual([200, "\uFFFD".repeat(8)]);
    const second = await prefill(prefiller, chat("alpha"));
    const other = await send(decoder, CHAT, decodeBody(chat("delta"), second.params));
    expect([other.status, contentOf(other.text)]).toEqual([200, "\uFFFD".repeat(8)]);
    expect(statusOf(decoder).staleReads).toBe(2);
    await until(() => statusOf(prefiller).heldBlocks === 0);
    expect(await metric(prefiller, `vllm:nixl_num_notifications_after_expiry_total${ENGINE}`)).toBe(1);
  });

  it("asks a prefiller that it knows where it was, whatever port is named", async () => {
    const pair = await startPair("nixl");
    await bothLegs(pair, chat("alpha"));
    const { status } = await bothLegs(pair, chat("bravo"), (params) => ({ ...params, remote_port: 1 }));
    expect(status).toBe(200);
  });

  it("lets the prefiller go when it is refused or its client leaves before it gets blocks", async () => {
    const { prefiller, decoder } = await startPair("nixl", { replica: { requestsMax: 1 } });
    decoder.inject({ slowdown: 1_000 });
    const busy = send(decoder, CHAT, chat("busy", { max_tokens: 400 }));
    await until(() => decoder.generation.inFlight === 1);
    const { params } = await prefill(prefiller, chat("alpha"));
    expect((await send(decoder, CHAT, decodeBody(chat("alpha"), params))).status).toBe(503);
    await until(() => statusOf(prefiller).heldBlocks === 0);
    decoder.inject({ slowdown: 1 });
    await busy;
  });

  it("keeps the prefiller's blocks alive while it waits for room", async () => {
    const { prefiller, decoder } = await startPair("nixl", { engine: { holdMs: 6000, sequencesMax: 1 } });
    const abort = new AbortController();
    const busy = fetch(decoder.url + CHAT, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(chat("busy", { max_tokens: 3900 })),
      signal: abort.signal,
    });
    await until(() => decoder.generation.engines[0]!.engine.runningCount === 1);
    const { params } = await prefill(prefiller, chat("alpha"));
    const expiresMs = (): number => [...prefiller.generation.engines[0]!.engine.holds][0]!.expiresMs;
    const promisedMs = expiresMs();
    const waiting = send(decoder, CHAT, decodeBody(chat("alpha"), params));
    await until(() => expiresMs() > promisedMs);
    abort.abort();
    await Promise.allSettled([busy]);
    expect(contentOf((await waiting).text)).not.toContain("\uFFFD");
    await until(() => statusOf(prefiller).issued[0]!.state === "fetched");
  });
});

describe("faults", () => {
  it("a prefiller that died after it was met: 500 at once, and the decoder lives on", async () => {
    const { prefiller, decoder } = await startPair("nixl", { handshakeTimeoutMs: 60_000 });
    await bothLegs({ prefiller, decoder }, chat("alpha"));
    const { params } = await prefill(prefiller, chat("bravo"));
    await prefiller.kill();
    const { status, text } = await send(decoder, CHAT, decodeBody(chat("bravo"), params));
    expect([status, text]).toEqual([500, INTERNAL]);
    expect(decoder.generation.engines[0]!.engine.cache.usage).toBe(0);
    expect(await metric(decoder, `vllm:nixl_num_failed_transfers_total${ENGINE}`)).toBe(1);
    const success = 'vllm:request_success_total{engine="0",finished_reason="error",model_name="tiny"}';
    expect(await metric(decoder, success)).toBe(1);
    expect((await send(decoder, CHAT, chat("alive"))).status).toBe(200);
  });

  it("a stream that fails opens, then tells the error", async () => {
    const { prefiller, decoder } = await startPair("nixl", { handshakeTimeoutMs: 50 });
    const { params } = await prefill(prefiller, chat("alpha"));
    await prefiller.kill();
    const { status, text } = await send(decoder, CHAT, decodeBody(chat("alpha", { stream: true }), params));
    const events = eventsOf(text);
    expect([status, events.length]).toEqual([200, 3]);
    expect(JSON.parse(events[0]!).choices[0].delta.role).toBe("assistant");
    expect(events.slice(1)).toEqual([INTERNAL, "[DONE]"]);
  });

  it.each([
    ["a port that nobody listens on", { remote_port: 1 }],
    [
      "an engine id that is not the prefiller's",
      { remote_engine_id: "11111111-2222-3333-4444-555555555555" },
    ],
  ])("%s: 500", async (_, change) => {
    const pair = await startPair("nixl", { handshakeTimeoutMs: 500 });
    const { status, text } = await bothLegs(pair, chat("alpha"), (params) => ({ ...params, ...change }));
    expect([status, text]).toEqual([500, INTERNAL]);
    expect(pair.decoder.generation.inFlight).toBe(0);
  });

  it("a prefiller that was restarted is another engine: 500", async () => {
    const pair = await startPair("nixl");
    await bothLegs(pair, chat("alpha"));
    const { params } = await prefill(pair.prefiller, chat("bravo"));
    const address = statusOf(pair.prefiller).sideChannel;
    await pair.prefiller.restart();
    expect(statusOf(pair.prefiller)).toMatchObject({ sideChannel: address, issued: [] });
    expect((await send(pair.decoder, CHAT, decodeBody(chat("bravo"), params))).status).toBe(500);
    expect((await bothLegs(pair, chat("bravo"))).status).toBe(200);
  });

  it("blocks that nobody fetches are freed at the deadline, and read as garbage after", async () => {
    const pair = await startPair("nixl", { engine: { holdMs: 50 } });
    const { params } = await prefill(pair.prefiller, chat("alpha"));
    await until(() => statusOf(pair.prefiller).heldBlocks === 0);
    expect(statusOf(pair.prefiller).issued[0]!.state).toBe("expired");
    expect(await metric(pair.prefiller, `vllm:nixl_num_kv_expired_reqs_total${ENGINE}`)).toBe(1);
    expect(await metric(pair.prefiller, `vllm:kv_cache_usage_perc${ENGINE}`)).toBe(0);
    const { status, text } = await send(pair.decoder, CHAT, decodeBody(chat("alpha"), params));
    expect([status, contentOf(text)]).toEqual([200, "\uFFFD".repeat(8)]);
  });

  it("fewer blocks than the prompt needs kill the decoder's engine", async () => {
    const pair = await startPair("nixl");
    const { status } = await bothLegs(pair, chat("alpha"), (params) => ({
      ...params,
      remote_block_ids: [[1]],
    }));
    expect(status).toBe(500);
    expect((await fetch(`${pair.decoder.url}/health`)).status).toBe(503);
  });

  it("parameters without a host wait for ever, and kill the engine when the client gives up", async () => {
    const { prefiller, decoder } = await startPair("nixl");
    const { params } = await prefill(prefiller, chat("alpha"));
    const { remote_host: _, ...rest } = JSON.parse(params);
    const abort = new AbortController();
    const request = fetch(decoder.url + CHAT, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...chat("alpha"), kv_transfer_params: rest }),
      signal: abort.signal,
    });
    const { engine } = decoder.generation.engines[0]!;
    await until(() => engine.pullingCount === 1);
    abort.abort();
    await Promise.allSettled([request]);
    await until(() => !decoder.generation.alive);
  });
});

describe("metrics", () => {
  it("have the families of a real page with NixlConnector", async () => {
    const { decoder } = await startPair("nixl");
    const shape = pageShape(await get(decoder, "/metrics"));
    const expected = readFileSync(NIXL_SHAPE, "utf8").trimEnd().split("\n");
    expect(expected.length).toBe(17);
    expect(shape).toEqual(expect.arrayContaining(expected));
  });

  it("show a request that waits for its blocks", async () => {
    const { prefiller, decoder } = await startPair("nixl", { engine: { transferBaseMs: 2_000 } });
    const { params } = await prefill(prefiller, chat("alpha"));
    const answer = send(decoder, CHAT, decodeBody(chat("alpha"), params));
    await until(() => decoder.generation.engines[0]!.engine.pullingCount === 1);
    const page = await get(decoder, "/metrics");
    const labels = (name: string, value: string): string =>
      `{engine="0",model_name="tiny",${name}="${value}"}`;
    expect(sampleValue(page, `vllm:num_requests_waiting${ENGINE}`)).toBe(1);
    expect(sampleValue(page, `vllm:num_requests_waiting_by_reason${labels("reason", "deferred")}`)).toBe(1);
    expect(sampleValue(page, `vllm:num_requests_kv_fetch_by_stage${labels("stage", "in_progress")}`)).toBe(1);
    await answer;
  });
});

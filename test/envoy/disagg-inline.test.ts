// Mode "inline" over NIXL: both legs as strict simulated model servers want them, byte by byte, over both protocols.
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { noDisaggregation } from "../../host-sim/model-server/disaggregation/config.ts";
import { contentOf, statusOf } from "../sim/support/disaggregation.ts";
import { eventsOf, send as sendTo, startReplica } from "../sim/support/replica.ts";
import { open, type Protocol, PROTOCOLS, send } from "./clients.ts";
import { DECODE, disaggregation, PREFILL, PREFILLER } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { pushPolicy } from "./policy.ts";
import { encodeSnapshot } from "./snapshot.ts";
import { settled } from "./status.ts";
import { CHAT_PATH, inference, text } from "./support.ts";
import { answer } from "./upstream.ts";

type Running = Gateway & { stop(): Promise<void> };
const INLINE = { parameters: { mode: "inline" } };

/** A gateway before a strict prefiller and a strict decoder. */
async function startPair(
  version: string,
): Promise<{ gateway: Running; prefiller: SimulatedReplica; decoder: SimulatedReplica }> {
  const start = (role: "prefill" | "decode"): Promise<SimulatedReplica> =>
    startReplica({
      name: role,
      disaggregation: { ...noDisaggregation(), connector: "nixl", role, strict: true },
    });
  const [prefiller, decoder] = [await start("prefill"), await start("decode")];
  const gateway = await startGateway(version, {
    replicas: 0,
    extraEndpoints: [prefiller.address, decoder.address],
    snapshot: false,
    pluginConfig: disaggregation(INLINE),
  });
  onTestFinished(() => gateway.stop());
  const endpoints = [
    { address: prefiller.address, models: [], ...PREFILL },
    { address: decoder.address, models: [], ...DECODE },
  ];
  expect((await gateway.pushBytes(encodeSnapshot(endpoints))).status).toBe(204);
  return { gateway, prefiller, decoder };
}

describe.each(ENVOY_VERSIONS)("a prompt that the filter has computed elsewhere, on Envoy %s", (version) => {
  const chat = (words: string, more: object = {}): object => ({
    model: "tiny",
    messages: [{ role: "user", content: `${words} and more words to fill some blocks `.repeat(8) }],
    max_tokens: 8,
    ignore_eos: true,
    ...more,
  });

  it.each(PROTOCOLS)("gives the answer that one replica would give, over %s", async (protocol) => {
    const { gateway, prefiller, decoder } = await startPair(version);
    const whole = await startReplica();
    for (const [words, more] of [
      ["alpha", {}],
      ["beta", { max_completion_tokens: 5, min_tokens: 2 }],
      ["gamma", { seed: 4503599627370497, temperature: 1.5 }],
    ] as const) {
      const body = chat(words, more);
      const reply = await send(gateway.url, {
        protocol,
        path: CHAT_PATH,
        method: "POST",
        body,
      });
      expect([words, reply.status, reply.text.slice(0, 300)]).toEqual([words, 200, expect.anything()]);
      expect(contentOf(reply.text)).toBe(contentOf((await sendTo(whole, CHAT_PATH, body)).text));
    }
    const streamed = chat("delta", { stream: true, stream_options: { include_usage: true } });
    const reply = await send(gateway.url, { protocol, path: CHAT_PATH, method: "POST", body: streamed });
    expect(reply.status).toBe(200);
    const deltas = (events: string[]): string =>
      events
        .filter((event) => event !== "[DONE]")
        .map((event) => JSON.parse(event).choices[0]?.delta.content ?? "")
        .join("");
    const direct = await sendTo(whole, CHAT_PATH, streamed);
    expect(deltas(eventsOf(reply.text))).toBe(deltas(eventsOf(direct.text)));
    expect(deltas(eventsOf(reply.text)).length).toBeGreaterThan(5);
    // A decoder tells the prefiller beside its answer that it has the blocks.
    await until("all blocks are fetched", () =>
      statusOf(prefiller).issued.every(({ state }) => state === "fetched"),
    );
    expect(statusOf(prefiller).issued.length).toBe(4);
    for (const replica of [prefiller, decoder]) {
      expect(statusOf(replica).refusals).toEqual([]);
      expect(statusOf(replica).staleReads).toBe(0);
    }
    // Both legs carry one request id, from which engines make their own.
    for (const { requestId, usedBy } of statusOf(prefiller).issued) {
      expect(usedBy).toMatch(/^chatcmpl-.{20,}/);
      expect(requestId.startsWith(`${usedBy}-`)).toBe(true);
    }
    const { counters } = await settled(gateway);
    expect(counters["promptsDisaggregated"]).toBe(4);
    expect([counters["prefillFailures"], counters["prefillFallbacks"], counters["prefillCalls"]]).toEqual([
      0, 0, 0,
    ]);
  });

  it("is learnt from at the prefill endpoint, and the transfer apart", async () => {
    const { gateway, prefiller, decoder } = await startPair(version);
    for (let i = 0; i < 8; i++) {
      const body = chat(text(i, 200), { stream: true });
      expect((await send(gateway.url, { path: CHAT_PATH, method: "POST", body })).status).toBe(200);
      await settled(gateway);
    }
    const status = await gateway.status<{
      pools: {
        transferTokenMs: number;
        transferSamples: number;
        endpoints: { address: string; prefillSamples: number }[];
      }[];
    }>();
    expect(status.pools[0]!.transferSamples).toBe(8);
    expect(status.pools[0]!.transferTokenMs).toBeGreaterThanOrEqual(0);
    const samples = (address: string): number =>
      status.pools[0]!.endpoints.find((endpoint) => endpoint.address === address)!.prefillSamples;
    expect(samples(prefiller.address)).toBeGreaterThan(3);
    // Envoy shows histograms once in its flush interval.
    for (const name of ["epp_prefill_leg_ms_count", "epp_decode_leg_ms_count"])
      await until(name, async () => (await gateway.metric(name)) === 8);
    expect(samples(decoder.address)).toBeLessThan(samples(prefiller.address));
  });
});

const PARAMS = '{"do_remote_prefill":true,"id":12345678901234567890,"f":1.10,"t":"\\u00e4\\"}"}';
const REPLY = `{"id":"chatcmpl-1","choices":[{"message":{"kv_transfer_params":"no"}}],"kv_transfer_params":null,"kv_transfer_params": ${PARAMS} ,"usage":{}}`;
const PREFILL_BODY =
  '{"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null},"stream":false,"max_tokens":1,';

describe.each(ENVOY_VERSIONS)("the bodies of both legs on Envoy %s", (version) => {
  let gateway: Running;
  beforeAll(async () => {
    gateway = await startGateway(version, {
      replicas: 2,
      snapshot: false,
      pluginConfig: disaggregation(INLINE),
    });
    await gateway.push([DECODE, PREFILL]);
    gateway.replicas[1]!.behave(answer(200, REPLY, { "content-type": "application/json" }));
    return () => gateway.stop();
  });

  async function legs(
    body: string,
    protocol: Protocol,
    length: boolean,
    pieceBytes = body.length,
  ): Promise<{ prefill: string; decode: string; lengths: (string | undefined)[] }> {
    for (const replica of gateway.replicas) replica.forget();
    const bytes = Buffer.from(body);
    const headers: Record<string, string> = {
      "content-type": "application/json",
      authorization: "Bearer k",
      "accept-encoding": "gzip",
      ...(length ? { "content-length": String(bytes.length) } : {}),
    };
    const exchange = open(gateway.url, { protocol, path: CHAT_PATH, method: "POST", headers });
    for (let at = 0; at < bytes.length; at += pieceBytes)
      await exchange.write(bytes.subarray(at, at + pieceBytes));
    exchange.end();
    expect((await exchange.reply).status).toBe(200);
    const [decode, prefill] = gateway.replicas.map(({ received }) => received[0]!);
    expect(prefill!.headers["authorization"]).toBe("Bearer k");
    expect(prefill!.headers["accept-encoding"]).toBeUndefined();
    expect(prefill!.headers["x-request-id"]).toBe(decode!.headers["x-request-id"]);
    expect(decode!.headers[PREFILLER]).toBeUndefined();
    return {
      prefill: prefill!.body.toString(),
      decode: decode!.body.toString(),
      lengths: [prefill!, decode!].map((leg) => leg.headers["content-length"]),
    };
  }

  const messages = (content = "hi"): string =>
    `"messages":[{"role":"user","content":${JSON.stringify(content)}}]`;

  it.each<[string, string, string]>([
    ["plain", `{"model":"m",${messages()}}`, `"model":"m",${messages()}}`],
    [
      "with all that is replaced, twice and escaped",
      `{"stream":true,"model":"m","max_tokens":9,"stream_options":{"include_usage":true},${messages()},"max_tokens":7,"min_tokens":3,"str\\u0065am":true}`,
      `"model":"m",${messages()}}`,
    ],
    [
      "with max_completion_tokens",
      `{"max_completion_tokens":50,"model":"m",${messages()}}`,
      `"max_completion_tokens":1,"model":"m",${messages()}}`,
    ],
    [
      "with numbers that JSON.parse rounds",
      `{"model":"m","seed":9007199254740993,"temperature":1.10,"n":1,${messages()}}`,
      `"model":"m","seed":9007199254740993,"temperature":1.10,"n":1,${messages()}}`,
    ],
    [
      "with such names deeper down and in texts",
      `{"model":"m","metadata":{"stream":true,"max_tokens":5},"stream":false,${messages('","stream":true,"max_tokens":3}')}}`,
      `"model":"m","metadata":{"stream":true,"max_tokens":5},${messages('","stream":true,"max_tokens":3}')}}`,
    ],
    [
      "with white space everywhere",
      `\n{ "model" : "m" ,\t"stream" : true , ${messages()} }\n`,
      `"model" : "m",${messages()}}`,
    ],
  ])("%s", async (_, body, prefilled) => {
    const at = body.indexOf("{") + 1;
    for (const protocol of PROTOCOLS) {
      for (const [length, pieceBytes] of [
        [true, body.length],
        [false, 1],
        [false, 7],
      ] as const) {
        const both = await legs(body, protocol, length, pieceBytes);
        expect(both.prefill).toBe(PREFILL_BODY + prefilled);
        expect(both.decode).toBe(`{"kv_transfer_params":${PARAMS},${body.slice(at)}`);
        expect(both.lengths[0]).toBe(String(Buffer.byteLength(both.prefill)));
        if (length) expect(both.lengths[1]).toBe(String(Buffer.byteLength(both.decode)));
      }
    }
  });

  it("of 900 KB go whole; a longer one is decoded where it is, and counted", async () => {
    for (const protocol of PROTOCOLS) {
      const body = `{"model":"m",${messages(text("é☕", 900_000).slice(0, 300_000))}}`;
      const both = await legs(body, protocol, true, 50_000);
      expect(both.prefill).toBe(`${PREFILL_BODY}${body.slice(1)}`);
      expect(both.decode).toBe(`{"kv_transfer_params":${PARAMS},${body.slice(1)}`);
    }
    // With the parameters they are longer than what Envoy would hold of a body that comes.
    const long = `{"do_remote_prefill":true,"remote_block_ids":[${"123456,".repeat(70_000)}1]}`;
    gateway.replicas[1]!.behave(answer(200, `{"kv_transfer_params":${long}}`));
    for (const protocol of PROTOCOLS) {
      const body = `{"model":"m",${messages(text(protocol, 900_000))}}`;
      const { decode } = await legs(body, protocol, true, 50_000);
      expect(decode).toBe(`{"kv_transfer_params":${long},${body.slice(1)}`);
    }
    gateway.replicas[1]!.behave(answer(200, REPLY, { "content-type": "application/json" }));
    for (const replica of gateway.replicas) replica.forget();
    const before = (await settled(gateway)).counters["disaggregationsUnfit"]!;
    const tooLong = `{"model":"m",${messages("x".repeat(1_200_000))}}`;
    const exchange = open(gateway.url, { path: CHAT_PATH, method: "POST" });
    for (let at = 0; at < tooLong.length; at += 60_000) await exchange.write(tooLong.slice(at, at + 60_000));
    exchange.end();
    expect((await exchange.reply).status).toBe(200);
    expect(gateway.replicas[0]!.received[0]!.body.toString()).toBe(tooLong);
    expect(gateway.replicas[1]!.received).toEqual([]);
    expect((await settled(gateway)).counters["disaggregationsUnfit"]).toBe(before + 1);
  });

  it.each([
    ["several answers", `{"model":"m","n":2,${messages()}}`, CHAT_PATH],
    ["several answers as Python reads numbers", `{"model":"m","n":"2",${messages()}}`, CHAT_PATH],
    ["several answers as a float", `{"model":"m","n":2.0,${messages()}}`, CHAT_PATH],
    ["several prompts", '{"model":"m","prompt":["a","b"]}', "/v1/completions"],
    ["the prompt's log probabilities", `{"model":"m","prompt_logprobs":1,${messages()}}`, CHAT_PATH],
    ["the prompt's echo", '{"model":"m","echo":true,"prompt":"a"}', "/v1/completions"],
  ])("are one where a request asks for %s", async (_, body, path) => {
    for (const replica of gateway.replicas) replica.forget();
    expect((await send(gateway.url, { path, method: "POST", body })).status).toBe(200);
    expect(gateway.replicas[0]!.received[0]!.body.toString()).toBe(body);
    expect(gateway.replicas[1]!.received).toEqual([]);
  });
});

describe.each(ENVOY_VERSIONS)("a rewritten model and a call on Envoy %s", (version) => {
  it("go together: both legs ask for the target, and the access log knows of the call", async () => {
    const gateway = await startGateway(version, {
      replicas: 2,
      snapshot: false,
      pluginConfig: disaggregation({ ...INLINE, gateway: { exposeDecision: true } }),
      edit: (bootstrap) => {
        Object.assign(inference(bootstrap).route_config.virtual_hosts[0]!, {
          response_headers_to_add: [
            { header: { key: "x-prefill", value: "%FILTER_STATE(wasm.epp_prefill:PLAIN)%" } },
          ],
        });
      },
    });
    onTestFinished(() => gateway.stop());
    await gateway.push([
      { models: [], ...DECODE },
      { models: [], ...PREFILL },
    ]);
    expect((await pushPolicy(gateway, { alias: "org/target" })).status).toBe(204);
    const [decoder, prefiller] = gateway.replicas;
    prefiller!.behave(answer(200, REPLY, { "content-type": "application/json" }));
    const rest = '"messages":[{"role":"user","content":"hi"}]}';
    const body = `{"model":"alias",${rest}`;
    const reply = await send(gateway.url, { path: CHAT_PATH, method: "POST", body });
    expect(reply.status).toBe(200);
    expect(prefiller!.received[0]!.body.toString()).toBe(`${PREFILL_BODY}"model":"org/target",${rest}`);
    const decoded = `{"kv_transfer_params":${PARAMS},"model":"org/target",${rest}`;
    expect(decoder!.received[0]!.body.toString()).toBe(decoded);
    expect(decoder!.received[0]!.headers["content-length"]).toBe(String(Buffer.byteLength(decoded)));
    expect(reply.headers["x-prefill"]).toMatch(
      new RegExp(`^endpoint=${prefiller!.address} outcome=done ms=\\d+$`),
    );
  });
});

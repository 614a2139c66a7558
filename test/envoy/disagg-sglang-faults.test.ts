// Mode "inline" over SGLang: what the prefill leg's own answer may and may not do to the client's.
import { describe, expect, it, onTestFinished } from "vitest";
import { open, PROTOCOLS, send } from "./clients.ts";
import { DECODE, disaggregation, PREFILL } from "./disagg.ts";
import { chat, ENVOY_VERSIONS, startGateway, until } from "./harness.ts";
import { settled } from "./status.ts";
import { ask, CHAT_PATH, text } from "./support.ts";
import { after, answer, type Behaviour, echo, held, silent } from "./upstream.ts";

const CHUNK = 'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n';

/** A first token at once, the rest on `release`. */
function streamed(): { behaviour: Behaviour; release: () => void } {
  let release = (): void => undefined;
  const released = new Promise<void>((settle) => (release = settle));
  const behaviour: Behaviour = async ({ response, bodyRead }) => {
    await bodyRead;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(CHUNK);
    await released;
    response.end(`${CHUNK}data: [DONE]\n\n`);
  };
  return { behaviour, release: () => release() };
}

async function startPair(version: string) {
  const gateway = await startGateway(version, {
    replicas: 2,
    snapshot: false,
    pluginConfig: disaggregation({ parameters: { mode: "inline", protocol: "sglang" } }),
  });
  onTestFinished(() => gateway.stop());
  await gateway.push([DECODE, PREFILL]);
  const [decoder, prefiller] = gateway.replicas;
  return { gateway, decoder: decoder!, prefiller: prefiller! };
}

describe.each(ENVOY_VERSIONS)("the prefill leg of two at once, on Envoy %s", (version) => {
  const start = () => startPair(version);

  it.each(PROTOCOLS)("may answer at any length: nobody reads it, over %s", async (protocol) => {
    const { gateway, decoder, prefiller } = await start();
    const decode = held(echo);
    decoder.behave(decode.behaviour);
    prefiller.behave(answer(200, `{"meta_info":{"input_token_logprobs":"${"x".repeat(600_000)}"}}`));
    const reply = ask(gateway, text(1), { protocol });
    await until("the prefill leg is over", async () => {
      const { counters } = await gateway.status<{ counters: Record<string, number> }>();
      return decoder.received.length === 1 && counters["prefillCalls"] === 0;
    });
    decode.release();
    expect((await reply).status).toBe(200);
    expect((await settled(gateway)).counters["prefillFailures"]).toBe(0);
  });

  it.each(PROTOCOLS)("that fails after the first token ends nothing, over %s", async (protocol) => {
    const { gateway, decoder, prefiller } = await start();
    const [decode, prefill] = [streamed(), held(answer(500, "{}"))];
    decoder.behave(decode.behaviour);
    prefiller.behave(prefill.behaviour);
    const exchange = open(gateway.url, { path: CHAT_PATH, protocol });
    exchange.end(JSON.stringify(chat(text(1), { stream: true })));
    // The first token was generated from blocks that came: the transfer is over.
    await until("the first token came", () => exchange.received() === CHUNK);
    prefill.release();
    await until("the prefill leg is over", async () => {
      const { counters } = await gateway.status<{ counters: Record<string, number> }>();
      return counters["prefillCalls"] === 0;
    });
    decode.release();
    expect((await exchange.reply).text).toBe(`${CHUNK}${CHUNK}data: [DONE]\n\n`);
    expect((await settled(gateway)).counters["prefillFailures"]).toBe(1);
  });

  it.each(PROTOCOLS)("that refuses the request tells the client why, over %s", async (protocol) => {
    const { gateway, decoder, prefiller } = await start();
    decoder.behave(silent);
    const refusal = '{"object":"error","message":"The input is longer than the model\'s context","code":400}';
    for (const [status, behaviour] of [
      [400, answer(400, refusal, { "content-type": "application/json" })],
      [422, after(20, answer(422, refusal, { "content-type": "application/json" }))],
    ] as const) {
      prefiller.behave(behaviour);
      const reply = await ask(gateway, text(status), { protocol });
      expect([reply.status, reply.text]).toEqual([status, refusal]);
      expect(reply.headers["content-type"]).toBe("application/json");
    }
    prefiller.behave(answer(404));
    expect((await ask(gateway, text("none"), { protocol })).status).toBe(404);
    expect((await settled(gateway)).counters["prefillFailures"]).toBe(3);
  });
});

describe.each(ENVOY_VERSIONS)("SGLang's own API on Envoy %s", (version) => {
  it.each(PROTOCOLS)("has both legs for one answer, and one for several, over %s", async (protocol) => {
    const { gateway, decoder, prefiller } = await startPair(version);
    for (const [body, legs] of [
      ['{"text":"a","sampling_params":{"max_new_tokens":4,"n":1}}', 2],
      ['{"text":"a","sampling_params":{"max_new_tokens":4,"n":2}}', 1],
      ['{"text":["a","b"]}', 1],
      ['{"input_ids":[1,2,3]}', 2],
      ['{"input_ids":[[1,2,3],[4]]}', 1],
    ] as const) {
      for (const replica of gateway.replicas) replica.forget();
      const reply = await send(gateway.url, { protocol, path: "/generate", method: "POST", body });
      expect([body, reply.status]).toEqual([body, 200]);
      await settled(gateway);
      await until("both legs are over", () => prefiller.received.length >= legs - 1);
      expect([body, prefiller.received.length]).toEqual([body, legs - 1]);
      expect(decoder.received[0]!.body.toString().endsWith(body.slice(1))).toBe(true);
      expect(decoder.received[0]!.body.toString().startsWith('{"bootstrap_host"')).toBe(legs === 2);
    }
  });
});

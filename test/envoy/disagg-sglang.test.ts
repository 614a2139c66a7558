// Mode "inline" over SGLang: both legs at once, with one room, before strict simulated servers and failing ones.
import { describe, expect, it, onTestFinished } from "vitest";
import { noDisaggregation } from "../../host-sim/model-server/disaggregation/config.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { contentOf, statusOf } from "../sim/support/disaggregation.ts";
import { send as sendTo, startReplica } from "../sim/support/replica.ts";
import { open, PROTOCOLS, ReplyCutError, send } from "./clients.ts";
import { DECODE, disaggregation, PREFILL } from "./disagg.ts";
import { chat, ENVOY_VERSIONS, startGateway } from "./harness.ts";
import { encodeSnapshot } from "./snapshot.ts";
import { endpointStatus, settled, type EndpointStatus } from "./status.ts";
import { ask, CHAT_PATH, text } from "./support.ts";
import { after as delayed, answer, echo, held, reset, silent, stream as streamed } from "./upstream.ts";

const sglang = (bootstrapPort: number): string =>
  disaggregation({ parameters: { mode: "inline", protocol: "sglang", bootstrapPort } });

describe.each(ENVOY_VERSIONS)("both legs at once, on Envoy %s", (version) => {
  it.each(PROTOCOLS)("meet in one room and give one replica's answer, over %s", async (protocol) => {
    const start = (role: "prefill" | "decode"): Promise<SimulatedReplica> =>
      startReplica({
        name: role,
        disaggregation: { ...noDisaggregation(), connector: "sglang", role, strict: true },
      });
    const [prefiller, decoder] = [await start("prefill"), await start("decode")];
    const whole = await startReplica();
    const gateway = await startGateway(version, {
      replicas: 0,
      extraEndpoints: [prefiller.address, decoder.address],
      snapshot: false,
      pluginConfig: sglang(Number(statusOf(prefiller).sideChannel.split(":")[1])),
    });
    onTestFinished(() => gateway.stop());
    await gateway.pushBytes(
      encodeSnapshot([
        { address: prefiller.address, models: [], ...PREFILL },
        { address: decoder.address, models: [], ...DECODE },
      ]),
    );
    for (let i = 0; i < 3; i++) {
      const body = {
        model: "tiny",
        messages: [{ role: "user", content: text(i, 600) }],
        max_tokens: 6,
        ignore_eos: true,
      };
      const reply = await send(gateway.url, { protocol, path: CHAT_PATH, method: "POST", body });
      expect([reply.status, reply.text.slice(0, 200)]).toEqual([200, expect.anything()]);
      expect(contentOf(reply.text)).toBe(contentOf((await sendTo(whole, CHAT_PATH, body)).text));
    }
    const { counters } = await settled(gateway);
    for (const replica of [prefiller, decoder]) {
      expect(statusOf(replica).refusals).toEqual([]);
      expect(statusOf(replica).rooms).toEqual([]);
    }
    expect([counters["promptsDisaggregated"], counters["prefillFailures"], counters["prefillCalls"]]).toEqual(
      [3, 0, 0],
    );
  });
});

describe.each(ENVOY_VERSIONS)("a leg that fails, on Envoy %s", (version) => {
  async function start() {
    const gateway = await startGateway(version, {
      replicas: 2,
      snapshot: false,
      pluginConfig: sglang(8998),
    });
    onTestFinished(() => gateway.stop());
    await gateway.push([DECODE, PREFILL]);
    const [decoder, prefiller] = gateway.replicas;
    return { gateway, decoder: decoder!, prefiller: prefiller! };
  }

  it("has the same body as the other, with a room of its own each time", async () => {
    const { gateway, decoder, prefiller } = await start();
    prefiller.behave(delayed(20, echo));
    const body = '{"model":"m","seed":9007199254740993,"messages":[{"role":"user","content":"x"}]}';
    for (let i = 0; i < 20; i++) await send(gateway.url, { path: CHAT_PATH, method: "POST", body });
    await settled(gateway);
    const bodies = [decoder, prefiller].map(({ received }) => received.map((one) => one.body.toString()));
    expect(bodies[0]!.toSorted()).toEqual(bodies[1]!.toSorted());
    const rooms = bodies[0]!.map((one) => /"bootstrap_room":(\d+),/.exec(one)![1]!);
    expect(new Set(rooms).size).toBe(20);
    for (const [index, room] of rooms.entries()) {
      expect(BigInt(room)).toBeLessThan(2n ** 63n);
      expect(bodies[0]![index]).toBe(
        `{"bootstrap_host":"127.0.0.1","bootstrap_port":8998,"bootstrap_room":${room},${body.slice(1)}`,
      );
    }
  });

  it.each([
    ["answers 500", answer(500, "{}")],
    ["resets", reset("body")],
  ])("prefill that %s ends the waiting decode leg in one clear error", async (_, behaviour) => {
    for (const protocol of PROTOCOLS) {
      // A prefill endpoint that resets is set aside: each request has its own.
      const { gateway, decoder, prefiller } = await start();
      decoder.behave(silent);
      prefiller.behave(behaviour);
      const reply = await ask(gateway, text(protocol), { protocol });
      expect(reply.status).toBe(503);
      expect(JSON.parse(reply.text).error.message).toContain("the endpoint that computes this prompt failed");
      expect((await settled(gateway)).counters["prefillFailures"]).toBe(1);
    }
  });

  it("after the answer began cuts that", async () => {
    const { gateway, decoder, prefiller } = await start();
    decoder.behave(async ({ response, bodyRead }) => {
      await bodyRead;
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(": waiting\n\n");
    });
    const prefill = held(answer(500, "{}"));
    prefiller.behave(prefill.behaviour);
    const exchange = open(gateway.url, { path: CHAT_PATH });
    exchange.end(JSON.stringify(chat(text(1), { stream: true })));
    expect((await exchange.head).status).toBe(200);
    prefill.release();
    await expect(exchange.reply).rejects.toThrow(ReplyCutError);
    await settled(gateway);
  });

  it("teaches no transfer: all that shows is the prompt's computation with it", async () => {
    const { gateway, decoder, prefiller } = await start();
    prefiller.behave(delayed(200, echo));
    decoder.behave(delayed(220, streamed(['data: {"choices":[]}\n\n', "data: [DONE]\n\n"])));
    for (const protocol of PROTOCOLS) {
      const reply = await ask(gateway, text(protocol, 20_000), { protocol, fields: { stream: true } });
      expect(reply.status).toBe(200);
    }
    await settled(gateway);
    const status = await gateway.status<{ pools: { transferSamples: number }[] }>();
    expect(status.pools[0]!.transferSamples).toBe(0);
    const { prefillSamples } = (await endpointStatus(gateway, prefiller.name)) as EndpointStatus & {
      readonly prefillSamples: number;
    };
    expect(prefillSamples).toBeGreaterThan(1);
  });

  it("decode, whose answer comes first, does not wait for the prefill's", async () => {
    const { gateway, prefiller } = await start();
    const prefill = held();
    prefiller.behave(prefill.behaviour);
    expect((await ask(gateway, text(1))).status).toBe(200);
    prefill.release();
    const { counters } = await settled(gateway);
    expect([counters["prefillFailures"], counters["prefillCalls"]]).toEqual([0, 0]);
  });
});

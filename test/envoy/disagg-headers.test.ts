// Mode "headers" of disaggregation: which endpoints the pods' routing sidecars are told, and what clients may not say.
import { describe, expect, it, onTestFinished } from "vitest";
import { open, PROTOCOLS, send } from "./clients.ts";
import {
  BOTH,
  DATA_PARALLEL,
  DECODE,
  disaggregation,
  type DisaggregationOptions,
  ENCODE,
  ENCODERS,
  PREFILL,
  PREFILLER,
} from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, startGateway, until } from "./harness.ts";
import { encodeSnapshot, type TestEndpoint } from "./snapshot.ts";
import { settled } from "./status.ts";
import { ask, CHAT_PATH, echoOf, text } from "./support.ts";
import { answer, held, startUpstream, stream } from "./upstream.ts";

type Running = Gateway & { stop(): Promise<void> };

/** A gateway before one replica a role; it stops with the test. */
async function start(
  version: string,
  roles: readonly Partial<TestEndpoint>[],
  options: DisaggregationOptions = {},
): Promise<Running> {
  const gateway = await startGateway(version, {
    replicas: roles.length,
    snapshot: false,
    pluginConfig: disaggregation(options),
  });
  onTestFinished(() => gateway.stop());
  expect((await gateway.push(roles)).status).toBe(204);
  return gateway;
}

const CHUNK = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n';

describe.each(ENVOY_VERSIONS)("headers for routing sidecars on Envoy %s", (version) => {
  it.each(PROTOCOLS)("names the prefill endpoint, over %s, in place of the client's", async (protocol) => {
    const gateway = await start(version, [DECODE, PREFILL]);
    const reply = await ask(gateway, text(1), { protocol, headers: { [PREFILLER]: "6.6.6.6:1" } });
    expect(reply.status).toBe(200);
    expect(gateway.servedBy(reply.headers)).toBe("replica-0");
    expect(echoOf(reply).headers[PREFILLER]).toBe(gateway.replicas[1]!.address);
    const counters = (await settled(gateway)).counters;
    expect(counters["promptsDisaggregated"]).toBe(1);
  });

  it("takes the client's away where nothing is disaggregated", async () => {
    const gateway = await start(version, [DECODE, PREFILL], { decider: "none" });
    const spoofed = { [PREFILLER]: "6.6.6.6:1", [ENCODERS]: "6.6.6.6:1", [DATA_PARALLEL]: "6.6.6.6:1" };
    const { headers } = echoOf(await ask(gateway, text(1), { headers: spoofed }));
    for (const name of Object.keys(spoofed)) expect(headers[name]).toBeUndefined();
  });

  it("asks the threshold's decider: short and cached prompts stay, long cold ones go", async () => {
    const gateway = await start(version, [DECODE, PREFILL], { decider: 200 });
    const prefiller = async (content: string): Promise<string | undefined> =>
      echoOf(await ask(gateway, content)).headers[PREFILLER];
    expect(await prefiller("hi")).toBeUndefined();
    const long = text("long", 8_000);
    expect(await prefiller(long)).toBe(gateway.replicas[1]!.address);
    // The decode endpoint got the prompt by the transfer.
    expect(await prefiller(long)).toBeUndefined();
    await until(
      "both decisions are counted",
      async () =>
        (await gateway.metric("epp_disagg_decisions_total", { pool: POOL, kind: "decode-only" })) === 2 &&
        (await gateway.metric("epp_disagg_decisions_total", { pool: POOL, kind: "prefill-decode" })) === 1,
    );
  });

  it("decodes alone without a prefill endpoint, and answers 429 without a decode endpoint", async () => {
    const gateway = await start(version, [DECODE, DECODE]);
    expect(echoOf(await ask(gateway, text(1))).headers[PREFILLER]).toBeUndefined();
    expect((await settled(gateway)).counters["disaggregationsWithoutEndpoint"]).toBe(1);
    await gateway.push([PREFILL, PREFILL]);
    const refused = await until("the roles are known", async () => {
      const reply = await ask(gateway, text(2));
      return reply.status !== 200 && reply;
    });
    expect(refused.status).toBe(429);
    expect(refused.headers["x-llm-d-request-dropped-reason"]).toBe("rejected-saturated");
  });

  it("lets endpoints that do either decode for each other, never an endpoint for itself", async () => {
    const gateway = await start(version, [BOTH, BOTH]);
    for (let i = 0; i < 6; i++) {
      const reply = await ask(gateway, text(i));
      const own = Number(gateway.servedBy(reply.headers)!.slice(-1));
      expect(echoOf(reply).headers[PREFILLER]).toBe(gateway.replicas[1 - own]!.address);
    }
    const alone = await start(version, [BOTH]);
    expect(echoOf(await ask(alone, text(1))).headers[PREFILLER]).toBeUndefined();
  });

  it("names encoders for images, and none for text", async () => {
    const gateway = await start(version, [DECODE, PREFILL, ENCODE], { encode: true });
    const image = { type: "image_url", image_url: { url: "https://example.com/a.png" } };
    const body = { model: "m", messages: [{ role: "user", content: [{ type: "text", text: "x" }, image] }] };
    const reply = await send(gateway.url, { method: "POST", path: CHAT_PATH, body });
    expect(echoOf(reply).headers[ENCODERS]).toBe(gateway.replicas[2]!.address);
    expect(echoOf(reply).headers[PREFILLER]).toBe(gateway.replicas[1]!.address);
    expect(echoOf(await ask(gateway, "text")).headers[ENCODERS]).toBeUndefined();
  });

  it("sends a data-parallel rank's request to its pod's primary port, and names the rank", async () => {
    const pod = await startUpstream("pod");
    onTestFinished(() => pod.stop());
    const port = Number(pod.address.split(":")[1]);
    const pluginConfig = JSON.stringify({
      apiVersion: "llm-d.ai/v1alpha1",
      kind: "EndpointPickerConfig",
      plugins: [{ type: "data-parallel-profile-handler", parameters: { primaryPort: port } }],
    });
    const gateway = await startGateway(version, {
      replicas: 0,
      extraEndpoints: [pod.address],
      snapshot: false,
      pluginConfig,
    });
    onTestFinished(() => gateway.stop());
    const rank = "127.0.0.1:9";
    await gateway.pushBytes(encodeSnapshot([{ address: rank, rank: 1 }]));
    const reply = await ask(gateway, text(1));
    expect(reply.status).toBe(200);
    expect(echoOf(reply).headers[DATA_PARALLEL]).toBe(rank);
    // The rank is who answered: nothing moves, nobody is unknown.
    const { counters } = await settled(gateway);
    expect([counters["prefixesMoved"], counters["unknownUpstreams"]]).toEqual([0, 0]);
  });

  it("reserves at both endpoints until the first token, and gives all back however it ends", async () => {
    const gateway = await start(version, [DECODE, PREFILL]);
    const [decode, prefill] = gateway.replicas;
    const { behaviour, release } = held(stream([CHUNK, "data: [DONE]\n\n"]));
    decode!.behave(behaviour);
    const reply = ask(gateway, text("held", 8_000), { fields: { stream: true } });
    const inflight = async (address: string): Promise<[number, number]> => {
      const status = await gateway.status<{
        pools: { endpoints: { address: string; inflightRequests: number; inflightTokens: number }[] }[];
      }>();
      const endpoint = status.pools[0]!.endpoints.find((one) => one.address === address)!;
      return [endpoint.inflightRequests, endpoint.inflightTokens];
    };
    await until("both are reserved", async () => {
      const [requests, tokens] = await inflight(prefill!.address);
      return requests === 1 && tokens > 1000;
    });
    expect(await inflight(decode!.address)).toEqual([1, 0]);
    release();
    expect((await reply).status).toBe(200);
    await settled(gateway);
    expect(await inflight(prefill!.address)).toEqual([0, 0]);
    decode!.behave(answer(500, "{}"));
    expect((await ask(gateway, text("failed"))).status).toBe(500);
    await settled(gateway);
  });

  it("writes both endpoints into the access log's state", async () => {
    const gateway = await startGateway(version, {
      replicas: 2,
      snapshot: false,
      pluginConfig: disaggregation({ gateway: { exposeDecision: true } }),
      edit: (bootstrap) => {
        const manager = bootstrap.static_resources.listeners[0]!.filter_chains[0]!.filters[0]!.typed_config;
        manager.route_config.virtual_hosts[0] = Object.assign(manager.route_config.virtual_hosts[0]!, {
          response_headers_to_add: [
            { header: { key: "x-state", value: "%FILTER_STATE(wasm.epp_decision:PLAIN)%" } },
          ],
        });
      },
    });
    onTestFinished(() => gateway.stop());
    await gateway.push([DECODE, PREFILL]);
    const reply = await ask(gateway, text(1));
    expect(reply.headers["x-state"]).toContain(
      `stages=prefill-decode prefill=${gateway.replicas[1]!.address}`,
    );
  });
});

describe.each(ENVOY_VERSIONS)("fields that only the gateway sets, on Envoy %s", (version) => {
  it.each(PROTOCOLS)("are refused by name wherever they stand in the body, over %s", async (protocol) => {
    const gateway = await start(version, [DECODE, PREFILL]);
    const messages = (bytes: number): string =>
      `"messages":[{"role":"user","content":${JSON.stringify(text(bytes, bytes))}}]`;
    for (const [field, body] of [
      ["kv_transfer_params", `{"model":"m","kv_transfer_params":{},${messages(10)}}`],
      ["kv_transfer_params", `{"model":"m",${messages(300_000)},"kv_tr\\u0061nsfer_params":null}`],
      ["bootstrap_host", `{"model":"m",${messages(10)},"bootstrap_host":"10.0.0.1"}`],
      ["bootstrap_room", `{"model":"m",${messages(600_000)},"bootstrap_room":1}`],
    ] as const) {
      for (const pieceBytes of [body.length, 60_000]) {
        const exchange = open(gateway.url, { protocol, path: CHAT_PATH, method: "POST" });
        const sent = (async () => {
          for (let at = 0; at < body.length; at += pieceBytes)
            await exchange.write(body.slice(at, at + pieceBytes));
          exchange.end();
        })().catch(() => undefined);
        const reply = await exchange.reply;
        await sent;
        expect([field, reply.status]).toEqual([field, 400]);
        expect(JSON.parse(reply.text).error.message).toBe(`${field}: only the gateway sets this field`);
      }
    }
    // No replica got one of them whole.
    for (const replica of gateway.replicas)
      expect(replica.received.filter(({ complete }) => complete)).toEqual([]);
    await settled(gateway);
  });

  it("are other fields' names deeper down", async () => {
    const gateway = await start(version, [DECODE, PREFILL]);
    const body = `{"model":"m","metadata":{"kv_transfer_params":1},"messages":[{"role":"user","content":"\\"kv_transfer_params\\":","bootstrap_host":"x"}]}`;
    expect((await send(gateway.url, { method: "POST", path: CHAT_PATH, body })).status).toBe(200);
  });
});

describe.each(ENVOY_VERSIONS)("a request that prefers cached prompts, on Envoy %s", (version) => {
  it("gets 412 where nothing of it is cached, and an answer where something is", async () => {
    const gateway = await startGateway(version, { replicas: 2 });
    onTestFinished(() => gateway.stop());
    const headers = { prefer: "respond-async, If-Available;x=1" };
    const cold = await ask(gateway, text(1), { headers });
    expect(cold.status).toBe(412);
    expect(JSON.parse(cold.text).error.message).toBe("no decode worker has the requested KV cache");
    expect((await ask(gateway, text(1), { headers: { prefer: "if-available-but-different" } })).status).toBe(
      200,
    );
    expect((await ask(gateway, text(1), { headers })).status).toBe(200);
    await settled(gateway);
  });
});

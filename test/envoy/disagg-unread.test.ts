// Fields that only the gateway sets, in bodies that no decision waits for: nothing of the prompt is known, all is looked through.
import { describe, expect, it, onTestFinished } from "vitest";
import { open, PROTOCOLS } from "./clients.ts";
import { DECODE, disaggregation, ENCODE, PREFILL } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway } from "./harness.ts";
import { endpointStatus, settled, type EndpointStatus } from "./status.ts";
import { CHAT_PATH, inference, text } from "./support.ts";

type Running = Gateway & { stop(): Promise<void> };

async function start(version: string, hasSnapshot: boolean, readsBodies: boolean): Promise<Running> {
  const gateway = await startGateway(version, {
    replicas: 2,
    snapshot: false,
    pluginConfig: disaggregation({ gateway: { decisionBytesMax: 1024 } }),
    edit: (bootstrap) => {
      if (readsBodies) return;
      delete inference(bootstrap).http_filters[0]!.typed_config.config.allow_on_headers_stop_iteration;
    },
  });
  onTestFinished(() => gateway.stop());
  if (hasSnapshot) expect((await gateway.push([DECODE, PREFILL])).status).toBe(204);
  return gateway;
}

/** Sends the body in two pieces; the answer, and the bodies that came whole to a replica. */
async function ask(gateway: Gateway, protocol: (typeof PROTOCOLS)[number], path: string, body: string) {
  for (const replica of gateway.replicas) replica.forget();
  const headers = { "content-type": "application/json" };
  const exchange = open(gateway.url, { protocol, path, method: "POST", headers });
  const half = body.length >> 1;
  const sent = (async () => {
    await exchange.write(body.slice(0, half));
    await exchange.write(body.slice(half));
    exchange.end();
  })().catch(() => undefined);
  const reply = await exchange.reply;
  await sent;
  const whole = gateway.replicas.flatMap(({ received }) => received.filter(({ complete }) => complete));
  return { status: reply.status, text: reply.text, whole: whole.map(({ body: got }) => got.toString()) };
}

const messages = (bytes: number): string =>
  `"messages":[{"role":"user","content":${JSON.stringify(text(bytes, bytes))}}]`;
const FORBIDDEN: [string, string, string][] = [
  [CHAT_PATH, `{"model":"m","kv_transfer_params":{},${messages(60_000)}}`, "kv_transfer_params"],
  [
    CHAT_PATH,
    `{"model":"m",${messages(60_000)},"vllm_xargs":{"kv_transfer_params":1}}`,
    "kv_transfer_params",
  ],
  ["/invocations", `{"model":"m",${messages(10)},"bootstrap_room":1}`, "bootstrap_room"],
];

describe.each(ENVOY_VERSIONS)("fields that only the gateway sets, on Envoy %s", (version) => {
  it.each([
    ["before a snapshot came", false, true],
    ["where bodies come only behind the decision", true, false],
  ] as const)("are refused %s", async (_, hasSnapshot, readsBodies) => {
    const gateway = await start(version, hasSnapshot, readsBodies);
    for (const protocol of PROTOCOLS) {
      for (const [path, body, field] of FORBIDDEN) {
        const reply = await ask(gateway, protocol, path, body);
        expect([path, reply.status, reply.whole.length]).toEqual([path, 400, 0]);
        expect(JSON.parse(reply.text).error.message).toBe(`${field}: only the gateway sets this field`);
      }
      const fine = `{"model":"m",${messages(60_000)}}`;
      const reply = await ask(gateway, protocol, CHAT_PATH, fine);
      expect([reply.status, reply.whole]).toEqual([200, [fine]]);
      const empty = open(gateway.url, { protocol, path: "/v1/models", method: "GET" });
      empty.end();
      expect((await empty.reply).status).toBe(200);
    }
    await settled(gateway);
  });

  it("are refused behind the decision where only images are encoded elsewhere", async () => {
    const gateway = await startGateway(version, {
      replicas: 2,
      snapshot: false,
      pluginConfig: disaggregation({ decider: "none", encode: true, gateway: { decisionBytesMax: 1024 } }),
    });
    onTestFinished(() => gateway.stop());
    expect((await gateway.push([DECODE, ENCODE])).status).toBe(204);
    for (const protocol of PROTOCOLS) {
      for (const [path, body] of [
        [CHAT_PATH, `{"model":"m",${messages(60_000)},"ec_transfer_params":{}}`],
        ["/invocations", `{"model":"m",${messages(10)},"ec_transfer_params":{}}`],
      ] as const) {
        const reply = await ask(gateway, protocol, path, body);
        expect([path, reply.status, reply.whole.length]).toEqual([path, 400, 0]);
        expect(JSON.parse(reply.text).error.message).toContain("ec_transfer_params: only the gateway");
      }
    }
    await settled(gateway);
  });

  it("teach nothing of how fast an endpoint is", async () => {
    const gateway = await start(version, true, true);
    const input = JSON.stringify(text("input", 60_000));
    const body = `{"model":"m","input":${input},"kv_transfer_params":{}}`;
    for (const protocol of PROTOCOLS) {
      expect((await ask(gateway, protocol, "/v1/embeddings", body)).status).toBe(400);
    }
    await settled(gateway);
    for (const { address } of gateway.replicas) {
      const { prefillSamples } = (await endpointStatus(gateway, address)) as EndpointStatus & {
        readonly prefillSamples: number;
      };
      expect(prefillSamples).toBe(0);
    }
  });
});

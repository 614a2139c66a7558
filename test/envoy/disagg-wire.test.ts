// Every way of disaggregating over every kind of exchange: both protocols, streamed or not, and what HTTP can add to a body.
import { gzipSync } from "node:zlib";
import { describe, expect, it, onTestFinished } from "vitest";
import { open, type Protocol, PROTOCOLS, send } from "./clients.ts";
import {
  DATA_PARALLEL,
  DECODE,
  disaggregation,
  type DisaggregationOptions,
  PREFILL,
  PREFILLER,
} from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, type GatewayOptions, startGateway, until } from "./harness.ts";
import { encodeSnapshot } from "./snapshot.ts";
import { endpointStatus, settled, type Status } from "./status.ts";
import { ask, CHAT_PATH, echoOf, text } from "./support.ts";
import { after, answer, type Behaviour, echo, held, silent, startUpstream, stream } from "./upstream.ts";

type Running = Gateway & { stop(): Promise<void> };
const PARAMS = '{"do_remote_prefill":true,"remote_block_ids":[[1,2]],"s":"}{\\"\\\\"}';
const REPLY = `{"id":"x","kv_transfer_params":${PARAMS}}`;
const DONE = answer(200, REPLY, { "content-type": "application/json" });
const EVENTS = ['data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n', "data: [DONE]\n\n"];
const BODY = '{"model":"m","messages":[{"role":"user","content":"hello"}],"seed":9007199254740993';

/** One decoder, whose address comes first, and one prefiller. */
async function start(
  version: string,
  options: DisaggregationOptions,
  more: GatewayOptions = {},
): Promise<Running> {
  const gateway = await startGateway(version, {
    replicas: 2,
    snapshot: false,
    pluginConfig: disaggregation(options),
    ...more,
  });
  onTestFinished(() => gateway.stop());
  expect((await gateway.push([DECODE, PREFILL])).status).toBe(204);
  gateway.replicas[1]!.behave(DONE);
  return gateway;
}

const bodiesAt = (gateway: Gateway, index: number): string[] =>
  gateway.replicas[index]!.received.map(({ body }) => body.toString());
const counterOf = async (gateway: Gateway, name: string): Promise<number> =>
  (await gateway.status<Status>()).counters[name]!;

const MODES: [string, DisaggregationOptions][] = [
  ["headers", {}],
  ["inline over NIXL", { parameters: { mode: "inline" } }],
  ["inline over SGLang", { parameters: { mode: "inline", protocol: "sglang", bootstrapPort: 1234 } }],
];

/** What the decode endpoint must get of `body`; the SGLang room is any. */
function decodeBody(mode: string, body: string): RegExp {
  const literal = (value: string): string => value.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  if (mode === "headers") return new RegExp(`^${literal(body)}$`);
  if (mode === "inline over NIXL")
    return new RegExp(`^${literal(`{"kv_transfer_params":${PARAMS},${body.slice(1)}`)}$`);
  const place = '{"bootstrap_host":"127.0.0.1","bootstrap_port":1234,"bootstrap_room":';
  return new RegExp(`^${literal(place)}\\d+,${literal(body.slice(1))}$`);
}

describe.each(ENVOY_VERSIONS)("a disaggregated request on Envoy %s", (version) => {
  describe.each(MODES)("in mode %s", (mode, options) => {
    it.each(PROTOCOLS)("is answered whole and streamed, over %s", async (protocol) => {
      const gateway = await start(version, options);
      for (const isStreamed of [false, true]) {
        for (const hasLength of [true, false]) {
          for (const replica of gateway.replicas) replica.forget();
          gateway.replicas[0]!.behave(isStreamed ? stream(EVENTS) : echo);
          const body = `${BODY},"stream":${isStreamed}}`;
          const exchange = open(gateway.url, {
            protocol,
            path: CHAT_PATH,
            headers: hasLength ? { "content-length": String(body.length) } : {},
          });
          exchange.end(body);
          const reply = await exchange.reply;
          expect(reply.status).toBe(200);
          if (isStreamed) expect(reply.text).toBe(EVENTS.join(""));
          expect(bodiesAt(gateway, 0)).toEqual([expect.stringMatching(decodeBody(mode, body))]);
          const told = gateway.replicas[0]!.received[0]!.headers[PREFILLER];
          expect(told).toBe(mode === "headers" ? gateway.replicas[1]!.address : undefined);
          await until("both legs are over", async () => (await counterOf(gateway, "prefillCalls")) === 0);
          expect(bodiesAt(gateway, 1).length).toBe(mode === "headers" ? 0 : 1);
        }
      }
      const { counters } = await settled(gateway);
      expect([counters["promptsDisaggregated"], counters["prefillFailures"]]).toEqual([4, 0]);
    });

    it.each(PROTOCOLS)("may end with trailers, over %s", async (protocol) => {
      const gateway = await start(version, options);
      const exchange = open(gateway.url, { protocol, path: CHAT_PATH, trailers: true });
      const body = `${BODY}}`;
      await exchange.write(body.slice(0, 30));
      exchange.end(body.slice(30), { "x-checksum": "1" });
      expect((await exchange.reply).status).toBe(200);
      expect(bodiesAt(gateway, 0)).toEqual([expect.stringMatching(decodeBody(mode, body))]);
      await settled(gateway);
    });

    it.each(PROTOCOLS)("is not one without a body, over %s", async (protocol) => {
      const gateway = await start(version, options);
      for (const method of ["GET", "HEAD", "POST", "DELETE"]) {
        const reply = await send(gateway.url, { protocol, method, path: CHAT_PATH });
        expect([method, reply.status, gateway.servedBy(reply.headers)]).toEqual([method, 200, "replica-0"]);
        expect(gateway.replicas[0]!.received.at(-1)!.headers[PREFILLER]).toBeUndefined();
      }
      const empty = open(gateway.url, { protocol, path: CHAT_PATH });
      empty.end();
      expect((await empty.reply).status).toBe(200);
      expect(bodiesAt(gateway, 1)).toEqual([]);
      expect((await settled(gateway)).counters["promptsDisaggregated"]).toBe(0);
    });

    it.each(PROTOCOLS)("is refused where no endpoint decodes, over %s", async (protocol) => {
      const gateway = await start(version, options);
      await gateway.push([PREFILL, PREFILL]);
      const reply = await until("the roles are known", async () => {
        const one = await ask(gateway, text(protocol), { protocol });
        return one.status !== 200 && one;
      });
      expect(reply.status).toBe(429);
      await settled(gateway);
    });
  });
});

const INLINE: DisaggregationOptions = { parameters: { mode: "inline" } };

describe.each(ENVOY_VERSIONS)("a call of the filter on Envoy %s", (version) => {
  it("follows a client that waits for 100 Continue", async () => {
    const gateway = await start(version, INLINE);
    const body = `${BODY}}`;
    const headers = { expect: "100-continue", "content-length": String(body.length) };
    const exchange = open(gateway.url, { path: CHAT_PATH, headers });
    exchange.end(body);
    expect((await exchange.reply).status).toBe(200);
    expect(gateway.replicas[1]!.received[0]!.headers["expect"]).toBeUndefined();
    expect(bodiesAt(gateway, 0)).toEqual([expect.stringMatching(decodeBody("inline over NIXL", body))]);
  });

  it("takes a reply in pieces, and one with trailers; not one that is compressed or is no answer", async () => {
    const gateway = await start(version, INLINE);
    const inPieces: Behaviour = async ({ response, bodyRead }) => {
      await bodyRead;
      response.writeHead(200, { "content-type": "application/json", trailer: "x-end" });
      for (const byte of REPLY) {
        response.write(byte);
        await new Promise((settle) => setImmediate(settle));
      }
      response.addTrailers({ "x-end": "1" });
      response.end();
    };
    let prompts = 0;
    const asked = async (behaviour: Behaviour): Promise<boolean> => {
      for (const replica of gateway.replicas) replica.forget();
      gateway.replicas[1]!.behave(behaviour);
      expect((await ask(gateway, text(`prompt ${prompts++}`))).status).toBe(200);
      return bodiesAt(gateway, 0)[0]!.startsWith(`{"kv_transfer_params":${PARAMS},`);
    };
    expect(await asked(inPieces)).toBe(true);
    expect(await asked(answer(200, gzipSync(REPLY), { "content-encoding": "gzip" }))).toBe(false);
    expect(await asked(answer(204))).toBe(false);
    expect(await asked(answer(302, "", { location: "/" }))).toBe(false);
    expect(await asked(answer(200, `\ufeff \n${REPLY} `))).toBe(true);
    await settled(gateway);
  });

  it.each(PROTOCOLS)(
    "goes through the prefill endpoints' own cluster where there is one, over %s",
    async (protocol) => {
      const prefillCluster = "prefill";
      const gateway = await start(
        version,
        { parameters: { mode: "inline", prefillCluster } },
        {
          edit: ({ static_resources: { clusters } }) => {
            const [pool] = clusters;
            const prefill = { ...structuredClone(pool!), name: prefillCluster };
            prefill.load_assignment.cluster_name = prefillCluster;
            const hosts = prefill.load_assignment.endpoints[0]!.lb_endpoints;
            // The second replica is the prefiller: only its own cluster knows it.
            prefill.load_assignment.endpoints[0]!.lb_endpoints = hosts.slice(1);
            pool!.load_assignment.endpoints[0]!.lb_endpoints = hosts.slice(0, 1);
            clusters.push(prefill);
          },
        },
      );
      const body = `${BODY}}`;
      expect((await send(gateway.url, { protocol, path: CHAT_PATH, method: "POST", body })).status).toBe(200);
      expect(bodiesAt(gateway, 1).length).toBe(1);
      expect(bodiesAt(gateway, 0)).toEqual([expect.stringMatching(decodeBody("inline over NIXL", body))]);
      await settled(gateway);
    },
  );

  it("of a cluster without hosts leaves the prompt to the decode endpoint", async () => {
    const gateway = await start(
      version,
      { parameters: { mode: "inline", prefillCluster: "empty" } },
      {
        edit: ({ static_resources: { clusters } }) => {
          const empty = { ...structuredClone(clusters[0]!), name: "empty" };
          empty.load_assignment = { cluster_name: "empty", endpoints: [] };
          clusters.push(empty);
        },
      },
    );
    for (const protocol of PROTOCOLS) {
      expect((await ask(gateway, text(protocol), { protocol })).status).toBe(200);
    }
    expect(bodiesAt(gateway, 0).some((body) => body.includes("kv_transfer_params"))).toBe(false);
    expect((await settled(gateway)).counters["prefillFallbacks"]).toBe(2);
  });

  it("to an endpoint that Envoy does not know reaches another one, and the client sees an answer", async () => {
    const gateway = await start(version, INLINE);
    const [decoder, prefiller] = gateway.replicas;
    await gateway.pushBytes(
      encodeSnapshot(
        [
          { address: decoder!.address, ...DECODE },
          { address: "127.0.0.1:9", ...PREFILL },
        ],
        7,
      ),
    );
    decoder!.behave(DONE);
    await until("it is known", async () => (await endpointStatus(gateway, "127.0.0.1:9")).ready);
    for (const protocol of PROTOCOLS) {
      expect((await ask(gateway, text(protocol), { protocol })).status).toBe(200);
    }
    expect(decoder!.received.length + prefiller!.received.length).toBe(4);
    await settled(gateway);
  });

  it.each(PROTOCOLS)(
    "reaches a data-parallel rank through its pod's primary port, over %s",
    async (protocol) => {
      const pod = await startUpstream("pod", DONE);
      onTestFinished(() => pod.stop());
      const primaryPort = Number(pod.address.split(":")[1]);
      const gateway = await startGateway(version, {
        replicas: 0,
        extraEndpoints: [pod.address],
        snapshot: false,
        pluginConfig: JSON.stringify({
          apiVersion: "llm-d.ai/v1alpha1",
          kind: "EndpointPickerConfig",
          plugins: [
            {
              type: "pd-profile-handler",
              parameters: { deciderPluginName: "always-disagg-pd-decider", primaryPort },
            },
            { type: "always-disagg-pd-decider" },
            { type: "epp-wasm-disaggregation", parameters: { mode: "inline" } },
          ],
        }),
      });
      onTestFinished(() => gateway.stop());
      // Two pods with one address each would be two hosts: here both are the same, and ranks tell the legs apart.
      const [decodeRank, prefillRank] = ["127.0.0.1:7", "127.0.0.1:9"];
      const reply = await gateway.pushBytes(
        encodeSnapshot([
          { address: decodeRank!, rank: 1, ...DECODE },
          { address: prefillRank!, rank: 3, ...PREFILL },
        ]),
      );
      expect(reply.status).toBe(204);
      const body = `${BODY}}`;
      const headers = { [DATA_PARALLEL]: "6.6.6.6:1" };
      expect(
        (await send(gateway.url, { protocol, path: CHAT_PATH, method: "POST", body, headers })).status,
      ).toBe(200);
      const legs = pod.received.map((one) => [one.headers[DATA_PARALLEL], one.body.toString().slice(0, 50)]);
      expect(legs).toEqual([
        [prefillRank, expect.stringContaining("do_remote_decode")],
        [decodeRank, expect.stringContaining("do_remote_prefill")],
      ]);
      await settled(gateway);
    },
  );
});

describe.each(ENVOY_VERSIONS)("addresses with colons on Envoy %s", (version) => {
  it("stand in the header as they do in the snapshot", async () => {
    const gateway = await start(version, {});
    const address = "[fd00::1:2]:8000";
    await gateway.pushBytes(
      encodeSnapshot(
        [
          { address: gateway.replicas[0]!.address, ...DECODE },
          { address, ...PREFILL },
        ],
        7,
      ),
    );
    await until("it is known", async () => (await endpointStatus(gateway, address)).ready);
    expect(echoOf(await ask(gateway, text(1))).headers[PREFILLER]).toBe(address);
  });
});

/** A client that goes away at each point of a request's way, and what must be free again. */
describe.each(ENVOY_VERSIONS)("a client that goes away on Envoy %s", (version) => {
  const POINTS: [string, DisaggregationOptions, Behaviour, Behaviour, number, number][] = [
    ["while its body comes", INLINE, echo, DONE, 0, 0],
    ["during the second call", INLINE, echo, silent, 0, 1],
    ["while SGLang's legs run", MODES[2]![1], silent, silent, 1, 1],
    ["while its answer is generated", INLINE, silent, DONE, 1, 1],
    ["while its answer is streamed", INLINE, stream([EVENTS[0]!, EVENTS[1]!], 60_000), DONE, 1, 1],
    ["before the pod's sidecar answers", {}, silent, DONE, 1, 0],
  ];

  it.each(POINTS)("%s leaves nothing behind", async (point, options, decode, prefill, decodes, prefills) => {
    const gateway = await startGateway(version, {
      replicas: 3,
      snapshot: false,
      pluginConfig: disaggregation(options),
    });
    onTestFinished(() => gateway.stop());
    await gateway.push([DECODE, PREFILL, PREFILL]);
    const [decoder, ...prefillers] = gateway.replicas;
    const release: (() => void)[] = [];
    for (const protocol of PROTOCOLS as Protocol[]) {
      for (const replica of gateway.replicas) replica.forget();
      decoder!.behave(decode);
      let calls = 0;
      for (const prefiller of prefillers) {
        prefiller.behave((context) => {
          // The first call of a request that needs two fails, the second waits.
          const isSecond = point === "during the second call";
          if (isSecond && calls++ === 0) return answer(500, "{}")(context);
          if (prefill !== silent) return prefill(context);
          const hold = held(answer(200, "{}"));
          release.push(hold.release);
          return hold.behaviour(context);
        });
      }
      const exchange = open(gateway.url, { protocol, path: CHAT_PATH });
      exchange.reply.catch(() => undefined);
      await exchange.write(`${BODY},`);
      if (point !== "while its body comes") exchange.end(`"stream":true,"user":"${point}"}`);
      const seen = (): number[] => [
        decoder!.received.length,
        prefillers.reduce((sum, { received }) => sum + received.length, 0),
      ];
      const wanted = [decodes, prefills + (point === "during the second call" ? 1 : 0)];
      await until("it is there", async () => {
        const isThere = seen().join() === wanted.join();
        return isThere && (await counterOf(gateway, "streams")) === 1;
      });
      if (point.endsWith("streamed")) await until("a token came", () => exchange.received() !== "");
      exchange.abort();
      await until("its stream is gone", async () => (await counterOf(gateway, "streams")) === 0);
      expect((await endpointStatus(gateway, decoder!.name)).inflightRequests).toBe(0);
      for (const go of release) go();
      const { counters } = await settled(gateway);
      expect(counters["prefillCalls"]).toBe(0);
      // The same worker goes on with other streams.
      for (const replica of gateway.replicas) replica.behave(replica === decoder ? after(1, echo) : DONE);
      expect((await ask(gateway, text(`${point}${protocol}`), { protocol })).status).toBe(200);
      await settled(gateway);
    }
  });
});

// Where requests go when all is well: the list of destinations, whose headers count, and what a replica receives.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ENDPOINT_DRAINING, ENDPOINT_READY } from "../../assembly/wire/snapshot.ts";
import { PROTOCOLS, send } from "./clients.ts";
import { ENVOY_VERSIONS, type Gateway, POOL, startGateway } from "./harness.ts";
import { settled } from "./status.ts";
import {
  ask,
  CHAT_PATH,
  DESTINATION,
  destinationsOf,
  echoOf,
  showDestination,
  text,
  trustClients,
} from "./support.ts";

/** What a client may not decide; and what the gateway then makes of it. */
const STEERING = [
  "x-prefiller-host-port",
  "x-encoder-hosts-ports",
  "x-data-parallel-host-port",
  "x-kv-cache-source-host-port",
  "x-llm-d-model-name-rewrite",
  "x-gateway-model-name-rewrite",
  "x-envoy-retry-on",
  "x-envoy-max-retries",
  "x-envoy-retry-grpc-on",
  "x-envoy-retriable-status-codes",
  "x-envoy-retriable-header-names",
  "x-envoy-hedge-on-per-try-timeout",
];
const NOWHERE = "127.0.0.1:1";

describe.each(ENVOY_VERSIONS)("routing on Envoy %s", (version) => {
  let gateway: Gateway & { stop(): Promise<void> };
  beforeAll(async () => {
    gateway = await startGateway(version, {
      replicas: 4,
      edit: (bootstrap) => {
        showDestination(bootstrap);
        trustClients(bootstrap);
      },
    });
  });
  afterAll(() => gateway?.stop());

  const decisions = (kind: string): Promise<number> =>
    gateway.metric("epp_decisions_total", { pool: POOL, kind });

  describe.each(PROTOCOLS)("over %s", (protocol) => {
    it("lists three endpoints of the pool, and the first one serves", async () => {
      const reply = await ask(gateway, text(protocol), { protocol });
      const destinations = destinationsOf(reply);
      const addresses = gateway.replicas.map(({ address }) => address);
      expect(reply.status).toBe(200);
      expect(new Set(destinations).size).toBe(3);
      expect(addresses).toEqual(expect.arrayContaining(destinations));
      const first = gateway.replicas.find(({ address }) => address === destinations[0])!;
      expect(gateway.servedBy(reply.headers)).toBe(first.name);
    });

    it("replaces a destination that the client names", async () => {
      const reply = await ask(gateway, text("forged"), { protocol, headers: { [DESTINATION]: NOWHERE } });
      expect(reply.status).toBe(200);
      expect(destinationsOf(reply)).toHaveLength(3);
      expect(destinationsOf(reply)).not.toContain(NOWHERE);
    });

    it("removes the client's copies of every header that steers", async () => {
      const headers = Object.fromEntries(STEERING.map((name) => [name, NOWHERE]));
      const { headers: received } = echoOf(await ask(gateway, text("steering"), { protocol, headers }));
      for (const name of STEERING) expect(received).not.toHaveProperty(name);
    });

    it("does the same on paths that it does not read", async () => {
      const headers = Object.fromEntries([...STEERING, DESTINATION].map((name) => [name, NOWHERE]));
      const reply = await send(gateway.url, { protocol, path: "/v2/health/ready", headers });
      for (const name of STEERING) expect(echoOf(reply).headers).not.toHaveProperty(name);
      expect(destinationsOf(reply)).toHaveLength(3);
    });

    it("passes method, path, query, headers and body on unchanged", async () => {
      const body = '{ "model" : "test-model",\n "messages":[{"role":"user","content":"caf\\u00e9 ☕"}] }';
      const reply = await send(gateway.url, {
        protocol,
        path: `${CHAT_PATH}?trace=1`,
        headers: { "x-custom": "kept", authorization: "Bearer secret" },
        body,
      });
      expect(echoOf(reply)).toMatchObject({
        method: "POST",
        path: `${CHAT_PATH}?trace=1`,
        text: body,
        headers: {
          "x-custom": "kept",
          authorization: "Bearer secret",
          "content-length": String(Buffer.byteLength(body)),
        },
      });
    });

    it.each([
      ["GET", "/v1/models", undefined],
      ["GET", "/", undefined],
      ["POST", "/v1/audio/transcriptions", "not JSON at all"],
      ["PUT", "/v1/files/a", "\u0000\u0001"],
      ["DELETE", "/v1/files/a", undefined],
      ["POST", CHAT_PATH, ""],
    ])("picks by load for %s %s", async (method, path, body) => {
      const before = await decisions("load");
      const reply = await send(gateway.url, { protocol, method, path, ...(body ? { body } : {}) });
      expect(echoOf(reply)).toMatchObject({ method, path, bodyBytes: Buffer.byteLength(body ?? "") });
      expect(destinationsOf(reply)).toHaveLength(3);
      expect(await decisions("load")).toBe(before + 1);
    });
  });

  it("spreads requests of one moment over the endpoints when nothing else speaks for one", async () => {
    const replies = await Promise.all(
      Array.from({ length: 40 }, (_, i) => ask(gateway, text(`cold ${i}`, 400))),
    );
    const served = new Set(replies.map(({ headers }) => gateway.servedBy(headers)));
    expect(served.size).toBe(4);
  });

  it("lists only what is ready and not draining, however few that leaves", async () => {
    for (const flags of [0, ENDPOINT_READY | ENDPOINT_DRAINING]) {
      expect((await gateway.push([{ flags }, {}, { flags }, {}])).status).toBe(204);
      const destinations = destinationsOf(await ask(gateway, text(`ready ${flags}`)));
      const ready = [gateway.replicas[1]!.address, gateway.replicas[3]!.address];
      expect(destinations.toSorted()).toEqual(ready.toSorted());
    }
    await gateway.push();
  });

  it("sends a request for a model to the endpoints that list it, and to any for a model nobody lists", async () => {
    const models = ["test-model", "other"];
    await gateway.push([{ models: ["test-model"] }, { models }, { models: ["test-model"] }, { models }]);
    const able = [gateway.replicas[1]!.address, gateway.replicas[3]!.address];
    const named = destinationsOf(await ask(gateway, text("other"), { fields: { model: "other" } }));
    expect(named.toSorted()).toEqual(able.toSorted());
    expect(destinationsOf(await ask(gateway, text("none"), { fields: { model: "unknown" } }))).toHaveLength(
      3,
    );
    await gateway.push();
  });

  it("holds nothing afterwards", async () => {
    const { counters } = await settled(gateway);
    expect(counters).toMatchObject({ unknownUpstreams: 0, requestsRetried: 0, hostsSetAside: 0 });
  });
});

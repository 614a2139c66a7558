// Which pool a request belongs to, what happens without a snapshot or with an old one, and the subset hint.
import { describe, expect, it } from "vitest";
import type { Bootstrap, Cluster } from "../../cli/envoy-config.ts";
import { PROTOCOLS, type Reply, send } from "./clients.ts";
import { chat, ENVOY_VERSIONS, type Gateway, POOL, until, withEnvoy } from "./harness.ts";
import { encodeSnapshot } from "./snapshot.ts";
import { settled, type Status } from "./status.ts";
import {
  ask,
  CHAT_PATH,
  DESTINATION,
  destinationsOf,
  echoOf,
  inference,
  settings,
  showDestination,
  text,
  trustClients,
} from "./support.ts";
import { answer, refusingAddress } from "./upstream.ts";

/** Adds a second cluster with the second half of the replicas; `path` leads there. */
function splitInTwo(bootstrap: Bootstrap, name: string): void {
  const [first] = bootstrap.static_resources.clusters as [Cluster];
  const second = structuredClone(first);
  const hosts = first.load_assignment.endpoints[0]!.lb_endpoints;
  second.load_assignment.endpoints[0]!.lb_endpoints = hosts.splice(hosts.length / 2);
  second.name = second.load_assignment.cluster_name = name;
  bootstrap.static_resources.clusters.push(second);
  const { routes } = inference(bootstrap).route_config.virtual_hosts[0]!;
  const other = structuredClone(routes[0]!);
  other.route.cluster = name;
  Object.assign(other, { match: { prefix: "/second" } });
  other.metadata.filter_metadata.epp.pool = name;
  routes.unshift(other);
}

function removeMetadata(bootstrap: Bootstrap): void {
  for (const route of inference(bootstrap).route_config.virtual_hosts[0]!.routes) {
    delete (route as { metadata?: object }).metadata;
  }
}

const addresses = (gateway: Gateway, from: number, to: number): string[] =>
  gateway.replicas
    .slice(from, to)
    .map(({ address }) => address)
    .toSorted();

describe.each(ENVOY_VERSIONS)("pools on Envoy %s", (version) => {
  const SECOND = "second";
  const askSecond = (gateway: Gateway, content: string): Promise<Reply> =>
    send(gateway.url, { path: `/second${CHAT_PATH}`, body: chat(content) });
  const pushTwo = async (gateway: Gateway, names: readonly [string, string]): Promise<void> => {
    const snapshot = (from: number, to: number): Buffer =>
      encodeSnapshot(gateway.replicas.slice(from, to).map(({ address, name }) => ({ address, name })));
    expect((await gateway.pushBytes(snapshot(0, 2), names[0])).status).toBe(204);
    expect((await gateway.pushBytes(snapshot(2, 4), names[1])).status).toBe(204);
  };

  it.each<[string, (bootstrap: Bootstrap) => void]>([
    ["the route's metadata", () => {}],
    ["the cluster, when the route says nothing", removeMetadata],
  ])("are told apart by %s", async (_, also) => {
    const edit = (bootstrap: Bootstrap): void => {
      showDestination(bootstrap);
      splitInTwo(bootstrap, SECOND);
      also(bootstrap);
    };
    await withEnvoy(version, { replicas: 4, snapshot: false, edit }, async (gateway) => {
      await pushTwo(gateway, [POOL, SECOND]);
      expect(destinationsOf(await ask(gateway, text(1))).toSorted()).toEqual(addresses(gateway, 0, 2));
      expect(destinationsOf(await askSecond(gateway, text(1))).toSorted()).toEqual(addresses(gateway, 2, 4));
      expect(await gateway.metric("epp_decisions_total", { pool: POOL, kind: "cold" })).toBe(1);
      expect(await gateway.metric("epp_decisions_total", { pool: SECOND, kind: "cold" })).toBe(1);
      expect((await settled(gateway)).counters["unknownUpstreams"]).toBe(0);
    });
  });

  it("are the configured one when neither route nor cluster names a pool that is known", async () => {
    const edit = (bootstrap: Bootstrap): void => {
      showDestination(bootstrap);
      removeMetadata(bootstrap);
    };
    const options = {
      replicas: 2,
      snapshot: false,
      edit,
      pluginConfig: settings({ pool: "configured" }),
    } as const;
    await withEnvoy(version, options, async (gateway) => {
      const snapshot = encodeSnapshot(gateway.replicas.map(({ address, name }) => ({ address, name })));
      await gateway.pushBytes(encodeSnapshot([{ address: "127.0.0.1:1" }]), "another");
      expect(destinationsOf(await ask(gateway, text("before")))).toEqual([]);
      await gateway.pushBytes(snapshot, "configured");
      expect(destinationsOf(await ask(gateway, text("after")))).toHaveLength(2);
    });
  });

  it("that a route names and nobody has told of are not replaced by one that is known", async () => {
    await withEnvoy(version, { replicas: 2, snapshot: false, edit: showDestination }, async (gateway) => {
      await gateway.pushBytes(encodeSnapshot([{ address: "127.0.0.1:1" }]), "another");
      const reply = await ask(gateway, text("x"));
      expect(reply.status).toBe(200);
      expect(destinationsOf(reply)).toEqual([]);
    });
  });
});

describe.each(ENVOY_VERSIONS)("without a snapshot Envoy %s", (version) => {
  it.each(PROTOCOLS)("balances by itself, and clients still cannot steer, over %s", async (protocol) => {
    await withEnvoy(version, { replicas: 2, snapshot: false, edit: showDestination }, async (gateway) => {
      const headers = { [DESTINATION]: "127.0.0.1:1", "x-prefiller-host-port": "127.0.0.1:1" };
      const served = new Set<string | undefined>();
      for (let i = 0; i < 20; i++) {
        const reply = await ask(gateway, text(i), { protocol, headers });
        expect(reply.status).toBe(200);
        expect(echoOf(reply).headers).not.toHaveProperty(DESTINATION);
        expect(echoOf(reply).headers).not.toHaveProperty("x-prefiller-host-port");
        served.add(gateway.servedBy(reply.headers));
      }
      expect(served.size).toBe(2);
      expect(await gateway.metric("epp_decisions_total", { kind: "none" })).toBe(20);
      expect((await settled(gateway)).counters).toMatchObject({ requestsPassed: 20, decisions: 0 });
    });
  });

  it("keeps a client from asking for retries", async () => {
    await withEnvoy(version, { replicas: 2, snapshot: false, edit: trustClients }, async (gateway) => {
      for (const replica of gateway.replicas) replica.behave(answer(503));
      const headers = { "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "5" };
      expect((await ask(gateway, text("retry"), { headers })).status).toBe(503);
      expect(gateway.replicas[0]!.received.length + gateway.replicas[1]!.received.length).toBe(1);
    });
  });

  it("answers 503 where the configuration says so, until the first snapshot", async () => {
    const options = {
      replicas: 2,
      concurrency: 4,
      snapshot: false,
      pluginConfig: settings({ fail: "closed" }),
    } as const;
    await withEnvoy(version, options, async (gateway) => {
      const reply = await ask(gateway, text("closed"));
      expect(reply.status).toBe(503);
      expect(reply.headers["x-llm-d-request-dropped-reason"]).toBe("rejected-no-endpoints");
      expect(JSON.parse(reply.text)).toMatchObject({ error: { code: 503 } });
      expect(gateway.replicas.flatMap(({ received }) => received)).toHaveLength(0);
      expect(await gateway.metric("epp_errors_total", { reason: "no_snapshot" })).toBe(1);
      await gateway.push();
      await until("every worker has it", async () => {
        const replies = await Promise.all(Array.from({ length: 16 }, (_, i) => ask(gateway, text(i))));
        return replies.every(({ status }) => status === 200);
      });
    });
  });
});

describe.each(ENVOY_VERSIONS)("an old snapshot on Envoy %s", (version) => {
  it("no longer speaks of load, but still of endpoints, until a new one comes", async () => {
    const queue = { type: "queue-scorer" };
    const snapshotAgeMaxMs = 300;
    const options = {
      replicas: 2,
      edit: showDestination,
      pluginConfig: settings({ snapshotAgeMaxMs }, [queue]),
    };
    await withEnvoy(version, options, async (gateway) => {
      const [busy, idle] = gateway.replicas;
      const first = async (): Promise<string | undefined> =>
        destinationsOf(await ask(gateway, text("any", 100)))[0];
      /** What a new snapshot leads to, as seen before it can be old: on a busy machine not always the first time. */
      const whileNew = (): Promise<{ first: string | undefined; loadIgnored: boolean }> =>
        until("answers while the snapshot is new", async () => {
          const began = performance.now();
          await gateway.push([{ waiting: 90 }, { waiting: 0 }]);
          const seen = {
            first: await first(),
            loadIgnored: (await gateway.status<Status>()).pools[0]!.loadIgnored,
          };
          return performance.now() - began < snapshotAgeMaxMs && seen;
        });
      const counted = { first: idle!.address, loadIgnored: false };
      expect(await whileNew()).toEqual(counted);
      const old = await until("load is ignored", async () => {
        const { pools } = await gateway.status<Status>();
        return pools[0]!.loadIgnored && pools[0];
      });
      expect(old.readyEndpoints).toBe(2);
      expect(old.endpoints.map(({ waiting }) => waiting)).toEqual([null, null]);
      await until("the busy one is picked first", async () => (await first()) === busy!.address);
      expect(await whileNew()).toEqual(counted);
    });
  });
});

/** Turns request headers into the metadata that a gateway sets: a string, or a list of what stands between commas. */
const HINT_IN_LUA = `
function envoy_on_request(handle)
  local hint = "x-gateway-destination-endpoint-subset"
  local text = handle:headers():get("x-hint-text")
  local list = handle:headers():get("x-hint-list")
  local value = text
  if list ~= nil then
    value = {}
    for item in string.gmatch(list, "[^,]+") do
      table.insert(value, tonumber(item) or item)
    end
  end
  if value ~= nil then
    handle:streamInfo():dynamicMetadata():set("envoy.lb.subset_hint", hint, value)
  end
end`;

function hintByHeader(bootstrap: Bootstrap): void {
  showDestination(bootstrap);
  inference(bootstrap).http_filters.unshift({
    name: "envoy.filters.http.lua",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
      default_source_code: { inline_string: HINT_IN_LUA },
    } as never,
  });
}

describe.each(ENVOY_VERSIONS)("the subset hint on Envoy %s", (version) => {
  it("limits the pick to the endpoints it names", async () => {
    const stranger = await refusingAddress();
    await withEnvoy(version, { replicas: 4, edit: hintByHeader }, async (gateway) => {
      const [a, b, c, d] = gateway.replicas.map(({ address }) => address) as [string, string, string, string];
      const hinted = async (headers: Record<string, string>): Promise<string[]> =>
        destinationsOf(await ask(gateway, text(JSON.stringify(headers)), { headers })).toSorted();
      const cases: readonly [Record<string, string>, string[]][] = [
        [{ "x-hint-list": b }, [b]],
        [{ "x-hint-list": `${b},${d}` }, [b, d]],
        [{ "x-hint-list": `${a},12345,${c}` }, [a, c]],
        [{ "x-hint-list": `${stranger.address.replace("127.0.0.1", "10.9.9.9")},${c}` }, [c]],
        [{ "x-hint-text": d }, [d]],
        [{ "x-hint-text": `  ${b} ,  , ${c}  ` }, [b, c]],
      ];
      for (const [headers, expected] of cases) {
        expect(await hinted(headers), JSON.stringify(headers)).toEqual(expected.toSorted());
      }
      expect(await hinted({})).toHaveLength(3);
      expect(await hinted({ "x-gateway-destination-endpoint-subset": a })).toHaveLength(3);
      expect(await hinted({ "x-hint-text": "127.0.0.1" })).toHaveLength(3);
    });
    stranger.release();
  });

  it("that names no endpoint of the pool leaves nobody: 503", async () => {
    await withEnvoy(version, { replicas: 2, edit: hintByHeader }, async (gateway) => {
      for (const headers of [
        { "x-hint-list": "10.9.9.9:80" },
        { "x-hint-text": "10.9.9.9:80" },
        { "x-hint-text": "" },
      ]) {
        const reply = await ask(gateway, text("x"), { headers });
        expect(reply.status, JSON.stringify(headers)).toBe(503);
        expect(reply.headers["x-llm-d-request-dropped-reason"]).toBe("rejected-no-endpoints");
      }
      expect((await settled(gateway)).counters["requestsRefused"]).toBe(3);
    });
  });
});

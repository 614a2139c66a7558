// Mode "inline" behind routes that change requests, and under a configuration that is replaced while a prompt is computed.
import { describe, expect, it, onTestFinished } from "vitest";
import { PROTOCOLS, send } from "./clients.ts";
import { DECODE, disaggregation, PREFILL } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { DRAIN_SECONDS, startLiveGateway } from "./live-config.ts";
import { encodeSnapshot } from "./snapshot.ts";
import { settled, type Status } from "./status.ts";
import { ask, DESTINATION, inference, text } from "./support.ts";
import { answer, held } from "./upstream.ts";

const PARAMS = '{"do_remote_prefill":true}';
const DONE = answer(200, `{"kv_transfer_params":${PARAMS}}`, { "content-type": "application/json" });
const INLINE = { mode: "inline" };

const bodiesOf = ({ replicas }: Gateway, index: number): string[] =>
  replicas[index]!.received.map(({ body }) => body.toString());
const isSpliced = (body: string): boolean => body.startsWith(`{"kv_transfer_params":${PARAMS},`);

describe.each(ENVOY_VERSIONS)("a route that rewrites paths, on Envoy %s", (version) => {
  it.each([
    ["nixl", "/team-a/llama/v1/chat/completions", "/v1/chat/completions"],
    ["nixl", "/team-a/llama/v1/completions/?key=1", "/v1/completions"],
    ["sglang", "/team-a/llama/v1/chat/completions", "/v1/chat/completions"],
  ] as const)("has both legs of %s at %s end at %s", async (protocol, path, wanted) => {
    const gateway = await startGateway(version, {
      replicas: 2,
      snapshot: false,
      pluginConfig: disaggregation({ parameters: { ...INLINE, protocol } }),
      edit: (bootstrap) => {
        const host = inference(bootstrap).route_config.virtual_hosts[0]!;
        const rewriting = structuredClone(host.routes[0]!);
        Object.assign(rewriting, { match: { prefix: "/team-a/llama/" } });
        Object.assign(rewriting.route!, { prefix_rewrite: "/" });
        host.routes.unshift(rewriting);
      },
    });
    onTestFinished(() => gateway.stop());
    await gateway.push([DECODE, PREFILL]);
    gateway.replicas[1]!.behave(DONE);
    for (const wire of PROTOCOLS) {
      for (const replica of gateway.replicas) replica.forget();
      const body = '{"model":"m","prompt":"x","messages":[{"role":"user","content":"x"}]}';
      expect((await send(gateway.url, { protocol: wire, path, method: "POST", body })).status).toBe(200);
      await until("both legs came", () => gateway.replicas.every(({ received }) => received.length === 1));
      const [decode, prefill] = gateway.replicas.map(({ received }) => received[0]!.path);
      // What the cluster's own filters do is done to both: here they take the pick away.
      for (const { received } of gateway.replicas) expect(received[0]!.headers[DESTINATION]).toBeUndefined();
      // The decode leg's is the route's: with the query, and the slash at the end.
      expect([prefill, decode!.replace(/\/?(\?.*)?$/, "")]).toEqual([wanted, wanted]);
      if (protocol === "nixl") expect(bodiesOf(gateway, 0).map(isSpliced)).toEqual([true]);
    }
    await settled(gateway);
  });
});

// Why doctor warns of it: nothing that a filter writes keeps Envoy's router from mirroring.
describe.each(ENVOY_VERSIONS)("a route that mirrors, on Envoy %s", (version) => {
  it("sends the parameters to the mirror as well", async () => {
    const gateway = await startGateway(version, {
      replicas: 3,
      snapshot: false,
      pluginConfig: disaggregation({ parameters: INLINE }),
      edit: (bootstrap) => {
        const { clusters } = bootstrap.static_resources;
        const mirror = { ...structuredClone(clusters[0]!), name: "mirror" };
        mirror.load_assignment.cluster_name = "mirror";
        const [group] = mirror.load_assignment.endpoints;
        group!.lb_endpoints = group!.lb_endpoints.slice(2);
        clusters.push(mirror);
        const { route } = inference(bootstrap).route_config.virtual_hosts[0]!.routes[0]!;
        Object.assign(route!, { request_mirror_policies: [{ cluster: "mirror" }] });
      },
    });
    onTestFinished(() => gateway.stop());
    const [decoder, prefiller, mirror] = gateway.replicas;
    const endpoints = [
      { address: decoder!.address, ...DECODE },
      { address: prefiller!.address, ...PREFILL },
    ];
    await gateway.pushBytes(encodeSnapshot(endpoints));
    prefiller!.behave(DONE);
    expect((await ask(gateway, text(1))).status).toBe(200);
    await until("the mirror has it", () => mirror!.received.some(({ complete }) => complete));
    for (const index of [0, 2]) expect(bodiesOf(gateway, index).map(isSpliced)).toEqual([true]);
    await settled(gateway);
  });
});

describe.each(ENVOY_VERSIONS)("a configuration that is replaced, on Envoy %s", (version) => {
  it.each(PROTOCOLS)(
    "while a prompt is computed: that request goes on as it began, over %s",
    async (protocol) => {
      const gateway = await startLiveGateway(version, {
        replicas: 2,
        snapshot: false,
        pluginConfig: disaggregation({ parameters: INLINE }),
        drainSeconds: DRAIN_SECONDS,
      });
      onTestFinished(() => gateway.stop());
      await gateway.push([DECODE, PREFILL]);
      const { behaviour, release } = held(DONE);
      gateway.replicas[1]!.behave(behaviour);
      const reply = ask(gateway, text("before"), { protocol });
      await until("the prompt is computed", async () => {
        const { counters } = await gateway.status<Status>();
        return counters["prefillCalls"] === 1 && gateway.replicas[1]!.received.length === 1;
      });
      for (const decider of ["none", "always"] as const) {
        expect(await gateway.reconfigure(disaggregation({ decider }))).toBe("taken");
      }
      release();
      expect((await reply).status).toBe(200);
      expect(bodiesOf(gateway, 0).map(isSpliced)).toEqual([true]);
      const { counters } = await settled(gateway);
      expect([counters["prefillCalls"], counters["prefillFailures"]]).toEqual([0, 0]);
      // The next one goes by the new configuration, where the pod's sidecar is told.
      gateway.replicas[1]!.behave(DONE);
      expect((await ask(gateway, text("after"), { protocol })).status).toBe(200);
      expect(gateway.replicas[1]!.received.length).toBe(1);
      expect(gateway.replicas[0]!.received[1]!.headers["x-prefiller-host-port"]).toBe(
        gateway.replicas[1]!.address,
      );
      await settled(gateway);
    },
  );
});

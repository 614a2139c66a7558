// Data-parallel ranks behind one port of their pod: a request goes to the pod of the rank that its header names, or nowhere.
import { describe, expect, it, onTestFinished } from "vitest";
import { PROTOCOLS } from "./clients.ts";
import { DATA_PARALLEL, DECODE, PREFILL } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { encodeSnapshot, type TestEndpoint } from "./snapshot.ts";
import { endpointStatus, settled } from "./status.ts";
import { ask, destinationsOf, echoOf, LONG_ASIDE, showDestination, text } from "./support.ts";
import { answer, type Behaviour, echo, startUpstream, type Upstream } from "./upstream.ts";

type Running = Gateway & { stop(): Promise<void> };
const HOSTS = ["127.0.0.1", "127.0.0.2"] as const;
const RANKS = [0, 1, 2, 3] as const;
/** All at the first pod would be a chance of 2^−64. */
const ASKED_MAX = 64;

const rankOf = (host: string, rank: number): string => `${host}:${9000 + rank}`;

/** llm-d's routing sidecar: 400 for a rank that is none of its pod's (data_parallel.go, dataParallelHandler). */
const sidecarOf =
  (host: string, next: Behaviour): Behaviour =>
  (context) => {
    const named = String(context.received.headers[DATA_PARALLEL]);
    return (named.startsWith(`${host}:`) ? next : answer(400))(context);
  };

/** Two pods, whose ranks share a port of their own address. */
async function start(
  version: string,
  plugins: (primaryPort: number) => readonly object[],
  endpoints: readonly TestEndpoint[],
): Promise<{ gateway: Running; pods: [Upstream, Upstream] }> {
  const first = await startUpstream("first", sidecarOf(HOSTS[0], echo), { host: HOSTS[0] });
  onTestFinished(() => first.stop());
  const port = Number(first.address.split(":")[1]);
  const second = await startUpstream("second", sidecarOf(HOSTS[1], echo), { host: HOSTS[1], port });
  onTestFinished(() => second.stop());
  const gateway = await startGateway(version, {
    replicas: 0,
    extraEndpoints: [first.address, second.address],
    snapshot: false,
    edit: showDestination,
    pluginConfig: JSON.stringify({
      apiVersion: "llm-d.ai/v1alpha1",
      kind: "EndpointPickerConfig",
      plugins: [...plugins(port), { type: "epp-wasm-gateway", parameters: LONG_ASIDE }],
    }),
  });
  onTestFinished(() => gateway.stop());
  expect((await gateway.pushBytes(encodeSnapshot(endpoints))).status).toBe(204);
  return { gateway, pods: [first, second] };
}

const allRanks = (roles: object = DECODE): TestEndpoint[] =>
  HOSTS.flatMap((host) => RANKS.map((rank) => ({ address: rankOf(host, rank), rank, ...roles })));

describe.each(ENVOY_VERSIONS)("ranks of two pods, on Envoy %s", (version) => {
  const decodeOnly = (primaryPort: number): object[] => [
    { type: "data-parallel-profile-handler", parameters: { primaryPort } },
  ];

  it.each(PROTOCOLS)("have one destination, the named rank's pod, over %s", async (protocol) => {
    const { gateway, pods } = await start(version, decodeOnly, allRanks());
    for (let i = 0; i < 8; i++) {
      const reply = await ask(gateway, text(`${protocol}${i}`), { protocol });
      expect(reply.status).toBe(200);
      const named = echoOf(reply).headers[DATA_PARALLEL]!;
      const pod = pods[HOSTS.findIndex((host) => named.startsWith(`${host}:`))]!;
      expect(destinationsOf(reply)).toEqual([pod.address]);
    }
    await settled(gateway);
  });

  it("are not taken for each other's when a pod is gone, and all of that pod's are set aside at once", async () => {
    const { gateway, pods } = await start(version, decodeOnly, allRanks());
    await pods[0].kill();
    const failed: number[] = [];
    for (let i = 0; i < ASKED_MAX && (i < 16 || failed.length === 0); i++) {
      const { status } = await ask(gateway, text(i), { protocol: PROTOCOLS[i % 2]! });
      if (status !== 200) failed.push(status);
    }
    // The one that found it gone. Nobody is told 400 for a rank that the gateway chose.
    expect(failed).toEqual([503]);
    for (const rank of RANKS) {
      expect((await endpointStatus(gateway, rankOf(HOSTS[0], rank))).setAside).toBe(true);
      expect((await endpointStatus(gateway, rankOf(HOSTS[1], rank))).setAside).toBe(false);
    }
    await settled(gateway);
  });

  it("that decode a body with KV parameters are one pod's too, by the rank that its header names", async () => {
    const disaggregated = (primaryPort: number): object[] => [
      {
        type: "pd-profile-handler",
        parameters: { deciderPluginName: "always-disagg-pd-decider", primaryPort },
      },
      { type: "always-disagg-pd-decider" },
      { type: "epp-wasm-disaggregation", parameters: { mode: "inline", decodeRetry: "connect-failure" } },
    ];
    const PREFILL_HOST = "127.0.0.3";
    const { gateway, pods } = await start(version, disaggregated, [
      ...allRanks(),
      { address: rankOf(PREFILL_HOST, 1), rank: 1, ...PREFILL },
    ]);
    // Envoy does not know the prefill pod: the call goes to any host, and is answered there as if it were that one.
    const computed = answer(200, '{"kv_transfer_params":{"do_remote_prefill":true}}');
    for (const [index, host] of HOSTS.entries()) {
      pods[index]!.behave((context) => {
        const isPrefill = context.received.headers[DATA_PARALLEL] === rankOf(PREFILL_HOST, 1);
        return (isPrefill ? computed : sidecarOf(host, echo))(context);
      });
    }
    for (let i = 0; i < 8; i++) {
      const reply = await ask(gateway, text(i), { protocol: PROTOCOLS[i % 2]! });
      expect(reply.status).toBe(200);
      expect(echoOf(reply).text).toContain("do_remote_prefill");
      expect(destinationsOf(reply)).toHaveLength(1);
    }
    await until("nothing is held", async () => (await settled(gateway)).counters["prefillCalls"] === 0);
  });
});

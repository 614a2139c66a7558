// Mode "inline" while the pool changes: endpoints that leave, fail or get another role while a prompt is computed.
import { describe, expect, it, onTestFinished } from "vitest";
import { PROTOCOLS } from "./clients.ts";
import { BOTH, DECODE, disaggregation, PREFILL } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { encodeSnapshot, type TestEndpoint } from "./snapshot.ts";
import { endpointStatus, settled } from "./status.ts";
import { ask, inference, LONG_ASIDE, text } from "./support.ts";
import { answer, echo, held, type Upstream } from "./upstream.ts";

type Running = Gateway & { stop(): Promise<void> };
const PARAMS = '{"do_remote_prefill":true}';
const DONE = answer(200, `{"kv_transfer_params":${PARAMS}}`, { "content-type": "application/json" });
const FAILED = answer(500, "{}");

interface Fleet {
  readonly gateway: Running;
  readonly decoders: readonly Upstream[];
  readonly prefillers: readonly Upstream[];
}

/** Two decoders and two prefillers. */
async function start(version: string, parameters: object = {}, ownRetries = true): Promise<Fleet> {
  const gateway = await startGateway(version, {
    replicas: 4,
    snapshot: false,
    pluginConfig: disaggregation({ parameters: { mode: "inline", ...parameters }, gateway: LONG_ASIDE }),
    edit: (bootstrap) => {
      if (ownRetries) return;
      const route = inference(bootstrap).route_config.virtual_hosts[0]!.routes[0]!.route;
      delete (route as { retry_policy?: { retry_on?: string } }).retry_policy?.retry_on;
    },
  });
  onTestFinished(() => gateway.stop());
  await gateway.push([DECODE, DECODE, PREFILL, PREFILL]);
  return { gateway, decoders: gateway.replicas.slice(0, 2), prefillers: gateway.replicas.slice(2) };
}

const bodiesOf = (upstreams: readonly Upstream[]): string[] =>
  upstreams.flatMap((upstream) => upstream.received.map(({ body }) => body.toString()));
const isSpliced = (body: string): boolean => body.startsWith(`{"kv_transfer_params":${PARAMS},`);

/** Holds both prefillers' answers; gives the one that was asked and the release. */
function hold(prefillers: readonly Upstream[], next = DONE): () => void {
  const { behaviour, release } = held(next);
  for (const prefiller of prefillers) prefiller.behave(behaviour);
  return release;
}

async function asked(upstreams: readonly Upstream[]): Promise<Upstream> {
  return until("one is asked", () => upstreams.find(({ received }) => received.length > 0));
}

describe.each(ENVOY_VERSIONS)("while a prompt is computed, on Envoy %s", (version) => {
  it.each(PROTOCOLS)(
    "the other prefill endpoint leaves: whoever has its place is not asked, over %s",
    async (protocol) => {
      const { gateway, decoders, prefillers } = await start(version);
      const release = hold(prefillers, FAILED);
      const reply = ask(gateway, text(1), { protocol });
      const first = await asked(prefillers);
      const other = prefillers.find((one) => one !== first)!;
      // In the other one's slot there is now an endpoint that only decodes.
      const pool: TestEndpoint[] = gateway.replicas.map(({ address }, slot) =>
        address === other.address
          ? { address: decoders[1]!.address, slot, generation: 2, ...DECODE }
          : { address, slot, ...(slot < 2 ? DECODE : PREFILL) },
      );
      expect((await gateway.pushBytes(encodeSnapshot(pool.toSpliced(1, 1), 99))).status).toBe(204);
      await until("it is known", async () => {
        const { pools } = await gateway.status<{ pools: { endpoints: { generation: number }[] }[] }>();
        return pools[0]!.endpoints.some(({ generation }) => generation === 2);
      });
      release();
      expect((await reply).status).toBe(200);
      expect(other.received).toEqual([]);
      // Nobody computed it elsewhere: the decode endpoint got the body as it came, and nothing else.
      expect(bodiesOf(decoders).length).toBe(1);
      expect(bodiesOf(decoders)[0]).not.toContain("kv_transfer_params");
      const { counters } = await settled(gateway);
      expect([counters["prefillFailures"], counters["prefillFallbacks"]]).toEqual([1, 1]);
    },
  );

  it.each(PROTOCOLS)(
    "the decode endpoint is found dead: the next one gets the parameters, over %s",
    async (protocol) => {
      const { gateway, decoders, prefillers } = await start(version);
      const release = hold(prefillers);
      const waiting = Array.from({ length: 6 }, (_, i) => ask(gateway, text(`waiting${i}`), { protocol }));
      await until("all wait", () => bodiesOf(prefillers).length === 6);
      await decoders[0]!.kill();
      // Requests that are not read go anywhere: one of them finds it dead, and is answered by the other.
      await until("it is set aside", async () => {
        await ask(gateway, "", { method: "POST", path: "/other", protocol });
        return (await endpointStatus(gateway, decoders[0]!.name)).setAside;
      });
      release();
      const replies = await Promise.all(waiting);
      expect(replies.map(({ status }) => status)).toEqual(replies.map(() => 200));
      expect(bodiesOf(decoders).filter(isSpliced).length).toBe(6);
      await settled(gateway);
    },
  );

  it.each(PROTOCOLS)(
    "the decode endpoint is found dead: who computed the prompt answers as it is, over %s",
    async (protocol) => {
      const gateway = await startGateway(version, {
        replicas: 2,
        snapshot: false,
        pluginConfig: disaggregation({ parameters: { mode: "inline" }, gateway: LONG_ASIDE }),
      });
      onTestFinished(() => gateway.stop());
      await gateway.push([BOTH, BOTH]);
      const release = hold(gateway.replicas);
      const reply = ask(gateway, text("both"), { protocol });
      const computes = await asked(gateway.replicas);
      const decodes = gateway.replicas.find((one) => one !== computes)!;
      computes.behave(echo);
      await decodes.kill();
      await until("it is set aside", async () => {
        await ask(gateway, "", { method: "POST", path: "/other", protocol });
        return (await endpointStatus(gateway, decodes.name)).setAside;
      });
      computes.forget();
      release();
      expect((await reply).status).toBe(200);
      expect(bodiesOf([computes]).map((body) => body.includes("kv_transfer_params"))).toEqual([false]);
      await settled(gateway);
    },
  );

  it("roles change: the running request goes on, the next one goes by the new roles", async () => {
    const { gateway, decoders, prefillers } = await start(version);
    const release = hold(prefillers);
    const reply = ask(gateway, text(1));
    await asked(prefillers);
    expect((await gateway.push([PREFILL, PREFILL, DECODE, DECODE])).status).toBe(204);
    await until("it is known", async () => {
      const { pools } = await gateway.status<{ pools: { snapshotAgeMs: number }[] }>();
      return pools[0]!.snapshotAgeMs > 10;
    });
    release();
    expect((await reply).status).toBe(200);
    expect(bodiesOf(decoders).filter(isSpliced).length).toBe(1);
    for (const replica of gateway.replicas) replica.forget();
    for (const replica of decoders) replica.behave(DONE);
    for (const replica of prefillers) replica.behave(answer(200, "{}"));
    expect((await ask(gateway, text(2))).status).toBe(200);
    expect([bodiesOf(decoders).length, bodiesOf(prefillers).filter(isSpliced).length]).toEqual([1, 1]);
    await settled(gateway);
  });
});

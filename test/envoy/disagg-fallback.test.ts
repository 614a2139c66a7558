// Where a request goes whose decode host refuses the connection: never to the endpoint that it is to get its prompt from.
import { describe, expect, it, onTestFinished } from "vitest";
import { PROTOCOLS } from "./clients.ts";
import type { Bootstrap } from "../../cli/envoy-config.ts";
import { BOTH, disaggregation, PREFILL, DECODE, PREFILLER } from "./disagg.ts";
import { ENVOY_VERSIONS, type Gateway, startGateway, until } from "./harness.ts";
import { settled } from "./status.ts";
import { ask, destinationsOf, echoOf, inference, showDestination, text } from "./support.ts";
import { answer, type Behaviour, echo, reset, type Upstream } from "./upstream.ts";

type Running = Gateway & { stop(): Promise<void> };

/** A host that refused is tried again at once, so that many requests find it dead. */
const AT_ONCE = { retryBackoffMinMs: 10, retryBackoffMaxMs: 10 };
/** Requests until the dead host was somebody's first choice: never so by chance in 128 has odds below 2^−64. */
const ASKED_MAX = 128;

/** How the routes retry by themselves: as shipped, not at all, or not those requests that go out with parameters. */
type Routes = "own" | "none" | "split";

function setRoutes(bootstrap: Bootstrap, routes: Routes): void {
  if (routes === "own") return;
  const host = inference(bootstrap).route_config.virtual_hosts[0]!;
  const [route] = host.routes;
  const silent = structuredClone(route!);
  delete (silent.route as { retry_policy?: { retry_on?: string } }).retry_policy?.retry_on;
  if (routes === "none") host.routes[0] = silent;
  else {
    const unsent = { name: "x-envoy-retry-on", string_match: { exact: "connect-failure" } };
    host.routes.unshift(Object.assign(silent, { match: { prefix: "/", headers: [unsent] } }));
  }
}

async function start(
  version: string,
  roles: readonly object[],
  { parameters = {}, routes = "own" as Routes } = {},
): Promise<Running> {
  const gateway = await startGateway(version, {
    replicas: roles.length,
    snapshot: false,
    pluginConfig: disaggregation({ parameters, gateway: AT_ONCE }),
    edit: (bootstrap) => {
      showDestination(bootstrap);
      setRoutes(bootstrap, routes);
    },
  });
  onTestFinished(() => gateway.stop());
  expect((await gateway.push(roles)).status).toBe(204);
  return gateway;
}

const retried = async (gateway: Gateway): Promise<number> =>
  (await gateway.status<{ counters: Record<string, number> }>()).counters["requestsRetried"]!;

/** Asks until a request found its first choice dead and went on; gives every answer to `look`. */
async function askUntilRetried(
  gateway: Gateway,
  look: (reply: Awaited<ReturnType<typeof ask>>) => void,
): Promise<void> {
  const before = await retried(gateway);
  for (let i = 0; i < ASKED_MAX && (await retried(gateway)) < before + 3; i++) {
    look(await ask(gateway, text(`${i} of many`), { protocol: PROTOCOLS[i % 2]! }));
  }
  expect(await retried(gateway)).toBeGreaterThan(before);
}

describe.each(ENVOY_VERSIONS)("a decode host that refuses the connection, on Envoy %s", (version) => {
  it.each([
    [3, 2],
    [5, 3],
  ])("of %i that do both: the other %i hosts named are not the prefiller", async (count, named) => {
    const gateway = await start(version, new Array(count).fill(BOTH));
    for (let i = 0; i < 12; i++) {
      const reply = await ask(gateway, text(i));
      const prefiller = echoOf(reply).headers[PREFILLER];
      const destinations = destinationsOf(reply);
      expect(prefiller).toBeDefined();
      expect(destinations).not.toContain(prefiller);
      expect(new Set(destinations).size).toBe(named);
    }
    await settled(gateway);
  });

  it("is followed by one that is not the prefiller", async () => {
    const gateway = await start(version, [BOTH, BOTH, BOTH]);
    await gateway.replicas[0]!.kill();
    await askUntilRetried(gateway, (reply) => {
      expect(reply.status).toBe(200);
      const served = gateway.replicas.find(({ name }) => name === gateway.servedBy(reply.headers))!;
      expect(echoOf(reply).headers[PREFILLER]).not.toBe(served.address);
    });
    await settled(gateway);
  });

  it("and the next one too: no other host is taken, as that is the prefiller", async () => {
    const gateway = await start(version, [DECODE, DECODE, BOTH]);
    const [first, second, both] = gateway.replicas as [Upstream, Upstream, Upstream];
    await first.kill();
    await second.kill();
    for (let i = 0; i < 8; i++) {
      // Once both are known to be dead the third one decodes, and nobody is there to compute for it.
      await ask(gateway, text(`none${i}`));
    }
    for (const { headers } of both.received) expect(headers[PREFILLER]).not.toBe(both.address);
    await settled(gateway);
  });

  it("is followed by the prefiller where there is no third one", async () => {
    const gateway = await start(version, [BOTH, BOTH]);
    await gateway.replicas[0]!.kill();
    await askUntilRetried(gateway, (reply) => expect(reply.status).toBe(200));
    await settled(gateway);
  });
});

const paramsOf = (address: string): string => `{"do_remote_prefill":true,"remote_host":"${address}"}`;

/** Computes prompts for others, and echoes what it is to answer. */
function doesBoth(own: Upstream): Behaviour {
  const computed = answer(200, `{"kv_transfer_params":${paramsOf(own.address)}}`);
  return async (context) => {
    await context.bodyRead;
    const isPrefill = context.received.body.includes('"do_remote_decode":true');
    await (isPrefill ? computed : echo)(context);
  };
}

/** Bodies with parameters of a prefill, by who got them. */
function spliced(gateway: Gateway): [string, string][] {
  return gateway.replicas.flatMap(({ address, received }) =>
    received
      .map(({ body }) => body.toString())
      .filter((body) => body.startsWith('{"kv_transfer_params":{"do_remote_prefill"'))
      .map((body): [string, string] => [address, body]),
  );
}

describe.each(ENVOY_VERSIONS)("a body with KV parameters, on Envoy %s", (version) => {
  const parameters = { mode: "inline", decodeRetry: "connect-failure" };
  const INLINE = { parameters, routes: "none" as const };

  it.each(["none", "split"] as const)(
    "goes to the next host, never to the one that the parameters name, where routes are %s",
    async (routes) => {
      const gateway = await start(version, [BOTH, BOTH, BOTH], { parameters, routes });
      for (const replica of gateway.replicas) replica.behave(doesBoth(replica));
      await gateway.replicas[0]!.kill();
      await askUntilRetried(gateway, (reply) => expect(reply.status).toBe(200));
      expect(spliced(gateway).length).toBeGreaterThan(0);
      for (const [address, body] of spliced(gateway)) expect(body).not.toContain(paramsOf(address));
      await settled(gateway);
    },
  );

  it.each(["headers", "body"] as const)(
    "goes out once when the host breaks at its %s, by a route of its own among routes that retry",
    async (when) => {
      const gateway = await start(version, [DECODE, DECODE, PREFILL], { parameters, routes: "split" });
      const [first, second, prefiller] = gateway.replicas as [Upstream, Upstream, Upstream];
      prefiller.behave(doesBoth(prefiller));
      for (const decoder of [first, second]) decoder.behave(reset(when));
      for (const protocol of PROTOCOLS) {
        const reply = await ask(gateway, text(protocol), { protocol });
        expect(reply.status).toBe(503);
      }
      expect(first.received.length + second.received.length).toBe(2);
      // A request without parameters has the retries of the other route: it is sent again.
      prefiller.behave(answer(500, "{}"));
      for (const decoder of [first, second]) decoder.forget();
      await until("it was sent again", async () => {
        await ask(gateway, text("plain"));
        return first.received.length > 0 && second.received.length > 0;
      });
      await settled(gateway);
    },
  );

  it("goes nowhere else than the decision says", async () => {
    const gateway = await start(version, [DECODE, PREFILL, PREFILL], INLINE);
    const decoder = gateway.replicas[0]!;
    for (const replica of gateway.replicas) replica.behave(doesBoth(replica));
    await decoder.kill();
    const reply = await ask(gateway, text("alone"));
    expect(reply.status).toBe(503);
    expect(JSON.parse(reply.text).error.message).toContain("the endpoint that answers this request failed");
    expect(spliced(gateway)).toEqual([]);
    await until("it is set aside", async () => (await settled(gateway)).counters["hostsSetAside"]! > 0);
  });
});

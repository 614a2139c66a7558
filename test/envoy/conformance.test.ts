// The Gateway API Inference Extension's conformance tests, as far as they send requests, through Envoy with our filter.
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Reply, open, send } from "./clients.ts";
import { HOLD, type Pod, SERVED_BY, SERVED_PORT } from "./conformance-fleet.ts";
import { DECISION, PICKER_GONE, ROUTES, startTopology, type Topology } from "./conformance-topology.ts";
import { ENVOY_VERSIONS, until } from "./harness.ts";
import type { Status } from "./status.ts";

interface CaseRequest {
  readonly method: string;
  readonly host?: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object;
  readonly forEachPod?: boolean;
  readonly n?: number;
  readonly concurrency?: number;
}
interface Case {
  readonly source: string;
  readonly test: string;
  readonly name: string;
  /** Why this case is not played here: what it needs that no data plane has. */
  readonly needs?: string;
  readonly input: { readonly requests: readonly CaseRequest[] };
  readonly expect: {
    readonly status?: number;
    readonly statuses?: readonly number[];
    readonly statusOneOf?: readonly number[];
    readonly servedBy?: string;
    readonly servedOnlyBy?: readonly string[];
    readonly ports?: readonly string[];
    readonly portsOf?: Readonly<Record<string, readonly string[]>>;
    readonly responseHeaders?: Readonly<Record<string, string>>;
    readonly shareOfPrimary?: number;
  };
}

const { cases } = JSON.parse(
  readFileSync(new URL("../fixtures/oracles/conformance.json", import.meta.url), "utf8"),
) as { cases: readonly Case[] };
const SELECTION = "test-epp-endpoint-selection";
/** max(0.10, 4.5 standard deviations of 200 draws), as the suite has it. */
const SHARE_TOLERANCE = 0.1458;

// How each case is played.
const played = cases.filter(({ needs }) => needs === undefined);
const isPost = ({ input }: Case): boolean => input.requests[0]?.method === "POST";
const lifecycle = played.filter(({ test }) => test === "InferencePoolResolvedRefsCondition");
const failOpen = played.filter(({ test }) => test === "EppUnAvailableFailOpen");
const reachable = played.filter(({ name }) => name.startsWith("each pod of both pools"));
const weighted = played.filter((one) => one.expect.shareOfPrimary !== undefined);
const closed = played.filter((one) => one.expect.statusOneOf !== undefined);
const special = new Set([...lifecycle, ...failOpen, ...reachable, ...weighted, ...closed]);
const following = played.filter((one) => isPost(one) && !special.has(one));
const routed = played.filter((one) => !isPost(one) && !special.has(one));

describe("the conformance cases", () => {
  it("are the whole suite, and those that are not played say what they need", () => {
    expect(cases).toHaveLength(31);
    expect(new Set(cases.map(({ test }) => test)).size).toBe(14);
    const unplayed = cases.filter(({ needs }) => needs !== undefined);
    expect(unplayed.map(({ input }) => input.requests)).toEqual([[], [], [], []]);
    expect(following.length + routed.length + special.size).toBe(27);
  });
});

describe.each(ENVOY_VERSIONS)("conformance on Envoy %s", (version) => {
  let topology: Topology;
  beforeAll(async () => {
    topology = await startTopology(version);
  });
  afterAll(() => topology?.stop());

  /**
   * A GET names no endpoints, so it goes to a gateway whose configuration does not ask for names: llm-d's picker
   * sends it to a random pod without any plugin, ours lets filters choose for it too (a GET to a prefill pod helps
   * nobody), and the testing filter keeps only what is named.
   */
  const routeOf = ({ method, host, path }: CaseRequest) => {
    const found = ROUTES.find(
      ({ gateway, ...route }) =>
        route.path === path &&
        route.host === (host ?? "*") &&
        (gateway === "inference") === (method === "POST"),
    );
    if (found === undefined) throw new Error(`no route for ${host}${path}`);
    return found;
  };

  function ask(one: CaseRequest, headers: Readonly<Record<string, string>> = {}): Promise<Reply> {
    const { method, host, path, body } = one;
    const all = { ...(host === undefined ? {} : { host }), ...headers };
    return send(topology.urls[routeOf(one).gateway], {
      method,
      path,
      headers: all,
      ...(body === undefined ? {} : { body }),
    });
  }

  /** Replaces "<podIP i>", "<ip0>", "<podIP>:3000" … by the addresses of this run. */
  function selection(text: string, pods: readonly Pod[], pod: Pod | undefined): string {
    return text
      .replace(/ \(sorted by IP\)$/, "")
      .split(",")
      .map((entry) => {
        const [, number, port] = /^<(?:podIP(?: i)?|ip(\d))>(?::(\d+))?$/.exec(entry) ?? [];
        const named = number === undefined ? pod! : pods[Number(number)]!;
        return port === undefined ? named.ip : named.endpoints.get(port)!;
      })
      .join(",");
  }

  /** n requests, at most `concurrency` of them at a time. */
  async function many(one: CaseRequest, headers: Readonly<Record<string, string>>): Promise<Reply[]> {
    const replies: Reply[] = [];
    const { n = 1, concurrency = 1 } = one;
    let left = n;
    const worker = async (): Promise<void> => {
      while (left-- > 0) replies.push(await ask(one, headers));
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
    return replies;
  }

  const poolsOf = (one: CaseRequest): readonly string[] => {
    const { pool } = routeOf(one);
    return typeof pool === "string" ? [pool] : Object.keys(pool);
  };
  const podsOf = (one: CaseRequest): Pod[] => poolsOf(one).flatMap((pool) => topology.pods(pool));

  it.each(following)("$test: $name", async ({ input, expect: expected }) => {
    const [one] = input.requests as [CaseRequest];
    const pods = podsOf(one);
    for (const pod of one.forEachPod === true ? pods : [undefined]) {
      const chosen = selection(one.headers![SELECTION]!, pods, pod);
      const allowed =
        pod === undefined ? expected.servedOnlyBy!.map((name) => pods[Number(name.at(-1))]!) : [pod];
      for (const { status, headers } of await many(one, { [SELECTION]: chosen })) {
        expect(status).toBe(expected.status);
        expect(allowed.map(({ name }) => name)).toContain(headers[SERVED_BY]);
        const index = pods.findIndex(({ name }) => name === headers[SERVED_BY]);
        const ports = expected.portsOf?.[`pod${index}`] ?? expected.ports ?? [headers[SERVED_PORT]];
        expect(ports).toContain(headers[SERVED_PORT]);
        const served = pods[index]!.endpoints.get(headers[SERVED_PORT] as string);
        expect(headers[DECISION]).toContain(` endpoint=${served} `);
        const [echoed] = Object.values(expected.responseHeaders ?? {});
        if (echoed !== undefined) expect(served).toBe(pod!.endpoints.get(echoed.split(":")[1]!));
      }
    }
  });

  it("GatewayDestinationEndpointServed: the work counts at the endpoint that serves, while it does", async () => {
    const one = following.find(({ test }) => test === "GatewayDestinationEndpointServed")!.input.requests[0]!;
    for (const pod of podsOf(one)) {
      const headers = { host: one.host!, [SELECTION]: pod.ip, [HOLD]: "yes" };
      const exchange = open(topology.urls.inference, { path: one.path, headers });
      exchange.end(JSON.stringify(one.body));
      await exchange.head;
      const busy = await until("the request counts somewhere", async () => {
        const { pools } = await topology.gateway.status<Status>();
        const { endpoints } = pools.find(({ name }) => name === "primary")!;
        const found = endpoints.filter(({ inflightRequests }) => inflightRequests > 0);
        return found.length > 0 && found;
      });
      expect(busy.map(({ address, inflightRequests }) => [address, inflightRequests])).toEqual([
        [pod.endpoints.get("3000"), 1],
      ]);
      pod.release();
      await exchange.reply;
      await until("the request is given back", async () => {
        const { counters } = await topology.gateway.status<Status>();
        return counters["inflightRequests"] === 0;
      });
    }
    expect((await topology.gateway.status<Status>()).counters["unknownUpstreams"]).toBe(0);
  });

  it.each(failOpen)("$test: $name", async ({ name, input, expect: expected }) => {
    const [one] = input.requests as [CaseRequest];
    const pods = podsOf(one);
    const isGone = name.startsWith("picker gone");
    const gone: Readonly<Record<string, string>> = isGone ? { [PICKER_GONE]: "yes" } : {};
    for (let i = 0; i < 10; i++) {
      const reply = await ask(one, { [SELECTION]: pods[0]!.ip, ...gone });
      expect(reply.status).toBe(expected.status);
      const allowed = isGone ? pods : [pods[0]!];
      expect(allowed.map((pod) => pod.name)).toContain(reply.headers[SERVED_BY]);
    }
  });

  it.each(reachable)("$test: $name", async ({ input, expect: expected }) => {
    const [one] = input.requests as [CaseRequest];
    const pods = podsOf(one);
    for (const pod of pods) {
      const chosen = selection(one.headers![SELECTION]!, pods, pod);
      // The weights may choose the other pool, whose picker knows no such pod and says so; the suite asks again.
      const reply = await until(`${pod.name} is reached`, async () => {
        const tried = await ask(one, { [SELECTION]: chosen });
        return tried.headers["x-llm-d-request-dropped-reason"] !== "rejected-saturated" && tried;
      });
      expect([reply.status, reply.headers[SERVED_BY]]).toEqual([expected.status, pod.name]);
    }
  });

  it.each(weighted)("$test: $name", async ({ input, expect: expected }) => {
    const [one] = input.requests as [CaseRequest];
    const pods = podsOf(one);
    expect(pods).toHaveLength(6);
    const replies = await many(one, { [SELECTION]: pods.map(({ ip }) => ip).join(",") });
    const served = replies.map(({ headers }) => String(headers[SERVED_BY]));
    for (const [index, { status, headers }] of replies.entries()) {
      expect(status).toBe(expected.status);
      // The cluster that the weights gave and the pool that the picker took are the same one.
      expect(headers[DECISION]).toContain(`pool=${served[index]!.split("-")[0]} `);
    }
    const share = served.filter((name) => name.startsWith("primary-")).length / served.length;
    expect(Math.abs(share - expected.shareOfPrimary!)).toBeLessThanOrEqual(SHARE_TOLERANCE);
  });

  it.each(routed)("$test: $name", async ({ input, expect: expected }) => {
    const [one] = input.requests as [CaseRequest];
    const reply = await ask(one);
    expect(reply.status).toBe(expected.status);
    expect(reply.headers[SERVED_BY]).toMatch(new RegExp(`^${expected.servedBy!.split(" ")[0]}-`));
  });

  it.each(closed)("$test: $name", async ({ input, expect: expected }) => {
    const reply = await ask(input.requests[0]!);
    expect(expected.statusOneOf).toContain(reply.status);
    expect(reply.headers).not.toHaveProperty(SERVED_BY);
  });

  it("InferencePoolResolvedRefsCondition: one pool on two gateways, then on one, then on none", async () => {
    expect(lifecycle.map(({ name }) => name)).toEqual([
      "one pool on two gateways",
      "first route deleted (wait 5 s)",
      "second route deleted",
    ]);
    const [both, one, none] = lifecycle as [Case, Case, Case];
    for (const step of both.input.requests) {
      const reply = await ask(step);
      expect(reply.status).toBe(both.expect.status);
      expect(reply.headers[SERVED_BY]).toMatch(/^primary-/);
    }
    const remove = async (step: CaseRequest, status: number | undefined): Promise<void> => {
      const gone = routeOf(step);
      const left = ROUTES.filter(({ gateway }) => gateway === gone.gateway).filter((route) => route !== gone);
      topology.serve(gone.gateway, left);
      expect(status).toBe(404);
      await until("the route is gone", async () => (await ask(step)).status === status);
    };
    const [second, deleted] = one.input.requests as [CaseRequest, CaseRequest];
    await remove(deleted, one.expect.statuses![1]);
    expect((await ask(second)).status).toBe(one.expect.statuses![0]);
    await remove(none.input.requests[0]!, none.expect.status);
  });
});

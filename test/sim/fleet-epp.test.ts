// The policy "epp": the filter's own decisions, over answers, retries, deaths and many workers, all repeatable.
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { lastEvents } from "../../host-sim/fleet/answer-events.ts";
import { requestBody } from "../../host-sim/fleet/body.ts";
import { EppGateway, type EppOptions, eppPolicy, pickerConfig } from "../../host-sim/fleet/epp-gateway.ts";
import { replicaAddress, snapshotEndpoints } from "../../host-sim/fleet/snapshot-endpoints.ts";
import type {
  FleetRequest,
  Gateway,
  GatewayContext,
  Policy,
  RunRecord,
  Scrape,
} from "../../host-sim/fleet/types.ts";
import { createHost, VirtualClock } from "../../host-sim/host/index.ts";
import { SnapshotEncoder } from "../../sidecar/snapshot-encoder.ts";
import { EPP_MODULE, eppOptions } from "./support/epp.ts";
import { fleetOf, fleetRequest, randomWorkload, run, span, timeless } from "./support/fleet.ts";

const REPLICAS = 4;
const DESTINATION = "x-gateway-destination-endpoint";

/** Gateways that the running test has to close. */
const open: { close(): void }[] = [];
afterEach(() => {
  for (const gateway of open.splice(0)) gateway.close();
});

function contextOf(replicas: number): GatewayContext {
  return {
    replicas: fleetOf(replicas),
    gateway: 0,
    gateways: 1,
    seed: 1,
    models: ["m", "a0", "a1"],
    truth: () => undefined,
    blockHashes: () => [],
  };
}

function idle(replicas: number, change: (replica: number) => Partial<Scrape> = () => ({})): Scrape[] {
  return Array.from({ length: replicas }, (_, replica) => ({
    ready: true,
    waiting: 0,
    running: 0,
    kvUsage: 0,
    kvCapacityTokens: 400_000,
    blockTokens: 16,
    promptTokens: 0,
    generationTokens: 0,
    preemptions: 0,
    generation: 1,
    loras: [],
    role: "both" as const,
    ...change(replica),
  }));
}

async function startGateway(options: Partial<EppOptions> = {}): Promise<EppGateway> {
  const gateway = await EppGateway.start(eppOptions(options), contextOf(REPLICAS));
  open.push(gateway);
  gateway.scraped(idle(REPLICAS), 0);
  return gateway;
}

interface Status {
  readonly counters: Readonly<Record<string, number>>;
  readonly pools: readonly { readonly endpoints: readonly Record<string, unknown>[] }[];
}

/** What the filter counted, once a tick has published it. */
function statusAt(gateway: EppGateway, nowMs: number): Status {
  gateway.advance(nowMs);
  return gateway.status() as Status;
}

const ANSWERED = (request: FleetRequest) => ({
  status: 200,
  promptTokens: request.promptTokens,
  outputTokens: request.outputTokens,
  cachedTokens: 0,
});

describe("an epp gateway", () => {
  it("decides as the filter does in a host that is driven by hand", async () => {
    const gateway = await startGateway();
    const clock = new VirtualClock();
    const common = { vmId: "epp", allowOnHeadersStopIteration: true };
    const plugins = ["picker", "ingest"].map((rootId) => ({ ...common, rootId }));
    const host = await createHost({ module: EPP_MODULE, clock, plugins, bufferLimitBytes: 1 << 24 });
    open.push(host);
    const snapshot = new SnapshotEncoder().encode(snapshotEndpoints(idle(REPLICAS), ["m", "a0", "a1"]), 1);
    const control = host.worker(0).openStream("ingest");
    control.requestHeaders({ ":method": "POST", ":path": "/v1/pools/pool/snapshot", ":authority": "x" });
    control.requestBody(snapshot, true);
    expect(control.downstream!.status).toBe(204);
    const requests = randomWorkload(7, 60, 12).requests;
    const chosen: string[] = [];
    for (const request of requests) {
      const nowMs = request.arrivalMs;
      clock.advanceTo(nowMs);
      const body = requestBody(request);
      const stream = host.worker(0).openStream("picker", { routeMetadata: { epp: { pool: "pool" } } });
      stream.requestHeaders({
        ":method": "POST",
        ":path": "/v1/chat/completions",
        ":authority": "gateway",
        "content-type": "application/json",
        "content-length": String(body.length),
      });
      stream.requestBody(body, true);
      const list = stream.upstream!.header(DESTINATION)!;
      chosen.push(list.split(",")[0]!);
      const { endpoint, fallbacks } = gateway.route(request, nowMs);
      expect([endpoint, ...fallbacks!].map(replicaAddress).join(",")).toBe(list);
      gateway.connected(request, endpoint, nowMs);
      gateway.firstToken(request, endpoint, nowMs + 2);
      gateway.finished(request, endpoint, ANSWERED(request), nowMs + 3);
      Object.assign(stream.info, { upstreamAddress: replicaAddress(endpoint), attemptCount: 1 });
      stream.responseHeaders({ ":status": "200", "content-type": "text/event-stream" });
      clock.advanceTo(nowMs + 2);
      stream.responseBody('data: {"choices":[]}\n\n');
      clock.advanceTo(nowMs + 3);
      stream.responseBody(lastEvents(request, ANSWERED(request)), true);
      expect(stream.closed).toBe(true);
    }
    expect(new Set(chosen).size).toBeGreaterThan(1);
  });

  it("reserves a request's work until its first token, and the request until its end", async () => {
    const gateway = await startGateway();
    const request = fleetRequest(0, 0, 2000, 5);
    const { endpoint } = gateway.route(request, 10);
    const inflight = (nowMs: number): unknown[] => {
      const { inflightRequests, inflightTokens } = statusAt(gateway, nowMs).pools[0]!.endpoints[endpoint]!;
      return [inflightRequests, Number(inflightTokens) > 0];
    };
    gateway.connected(request, endpoint, 10);
    expect(inflight(120)).toEqual([1, true]);
    gateway.firstToken(request, endpoint, 130);
    expect(inflight(240)).toEqual([1, false]);
    gateway.finished(request, endpoint, ANSWERED(request), 250);
    expect(inflight(360)).toEqual([0, false]);
  });

  it("feeds the usage back: bytes a token, and cached tokens", async () => {
    const gateway = await startGateway({ config: settings({ responseSampleEvery: 1 }) });
    const request = fleetRequest(0, 0, 2000, 5);
    const { endpoint } = gateway.route(request, 10);
    gateway.connected(request, endpoint, 10);
    gateway.firstToken(request, endpoint, 20);
    gateway.finished(request, endpoint, { ...ANSWERED(request), cachedTokens: 160 }, 30);
    const { counters } = statusAt(gateway, 600);
    expect(counters).toMatchObject({ usagePromptTokens: 2000, usageCachedTokens: 160 });
  });

  it("keeps a prompt that comes again and again through any worker, however much else is stored", async () => {
    const gateway = await EppGateway.start(eppOptions({ workers: 8 }), contextOf(1));
    open.push(gateway);
    gateway.scraped(
      idle(1, () => ({ kvCapacityTokens: 20_000 })),
      0,
    );
    const shared = span(1, 600);
    for (let index = 0; index < 600; index++) {
      const nowMs = 10 + index * 20;
      const request = fleetRequest(index, nowMs, 800, 2, { spans: [shared, span(1000 + index, 200)] });
      expect(gateway.route(request, nowMs).endpoint).toBe(0);
      gateway.connected(request, 0, nowMs);
      gateway.firstToken(request, 0, nowMs + 5);
      gateway.finished(request, 0, ANSWERED(request), nowMs + 6);
    }
    const { counters } = statusAt(gateway, 13_000);
    // All but the first match 600 of 800 tokens; a prompt that is lost once a cache's worth of tokens makes it 0.735.
    expect(counters["matchedTokens"]! / counters["promptTokens"]!).toBeGreaterThan(0.74);
  });

  it("tells the filter of refused connections, which then leaves the replica out", async () => {
    const gateway = await startGateway();
    const first = fleetRequest(0, 0, 600, 2);
    const choice = gateway.route(first, 10);
    expect(choice.fallbacks).toHaveLength(2);
    const [fallback] = choice.fallbacks!;
    gateway.connectFailed(first, choice.endpoint);
    gateway.connected(first, fallback!, 10);
    gateway.firstToken(first, fallback!, 40);
    gateway.finished(first, fallback!, ANSWERED(first), 60);
    expect(statusAt(gateway, 600).counters).toMatchObject({ requestsRetried: 1, prefixesMoved: 1 });
    for (let index = 1; index < 9; index++) {
      const request = fleetRequest(index, 0, 600, 2);
      const { endpoint, fallbacks } = gateway.route(request, 600 + index);
      expect([endpoint, ...fallbacks!]).not.toContain(choice.endpoint);
      gateway.connected(request, endpoint, 600 + index);
      gateway.firstToken(request, endpoint, 600 + index);
      gateway.finished(request, endpoint, ANSWERED(request), 600 + index);
    }
  });

  it("gives everything back when all connects fail, a replica dies, or a request is too long", async () => {
    const gateway = await startGateway();
    const endings: ((request: FleetRequest, list: readonly number[], nowMs: number) => number)[] = [
      (request, list) => {
        for (const endpoint of list) gateway.connectFailed(request, endpoint);
        return 503;
      },
      (request, list, nowMs) => {
        gateway.connected(request, list[0]!, nowMs);
        return 503;
      },
      (request, list, nowMs) => {
        gateway.connected(request, list[0]!, nowMs);
        gateway.firstToken(request, list[0]!, nowMs);
        return 503;
      },
      () => 400,
    ];
    for (const [index, end] of endings.entries()) {
      const request = fleetRequest(index, 0, 800, 2);
      const nowMs = 10 + 5000 * index;
      const { endpoint, fallbacks } = gateway.route(request, nowMs);
      const list = [endpoint, ...fallbacks!];
      const status = end(request, list, nowMs + 1);
      gateway.finished(request, list.at(-1)!, { ...ANSWERED(request), status }, nowMs + 2);
    }
    const { pools } = statusAt(gateway, 60_000);
    for (const endpoint of pools[0]!.endpoints) {
      expect(endpoint).toMatchObject({ inflightRequests: 0, inflightTokens: 0 });
    }
  });

  it("refuses a request while no replica is ready", async () => {
    const gateway = await startGateway();
    gateway.scraped(
      idle(REPLICAS, () => ({ ready: false })),
      10,
    );
    expect(gateway.route(fleetRequest(0, 0, 100, 1), 20)).toEqual({ endpoint: -1 });
  });

  it("keeps to the replicas that are ready", async () => {
    const gateway = await startGateway();
    gateway.scraped(
      idle(REPLICAS, (replica) => ({ ready: replica === 2 })),
      10,
    );
    expect(gateway.route(fleetRequest(0, 0, 100, 1), 20)).toEqual({ endpoint: 2, fallbacks: [] });
  });

  it("throws what the filter says about a configuration that it refuses", async () => {
    const config = settings({ tickMs: 0 });
    await expect(EppGateway.start(eppOptions({ config }), contextOf(1))).rejects.toThrow("picker");
  });
});

function settings(parameters: object): string {
  const plugins = [{ type: "epp-wasm-gateway", parameters }];
  return JSON.stringify({ apiVersion: "llm-d.ai/v1alpha1", kind: "EndpointPickerConfig", plugins });
}

describe("pickerConfig", () => {
  it("is what plain Envoy ships where none is given, and stays as it is without a tick period of its own", () => {
    const shipped = readFileSync(new URL("../../envoy/plain/envoy.yaml", import.meta.url), "utf8");
    expect(shipped.replaceAll(/\s+/g, "")).toContain(pickerConfig({}));
    expect(JSON.parse(pickerConfig({ config: ' {"plugins":[]} ' }))).toEqual({ plugins: [] });
  });

  it("sets the period in the plugin that there is, or adds one", () => {
    const set = JSON.parse(pickerConfig({ config: settings({ tickMs: 5, fail: "closed" }), tickMs: 50 }));
    expect(set.plugins).toEqual([{ type: "epp-wasm-gateway", parameters: { tickMs: 50, fail: "closed" } }]);
    const added = JSON.parse(pickerConfig({ tickMs: 50 }));
    expect(added).toMatchObject({
      kind: "EndpointPickerConfig",
      plugins: [{ type: "epp-wasm-gateway", parameters: { tickMs: 50 } }],
    });
  });

  it("has the wishes of requests that bring none", () => {
    const wishes = { ttftMs: 4_000, tpotMs: 50 };
    const parameters = { sloTtftMs: 4_000, sloTpotMs: 50 };
    const added = JSON.parse(pickerConfig({ tickMs: 50, wishes }));
    expect(added.plugins).toEqual([
      { type: "epp-wasm-gateway", parameters: { decisionBytesMax: 1_048_576, tickMs: 50 } },
      { type: "epp-wasm-latency-picker", parameters },
    ]);
    const own = { type: "epp-wasm-latency-picker", parameters: { sloTtftMs: 1, contextPrice: 2 } };
    const set = JSON.parse(pickerConfig({ config: JSON.stringify({ plugins: [own] }), wishes }));
    expect(set.plugins).toEqual([{ ...own, parameters: { contextPrice: 2, ...parameters } }]);
  });
});

describe("runs under epp", () => {
  const seed = (Date.now() ^ process.pid) >>> 0;
  const runWith = (policy: Policy, runSeed: number, gateways = 2): Promise<RunRecord> =>
    run({
      replicas: fleetOf(REPLICAS),
      policy,
      workload: randomWorkload(seed, 150, 6),
      gateways,
      seed: runSeed,
    });

  it(`are equal for equal seeds, with several workers and gateways (seed ${seed})`, async () => {
    const policy = eppPolicy(eppOptions({ workers: 3, tickMs: 20 }));
    const [first, again, other] = [
      await runWith(policy, 4),
      await runWith(policy, 4),
      await runWith(policy, 5),
    ];
    expect(timeless(again)).toEqual(timeless(first));
    expect(first.requests.map(({ endpoint }) => endpoint)).not.toEqual(
      other.requests.map(({ endpoint }) => endpoint),
    );
    expect(first.requests.every(({ failure }) => failure === "")).toBe(true);
  });

  it("send the turns of a conversation where its prefix is", async () => {
    const turns = Array.from({ length: 12 }, (_, i) =>
      fleetRequest(i, 4000 * i, 0, 4, { spans: Array.from({ length: i + 1 }, (_, k) => span(k, 300)) }),
    );
    const policy = eppPolicy(eppOptions());
    const replicas = fleetOf(REPLICAS, { blockCount: 5001 });
    const record = await run({
      replicas,
      policy,
      workload: { name: "turns", requests: turns },
    });
    expect(new Set(record.requests.map(({ endpoint }) => endpoint)).size).toBe(1);
    expect(record.requests.slice(1).every(({ cachedTokens }) => cachedTokens > 0)).toBe(true);
  });

  it("survive a replica's death: what it had fails, what comes after is answered elsewhere", async () => {
    const events = [{ atMs: 300, kind: "fail" as const, replica: 1 }];
    const workload = { ...randomWorkload(3, 150, 6), events };
    const policy = eppPolicy(eppOptions({ workers: 2 }));
    const record = await run({ replicas: fleetOf(REPLICAS), policy, workload });
    const failures = record.requests.map(({ failure }) => failure).filter((failure) => failure !== "");
    expect(new Set(failures)).toEqual(new Set(["died"]));
    for (const { arrivalMs, endpoint } of record.requests) if (arrivalMs > 300) expect(endpoint).not.toBe(1);
  });

  it("show the filter a chunk every n tokens where that is asked for", async () => {
    const inner = eppPolicy(eppOptions({ chunkTokens: 2, maxTokens: false, name: "epp-chunks" }));
    let chunks = 0;
    const create = async (context: GatewayContext): Promise<Gateway> => {
      const gateway = (await inner.create(context)) as EppGateway;
      const tokens = gateway.tokens.bind(gateway);
      gateway.tokens = (...call) => {
        chunks++;
        tokens(...call);
      };
      return gateway;
    };
    const record = await runWith({ ...inner, create }, 4, 1);
    expect(record.policy).toBe("epp-chunks");
    expect(record.requests.every(({ failure }) => failure === "")).toBe(true);
    // The first token has a call of its own; every second one after it is a chunk.
    const expected = record.requests.reduce((sum, { outputTokens }) => sum + Math.floor(outputTokens / 2), 0);
    expect(chunks).toBe(expected);
  });
});

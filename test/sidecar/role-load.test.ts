// The load of pools and roles: what is added up, what is a mean, and what is not known.
import { describe, expect, it } from "vitest";
import { makeEndpoint, type EndpointInput } from "../../sidecar/discovery/endpoint.ts";
import {
  type RoleLoad,
  RoleLoads,
  SCALING_DEFAULTS,
  type ScalingSettings,
  type WatchedEndpoint,
  type WatchedPool,
} from "../../sidecar/role-load.ts";
import { emptyReading, type Reading } from "../../sidecar/scrape/reading.ts";
import { type GatewayStatus, readGatewayStatus } from "../../sidecar/serve/gateway-status.ts";

interface Given extends Partial<Omit<WatchedEndpoint, "description" | "reading">> {
  readonly role?: string;
  readonly draining?: boolean;
  readonly reading?: Partial<Reading>;
  /** Fields of GET /status. */
  readonly status?: object;
}

const addressOf = (index: number): string => `10.0.0.${index + 1}:8000`;

function watched({ role, draining, reading, status: _, ...rest }: Given, index: number): WatchedEndpoint {
  const input: EndpointInput = {
    address: `10.0.0.${index + 1}`,
    port: 8_000,
    ...(role === undefined ? {} : { labels: { "llm-d.ai/role": role } }),
    ...(draining === undefined ? {} : { draining }),
  };
  const description = makeEndpoint(input);
  if (typeof description === "string") throw new Error(description);
  return {
    description,
    usable: true,
    hasLoad: true,
    lastError: null,
    reading: { ...emptyReading(), ...reading },
    ...rest,
  };
}

function poolOf(given: readonly Given[], scaling: Partial<ScalingSettings> = {}): WatchedPool {
  return {
    name: "p",
    settings: { scaling: { ...SCALING_DEFAULTS, ...scaling } },
    monitors: new Map(given.map((one, index) => [addressOf(index), watched(one, index)])),
  };
}

function statusOf(given: readonly Given[], fields: object = { meanUncachedTokens: 1_000 }): GatewayStatus {
  const endpoints = given.flatMap(({ status }, index) =>
    status === undefined ? [] : [{ address: addressOf(index), ...status }],
  );
  return readGatewayStatus({ pools: [{ name: "p", ...fields, endpoints }], counters: {} });
}

function loadsOf(given: readonly Given[], scaling: Partial<ScalingSettings> = {}): Record<string, RoleLoad> {
  const loads = new RoleLoads().of(poolOf(given, scaling), statusOf(given));
  return Object.fromEntries(loads.map((load) => [load.role, load]));
}

describe("roles", () => {
  it("are those of the endpoints, and each endpoint counts in all of its own", () => {
    const loads = loadsOf([
      { role: "prefill", reading: { waiting: 3, running: 1 } },
      { role: "decode", reading: { waiting: 1, running: 7 } },
      { role: "prefill-decode", reading: { waiting: 10, running: 20 } },
      { reading: { waiting: 100, running: 200 } },
    ]);
    expect(Object.keys(loads)).toEqual(["all", "prefill", "decode"]);
    expect(loads["all"]).toMatchObject({ endpoints: 4, ready: 4, waiting: 114, running: 228 });
    expect(loads["prefill"]).toMatchObject({ endpoints: 2, waiting: 13, running: 21 });
    expect(loads["decode"]).toMatchObject({ endpoints: 3, waiting: 111, running: 227 });
  });

  it("of an empty pool are the pool alone, which is full", () => {
    expect(loadsOf([])).toMatchObject({
      all: { endpoints: 0, ready: 0, saturation: 1, waiting: Number.NaN },
    });
  });

  it("count endpoints that drain or do not answer among those known, not among the ready", () => {
    const loads = loadsOf([{ draining: true }, { usable: false, hasLoad: false }, {}]);
    expect(loads["decode"]).toMatchObject({ endpoints: 3, ready: 1 });
  });
});

describe("saturation", () => {
  const of = (given: readonly Given[], scaling: Partial<ScalingSettings> = {}): number =>
    loadsOf(given, scaling)["decode"]!.saturation;

  it.each<[string, Given[], number]>([
    ["is the queue over its threshold", [{ reading: { waiting: 4, kvUsage: 0 } }], 0.8],
    ["or the KV cache over its own, whichever is more", [{ reading: { waiting: 1, kvUsage: 0.6 } }], 0.75],
    ["passes 1 beyond them", [{ reading: { waiting: 15, kvUsage: 1 } }], 3],
    [
      "is the mean over endpoints",
      [{ reading: { waiting: 5 } }, { reading: { kvUsage: 0.4 } }, { reading: {} }],
      0.5,
    ],
    ["takes an endpoint without figures for full", [{ hasLoad: false }, { reading: {} }], 0.5],
    ["and one whose page failed", [{ lastError: new Error("x"), reading: {} }, { reading: {} }], 0.5],
    [
      "leaves out endpoints that drain or do not answer",
      [{ draining: true, reading: { waiting: 50 } }, { usable: false }, { reading: { waiting: 1 } }],
      0.2,
    ],
    ["is 1 where nothing is ready", [{ usable: false, reading: {} }], 1],
  ])("%s", (_, given, expected) => {
    expect(of(given)).toBeCloseTo(expected, 10);
  });

  it("has thresholds of its own", () => {
    const given = [{ reading: { waiting: 4, kvUsage: 0.5 } }];
    expect(of(given, { queueDepthThreshold: 2 })).toBe(2);
    expect(of(given, { queueDepthThreshold: 100, kvCacheUtilThreshold: 0.5 })).toBe(1);
  });
});

describe("what the gateway tells", () => {
  const RATES = { prefillTokensPerSecond: 10_000, prefillBaseMs: 20, tpotBaseMs: 8, tpotRequestMs: 0.5 };
  const idle = { inflightRequests: 0, inflightTokens: 0, foreignRequests: 0, ...RATES };

  it("is added up", () => {
    const loads = loadsOf([
      { role: "prefill", status: { inflightRequests: 2, inflightTokens: 900 } },
      { role: "prefill", status: { inflightRequests: 3, inflightTokens: 100 } },
      { role: "decode", status: { inflightRequests: 9, inflightTokens: 0 } },
      { role: "decode" },
    ]);
    expect(loads["prefill"]).toMatchObject({ inflightRequests: 5, uncachedTokens: 1_000 });
    expect(loads["decode"]).toMatchObject({ inflightRequests: 9, uncachedTokens: 0 });
    expect(loads["all"]).toMatchObject({ inflightRequests: 14, uncachedTokens: 1_000 });
  });

  it.each<[string, Given, number]>([
    ["idle: base and the mean request's prefill", { status: idle }, 20 + 100],
    ["tokens in flight before it", { status: { ...idle, inflightTokens: 5_000 } }, 20 + 500 + 100],
    [
      "requests of others that wait, by the engine's share of those that do",
      { status: { ...idle, foreignRequests: 4 }, reading: { waiting: 2, running: 6 } },
      20 + 100 + 100,
    ],
    [
      "and none where the engine has no requests",
      { status: { ...idle, foreignRequests: 4 }, reading: { waiting: 0, running: 0 } },
      20 + 100,
    ],
  ])("predicts the first token: %s", (_, given, expected) => {
    expect(loadsOf([given])["decode"]!.ttftMs).toBeCloseTo(expected, 10);
  });

  it("predicts the time between tokens from all requests in flight", () => {
    const status = { ...idle, inflightRequests: 6, foreignRequests: 2 };
    expect(loadsOf([{ status }])["decode"]!.tpotMs).toBeCloseTo(12, 10);
    expect(loadsOf([{ status }, { status: idle }])["decode"]!.tpotMs).toBeCloseTo(10, 10);
  });

  it("predicts from what was learnt alone, and from ready endpoints alone", () => {
    const unknown = { ...idle, prefillTokensPerSecond: null, prefillBaseMs: null, tpotBaseMs: null };
    const loads = loadsOf([{ status: unknown }]);
    expect(loads["decode"]).toMatchObject({ ttftMs: Number.NaN, tpotMs: Number.NaN });
    const late = { ...idle, inflightTokens: 1e6 };
    const mixed = loadsOf([{ status: unknown }, { status: idle }, { status: late, draining: true }]);
    expect(mixed["decode"]!.ttftMs).toBeCloseTo(120, 10);
  });

  it("keeps the mean request when another worker answers that knows none", () => {
    const given = [{ status: idle }];
    const [pool, loads] = [poolOf(given), new RoleLoads()];
    const ttft = (status: GatewayStatus | null): number => loads.of(pool, status)[0]!.ttftMs;
    expect(ttft(statusOf(given, {}))).toBeNaN();
    expect(ttft(statusOf(given))).toBeCloseTo(120, 10);
    expect(ttft(statusOf(given, { meanUncachedTokens: null }))).toBeCloseTo(120, 10);
    expect(ttft(null)).toBeNaN();
  });

  it("is not known while it does not answer", () => {
    const [load] = new RoleLoads().of(poolOf([{ reading: { waiting: 1 } }]), null);
    expect(load).toMatchObject({ waiting: 1, inflightRequests: Number.NaN, uncachedTokens: Number.NaN });
  });
});

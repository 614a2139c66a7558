// KV events in the whole sidecar: configuration, discovery, metrics, readiness, and what its sink hears.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { describe, expect, it } from "vitest";
import { type KvEventsConfig, kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import type { BlockSink, ReplicaKey } from "../../sidecar/kv-events/block-sink.ts";
import { PORT_LABEL, REPLAY_PORT_LABEL } from "../../sidecar/kv-events/labels.ts";
import type { DegradedReason } from "../../sidecar/kv-events/replica-state.ts";
import { send, startReplica } from "../sim/support/replica.ts";
import { endpointOf, portOf, startSidecar } from "./kv-events-sidecar.ts";
import { eventually, temporaryFolder } from "./servers.ts";

async function replicas(count: number, config: Partial<KvEventsConfig> = {}): Promise<SimulatedReplica[]> {
  const made: SimulatedReplica[] = [];
  for (let i = 0; i < count; i++) {
    made.push(await startReplica({ name: `replica-${i}`, kvEvents: kvEventsConfig(config) }));
  }
  return made;
}

/** Writes down what it hears. */
class Heard implements BlockSink {
  readonly texts: string[] = [];
  readonly states: string[] = [];
  cleared(replica: ReplicaKey): void {
    this.texts.push(`${replica.address} cleared`);
  }
  removed(): void {}
  stored(replica: ReplicaKey, { bytes, root }: Parameters<BlockSink["stored"]>[1], tier: string): void {
    this.texts.push(`${replica.address} ${tier} ${root.cacheSalt} ${Buffer.from(bytes).toString()}`);
  }
  state(replica: ReplicaKey, degraded: DegradedReason | null): void {
    this.states.push(`${replica.address} ${degraded}`);
  }
}

const FAST = { idleCheckMs: 100, replayTimeoutMs: 2_000 };
const PROMPT = "The router compares prefix caches: naïve café 日本語 😀. ".repeat(3);

describe("a pool with kvEvents", () => {
  it("follows every replica of its list, with token bytes learnt from the servers", async () => {
    const [one, two] = (await replicas(2)) as [SimulatedReplica, SimulatedReplica];
    await send(one, "/v1/completions", { prompt: PROMPT, max_tokens: 1, cache_salt: "s" });
    const sink = new Heard();
    const { get, sidecar } = await startSidecar(
      { discovery: { static: { endpoints: [one, two].map(endpointOf) } }, kvEvents: FAST },
      { blockSink: sink },
    );
    await eventually(
      "both were exact",
      () => new Set(sink.states.filter((state) => state.endsWith(" null"))).size === 2,
    );
    await send(two, "/v1/completions", { prompt: PROMPT, max_tokens: 1 });
    const textOf = (prefix: string): string =>
      sink.texts
        .filter((text) => text.startsWith(prefix))
        .map((text) => text.slice(prefix.length))
        .join("");
    const texts = (): string[] => [textOf(`${one.address} gpu s `), textOf(`${two.address} gpu null `)];
    await eventually("both told their blocks", () => texts().every((text) => text.length > 100));
    for (const text of texts()) {
      expect(PROMPT.startsWith(text.replace(/\uFFFD.*$/u, ""))).toBe(true);
    }
    const labels = `pool="default",endpoint="${two.address}",rank="0"`;
    const metrics = await eventually("its batch was counted", async () => {
      const page = await get("/metrics");
      return page.includes(`epp_kv_events_batches_total{${labels}} 1`) && page;
    });
    expect(metrics).toContain(`epp_kv_events_exact{${labels}} 1`);
    expect(metrics).toContain(`epp_kv_events_total{${labels},event="stored"} 1`);
    expect(metrics).toMatch(/epp_kv_events_replays_total\{[^}]*\} [1-9]/);
    expect(metrics).toMatch(/epp_kv_events_blocks\{[^}]*\} [1-9]/);
    expect(metrics).toMatch(/epp_kv_events_known_tokens\{pool="default"\} [1-9]/);
    expect(metrics).not.toContain("epp_kv_events_degraded{");
    await eventually("nothing was amiss", () => sidecar.readiness().reasons.length === 0);
    expect(JSON.parse(await get("/readyz"))).toMatchObject({ status: "ready", reasons: [] });
    // What came by a replay, as the first batch may have, has no lag.
    let prompts = 0;
    await eventually("the lag of a live batch was told", async () => {
      await send(two, "/v1/completions", { prompt: `${(prompts += 1)} ${PROMPT}`, max_tokens: 1 });
      return (await get("/metrics")).includes(`epp_kv_events_lag_seconds{${labels}} `);
    });
  });

  it("says which views are not exact, and why; the pool stays ready", async () => {
    const [one] = (await replicas(1, { bufferSteps: 1 })) as [SimulatedReplica];
    for (const i of [1, 2, 3])
      await send(one, "/v1/completions", { prompt: `${i} ${PROMPT}`, max_tokens: 1 });
    const gone = { address: "127.0.0.1", port: 1, labels: { [PORT_LABEL]: "2", [REPLAY_PORT_LABEL]: "bad" } };
    const { get, log, sidecar } = await startSidecar({
      discovery: { static: { endpoints: [endpointOf(one), gone] } },
      kvEvents: { ...FAST, replayPort: 5_600 },
    });
    const reason =
      "pool default: the KV caches of 2 of 2 engines are not known exactly: starting (1), history-lost (1)";
    await eventually("it said so, and the gateway had its snapshot", () => {
      const { ready, reasons } = sidecar.readiness();
      return ready && reasons.includes(reason);
    });
    expect(JSON.parse(await get("/readyz"))).toMatchObject({ ready: true, status: "degraded" });
    const metrics = await get("/metrics");
    expect(metrics).toMatch(/epp_kv_events_degraded\{[^}]*reason="history-lost"\} 1/);
    expect(metrics).toMatch(/epp_kv_events_exact\{[^}]*\} 0/);
    expect(log.some(({ msg }) => String(msg).includes(`label ${REPLAY_PORT_LABEL}: "bad"`))).toBe(true);
  });

  it("clears a replica that leaves the list, and follows one by its rank alone", async () => {
    const replica = await startReplica({ kvEvents: kvEventsConfig(), dataParallelSize: 2 });
    const second = replica.kvEvents!.sources[1]!;
    // Ports count from rank 0's; these are rank 1's own.
    const labels = {
      [PORT_LABEL]: String(Number(portOf(second.endpoint)) - 1),
      [REPLAY_PORT_LABEL]: String(Number(portOf(second.replayEndpoint)) - 1),
    };
    const folder = temporaryFolder();
    const path = join(folder, "endpoints.yaml");
    const [address, port] = replica.address.split(":");
    const list = (endpoints: object[]): void => writeFileSync(path, stringify({ endpoints }));
    list([{ name: "r", address, port, rank: 1, labels }]);
    const sink = new Heard();
    const { sidecar } = await startSidecar(
      { discovery: { file: { path } }, kvEvents: { ...FAST, ranks: 4 } },
      { blockSink: sink },
    );
    const headers = { "x-data-parallel-rank": "1" };
    await send(replica, "/v1/completions", { prompt: PROMPT, max_tokens: 1 }, headers);
    await eventually("its blocks were told", () => sink.texts.some((text) => text.includes("router")));
    expect([...sidecar.pools[0]!.kvEvents!.engines].map(({ replica: key }) => key.rank)).toEqual([1]);
    list([]);
    await eventually("it was cleared", () => sink.texts.at(-1) === `${replica.address} cleared`);
    expect([...sidecar.pools[0]!.kvEvents!.engines]).toEqual([]);
  });

  it("follows all ranks of an endpoint that has none", async () => {
    const { sidecar } = await startSidecar({
      discovery: { static: { endpoints: ["127.0.0.1:1"] } },
      kvEvents: { ranks: 3, port: 41_000, replayPort: 41_003 },
    });
    expect([...sidecar.pools[0]!.kvEvents!.engines].map(({ replica: key }) => key.rank)).toEqual([0, 1, 2]);
  });
});

describe("a pool without kvEvents", () => {
  it("has no metric of them", async () => {
    const { get, sidecar } = await startSidecar({ discovery: { static: { endpoints: [] } } });
    expect(sidecar.pools[0]!.kvEvents).toBeNull();
    expect(await get("/metrics")).not.toMatch(/^epp_kv_events\w*(\{| \d)/m);
  });
});

describe("the configuration", () => {
  const load = (kvEvents: object): ReturnType<typeof loadSettings> => {
    const config = join(temporaryFolder(), "sidecar.yaml");
    const pools = [{ name: "p", discovery: { static: { endpoints: [] } }, kvEvents }];
    writeFileSync(config, stringify({ control: { socket: "/run/s" }, pools }));
    return loadSettings({ config }, {});
  };

  it("has vLLM's port, all topics, one rank and no replay by default", () => {
    expect(load({}).pools[0]!.kvEvents).toEqual({
      port: 5_557,
      replayPort: null,
      topic: "",
      ranks: 1,
      tokenizerPath: null,
      replayTimeoutMs: 2_000,
      idleCheckMs: 5_000,
      promptCheckMs: 600_000,
      blocksMax: 262_144,
    });
  });

  it.each([
    ["port", { port: 0 }, "pools[0].kvEvents.port: 0: expected a port number, 1 to 65535"],
    ["ranks", { ranks: 65 }, "pools[0].kvEvents.ranks: 65: expected at most 64"],
    [
      "replayPort",
      { ranks: 2, replayPort: 5_558 },
      "expected ports and replay ports of all ranks to be different",
    ],
    ["last port", { ranks: 2, port: 65_535 }, "expected the last rank's ports to be at most 65535"],
    ["blocksMax", { blocksMax: 0 }, "pools[0].kvEvents.blocksMax: 0: expected at least 1"],
    ["idleCheckMs", { idleCheckMs: 5 }, "pools[0].kvEvents.idleCheckMs: 5: expected at least 100"],
    ["field", { endpoint: "x" }, 'pools[0].kvEvents: unknown field "endpoint"'],
  ])("names a bad %s", (_, kvEvents, message) => {
    expect(() => load(kvEvents)).toThrow(message);
  });

  it("is refused when the tokenizer cannot be read", () => {
    expect(() => new Sidecar(load({ tokenizer: "/nowhere/tokenizer.json" }))).toThrow(
      'cannot read tokenizer "/nowhere/tokenizer.json"',
    );
  });
});

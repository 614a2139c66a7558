// The exact index over several workers on simulated time: who follows, who is late, what is lost, and what is found again.
import { beforeAll, describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/kv-deltas.ts";
import { CELL_AT_HEARTBEAT, CELL_AT_OWNER } from "../../assembly/wire/cell.ts";
import { WORKERS_MAX } from "../../assembly/wire/limits.ts";
import { buildWasm } from "../../scripts/build.mjs";
import { cellKeys, KvSource, mixPair } from "../envoy/kv-batches.ts";
import { type Answer, POOL, startKvGateway } from "./kv-gateway.ts";
import { seededRandom, testSeed } from "./support.ts";

beforeAll(async () => void (await buildWasm()), 240_000);

type KvGateway = Awaited<ReturnType<typeof startKvGateway>>;

const KEYS = cellKeys("what an engine holds. ".repeat(200));
const TICK_MS = 5;
const IDLE_MS = 1_200;

/** Exact, degraded or unknown and this worker's entries, of each endpoint. */
const slots = (gateway: KvGateway, worker = 0): [string, number | null][] =>
  gateway.status(worker).pools[0]!.endpoints.map(({ kv, kvEntries }) => [kv, kvEntries]);
const wanted = ({ text }: Answer): number[] => (JSON.parse(text) as { wanted: number[] }).wanted;

/** Pushes all batches, waiting while they are held back. Returns the last answer. */
function pushAll(gateway: KvGateway, batches: readonly Buffer[]): Answer {
  let answer: Answer = { status: 0, text: "" };
  for (const batch of batches) {
    for (answer = gateway.push(batch); answer.status === 503; answer = gateway.push(batch))
      gateway.clock.advance(TICK_MS);
    expect(answer).toMatchObject({ status: 200 });
  }
  return answer;
}

/** A gateway all of whose workers hold KEYS of slot 0 exactly, and nothing of slot 1. */
async function following(workers: number): Promise<{ gateway: KvGateway; source: KvSource }> {
  const gateway = await startKvGateway(workers);
  for (let worker = 0; worker < workers; worker++) gateway.open(worker);
  const source = new KvSource(77n);
  pushAll(gateway, source.store(0, KEYS).copy(0).exact(0).exact(1).batches());
  gateway.clock.advance(4 * TICK_MS);
  for (let worker = 0; worker < workers; worker++) {
    expect(slots(gateway, worker)).toEqual([
      ["exact", KEYS.length],
      ["exact", 0],
    ]);
  }
  return { gateway, source };
}

describe("index batches", () => {
  it("make all workers exact, and changes reach them all", async () => {
    const { gateway, source } = await following(3);
    expect(gateway.status().pools[0]!.kvIndex).toEqual({
      sequence: 1,
      appliedSequence: 1,
      workers: 3,
      entries: KEYS.length,
      exactEndpoints: 2,
      wantedEndpoints: 0,
    });
    // The main thread's VM and the canaries have no streams: nobody waits for them.
    const positions = gateway.host.sharedData.keys("epp").filter((key) => key.startsWith("epp1/kvat/"));
    expect(positions).toEqual(["epp1/kvat/0", "epp1/kvat/1", "epp1/kvat/2"]);
    const answer = pushAll(
      gateway,
      source.remove(0, KEYS.slice(7)).store(1, KEYS.slice(0, 3)).exact(0).exact(1).batches(),
    );
    expect(JSON.parse(answer.text)).toEqual({ sequence: 2, wanted: [] });
    gateway.clock.advance(4 * TICK_MS);
    for (const worker of [0, 1, 2]) {
      expect(slots(gateway, worker)).toEqual([
        ["exact", 7],
        ["exact", 3],
      ]);
    }
    pushAll(gateway, source.degraded(1).batches());
    gateway.clock.advance(4 * TICK_MS);
    expect(slots(gateway)).toEqual([
      ["exact", 7],
      ["degraded", 3],
    ]);
    gateway.host.close();
  });

  it("that come again are answered and not applied again; others out of turn, and of unknown sessions, are refused", async () => {
    const { gateway, source } = await following(1);
    const batch = source.store(1, KEYS.slice(0, 5)).exact(1).batch();
    expect(gateway.push(batch).status).toBe(200);
    expect(JSON.parse(gateway.push(batch).text)).toEqual({ sequence: 2, wanted: [] });
    gateway.clock.advance(IDLE_MS);
    expect(gateway.status().counters["kvBatchesApplied"]).toBe(2);
    source.batch();
    const skipped = gateway.push(source.batch());
    expect([skipped.status, JSON.parse(skipped.text).error.field]).toEqual([409, "sequence"]);
    const other = new KvSource(78n);
    other.batch();
    const unknown = gateway.push(other.batch());
    expect([unknown.status, JSON.parse(unknown.text).error.field]).toEqual([409, "session"]);
    expect(slots(gateway)[1]).toEqual(["exact", 5]);
    gateway.host.close();
  });

  it("are refused whole with the field's name, and beyond 64 KiB with 413", async () => {
    const gateway = await startKvGateway(1);
    const bad = new KvSource().exact(0).batch();
    bad[70] = 1;
    const { status, text } = gateway.push(bad);
    expect([status, JSON.parse(text).error.field]).toEqual([400, "checksum"]);
    expect(gateway.push(Buffer.alloc(wire.KV_BATCH_BYTES_MAX + 1)).status).toBe(413);
    expect(gateway.push(new KvSource().batch(), "p".repeat(254)).status).toBe(400);
    for (let i = 1; i < 16; i++) expect(gateway.push(new KvSource().batch(), `pool-${i}`).status).toBe(200);
    expect(gateway.push(new KvSource().batch(), "pool-16").status).toBe(507);
    gateway.host.close();
  });

  it("of another session void what was told before", async () => {
    const { gateway } = await following(2);
    const next = new KvSource(79n);
    pushAll(gateway, next.store(1, KEYS.slice(0, 9)).copy(1).exact(1).batches());
    gateway.clock.advance(4 * TICK_MS);
    for (const worker of [0, 1]) {
      expect(slots(gateway, worker)).toEqual([
        ["unknown", 0],
        ["exact", 9],
      ]);
    }
    expect(wanted(gateway.push(next.batch()))).toEqual([0]);
    gateway.host.close();
  });

  it("are held back while a worker is a ring behind, and go on when it has read", async () => {
    const { gateway, source } = await following(2);
    const push = (): number =>
      gateway.push(source.store(0, KEYS.slice(0, 1), 0, () => 1 + source.sequence).batch()).status;
    // No time passes, so no worker's tick comes.
    for (let i = 0; i < wire.KV_SEGMENTS; i++) expect(push()).toBe(200);
    const before = source.sequence;
    expect(push()).toBe(503);
    source.sequence = before;
    gateway.clock.advance(4 * TICK_MS);
    expect(push()).toBe(200);
    gateway.clock.advance(4 * TICK_MS);
    expect(gateway.push(source.exact(0).batch()).status).toBe(200);
    gateway.clock.advance(4 * TICK_MS);
    expect(slots(gateway, 1)[0]).toEqual(["exact", KEYS.length]);
    gateway.clock.advance(IDLE_MS);
    expect(gateway.status().counters).toMatchObject({ kvBatchesHeld: 1, kvOverruns: 0, kvDrifts: 0 });
    gateway.host.close();
  });

  it("that stop coming leave no row exact for longer than 3 s, and one that goes on makes them exact again", async () => {
    const { gateway, source } = await following(2);
    gateway.clock.advance(wire.KV_SILENT_MS - 100);
    expect(slots(gateway)[0]).toEqual(["exact", KEYS.length]);
    gateway.clock.advance(300);
    for (const worker of [0, 1]) {
      expect(slots(gateway, worker)).toEqual([
        ["degraded", KEYS.length],
        ["degraded", 0],
      ]);
    }
    expect(wanted(gateway.push(source.store(0, KEYS.slice(0, 2), 1).exact(0).exact(1).batch()))).toEqual([]);
    gateway.clock.advance(200);
    expect(slots(gateway, 1)).toEqual([
      ["exact", KEYS.length],
      ["exact", 0],
    ]);
    gateway.host.close();
  });

  it("of a pool whose name looks like another's batch do not mix with them", async () => {
    const gateway = await startKvGateway(1);
    gateway.open(0);
    gateway.pushPool({}, "1/pool");
    const [a, b] = [new KvSource(5n), new KvSource(6n)];
    gateway.push(a.store(0, KEYS).copy(0).exact(0).batch());
    gateway.push(b.copy(0).exact(0).batch(), "1/pool");
    gateway.clock.advance(60);
    expect(gateway.status().pools.map(({ endpoints }) => endpoints[0])).toMatchObject([
      { kv: "exact", kvEntries: KEYS.length },
      { kv: "exact", kvEntries: 0 },
    ]);
    gateway.host.close();
  });
});

describe("a worker", () => {
  it("that starts late wants all rows, and is complete within 2 s with a million entries", async () => {
    const { gateway, source } = await following(2);
    const [first, second] = [0, 1].map((slot) =>
      Array.from({ length: 499_000 }, (_, i) => mixPair(BigInt(slot + 1), BigInt(i + 1))),
    ) as [bigint[], bigint[]];
    pushAll(gateway, source.store(0, first).store(1, second).exact(0).exact(1).batches());
    gateway.clock.advance(IDLE_MS);
    expect(slots(gateway, 1)).toEqual([
      ["exact", 499_000 + KEYS.length],
      ["exact", 499_000],
    ]);
    const late = await startLate(gateway);
    expect(late.wanted).toEqual([0, 1]);
    const startedMs = gateway.clock.monotonicMs();
    const answer = pushAll(gateway, source.copy(0).exact(0).copy(1).exact(1).batches());
    expect(answer.status).toBe(200);
    for (let i = 0; i < 400 && slots(gateway, late.worker)[1]![1] !== 499_000; i++)
      gateway.clock.advance(TICK_MS);
    gateway.clock.advance(2 * TICK_MS);
    expect(gateway.clock.monotonicMs() - startedMs).toBeLessThan(2_000);
    expect(slots(gateway, late.worker)).toEqual([
      ["exact", 499_000 + KEYS.length],
      ["exact", 499_000],
    ]);
    expect(gateway.status().counters).toMatchObject({ kvOverruns: 0, kvDrifts: 0 });
    gateway.host.close();

    /** Kills worker 1, whose fresh VM starts with its next request. */
    async function startLate(gateway: KvGateway): Promise<{ worker: number; wanted: number[] }> {
      gateway.host.faults.trapAt("proxy_on_request_headers", 1, 1);
      gateway.open(1);
      gateway.clock.advance(1_100);
      gateway.open(1);
      // The dead one's position lapses.
      gateway.clock.advance(wire.KV_LAPSE_MS);
      return { worker: 1, wanted: wanted(gateway.push(source.batch())) };
    }
  }, 120_000);

  it("that died is waited for until its heartbeat lapses, and no longer", async () => {
    const { gateway, source } = await following(2);
    gateway.host.faults.trapAt("proxy_on_tick", 1, 1);
    gateway.clock.advance(2 * TICK_MS);
    for (let i = 0; i < wire.KV_SEGMENTS; i++) expect(gateway.push(source.batch()).status).toBe(200);
    const held = source.batch();
    gateway.clock.advance(1_000);
    expect(gateway.push(held).status).toBe(503);
    gateway.clock.advance(wire.KV_LAPSE_MS);
    expect(gateway.push(held).status).toBe(200);
    gateway.host.close();
  });

  it("whose batch was lost on the way sees it, wants its rows, and is exact again after a copy", async () => {
    const { gateway, source } = await following(2);
    gateway.push(source.store(0, KEYS.slice(0, 4), 1).batch());
    const place = `epp1/kv/${source.sequence % wire.KV_SEGMENTS}/${POOL}`;
    const lost = Buffer.from(gateway.shared(place)!);
    lost[80] = lost[80]! ^ 1;
    gateway.setShared(place, lost);
    gateway.clock.advance(4 * TICK_MS);
    expect(wanted(gateway.push(source.batch()))).toEqual([0, 1]);
    expect(slots(gateway)).toEqual([
      ["unknown", 0],
      ["unknown", 0],
    ]);
    pushAll(gateway, source.copy(0).exact(0).copy(1).exact(1).batches());
    gateway.clock.advance(4 * TICK_MS);
    expect(slots(gateway, 1)).toEqual([
      ["exact", KEYS.length],
      ["exact", 0],
    ]);
    gateway.clock.advance(IDLE_MS);
    expect(gateway.status().counters["kvOverruns"]).toBe(2);
    gateway.host.close();
  });

  it("that has drifted is found by the digest, and only that row is wanted", async () => {
    const { gateway, source } = await following(2);
    source.of(0).delete(KEYS[9]!);
    gateway.push(source.exact(0).exact(1).batch());
    gateway.clock.advance(4 * TICK_MS);
    expect(wanted(gateway.push(source.batch()))).toEqual([0]);
    pushAll(gateway, source.copy(0).exact(0).batches());
    gateway.clock.advance(4 * TICK_MS);
    expect(slots(gateway, 1)[0]).toEqual(["exact", KEYS.length - 1]);
    gateway.clock.advance(IDLE_MS);
    expect(gateway.status().counters["kvDrifts"]).toBe(2);
    gateway.host.close();
  });

  it("forgets an endpoint of another generation at once, and wants it anew", async () => {
    const { gateway, source } = await following(1);
    gateway.pushPool({ generation: 2 });
    gateway.clock.advance(4 * TICK_MS);
    expect(slots(gateway)).toEqual([
      ["unknown", 0],
      ["unknown", 0],
    ]);
    expect(wanted(gateway.push(source.batch()))).toEqual([0, 1]);
    const next = new KvSource(80n, () => 2);
    pushAll(gateway, next.store(0, KEYS).copy(0).exact(0).batches());
    gateway.clock.advance(4 * TICK_MS);
    expect(slots(gateway)[0]).toEqual(["exact", KEYS.length]);
    gateway.host.close();
  });

  it("without streams ticks slowly, and fast while it has a backlog", async () => {
    const gateway = await startKvGateway(1);
    gateway.open(0).reset();
    gateway.clock.advance(2 * IDLE_MS);
    const source = new KvSource(81n);
    for (let i = 1; i <= 400_000; i++) {
      const key = mixPair(3n, BigInt(i));
      source.of(0).set(key, { key, tokens: 1, tier: wire.KV_TIER_GPU });
    }
    const startedMs = gateway.clock.monotonicMs();
    const batches = source.copy(0).exact(0).batches();
    pushAll(gateway, batches);
    // 32 batches fit before the first tick; at the slow pace of 100 ms the other 42 would take as many rings of it.
    expect(batches.length).toBeGreaterThan(2 * wire.KV_SEGMENTS);
    expect(gateway.clock.monotonicMs() - startedMs).toBeLessThan(200);
    gateway.clock.advance(100);
    expect(slots(gateway)[0]).toEqual(["exact", 400_000]);
    gateway.host.close();
  });

  it("without a cell follows too, and is neither asked nor waited for", async () => {
    const gateway = await startKvGateway(2);
    gateway.open(0);
    for (let n = 1; n < WORKERS_MAX; n++) {
      const other = Buffer.from(gateway.shared("epp1/cell/0")!);
      other.writeBigUInt64LE(BigInt(1_000 + n), CELL_AT_OWNER);
      other.writeBigUInt64LE(1n << 60n, CELL_AT_HEARTBEAT);
      gateway.setShared(`epp1/cell/${n}`, other);
    }
    gateway.open(1);
    const source = new KvSource(82n);
    pushAll(gateway, source.store(0, KEYS).copy(0).exact(0).batches());
    gateway.clock.advance(4 * TICK_MS);
    const { pools } = gateway.status(1);
    expect(pools[0]!.kvIndex["workers"]).toBe(1);
    expect(pools[0]!.endpoints[0]).toMatchObject({ kv: "exact", kvEntries: KEYS.length });
    gateway.host.close();
  });

  it("agrees with its source whatever comes, is lost or restarts", async () => {
    const seed = testSeed();
    const next = seededRandom(seed);
    const below = (limit: number): number => Math.floor(next() * limit);
    const { gateway, source } = await following(3);
    const told = () => pushAll(gateway, source.exact(0).exact(1).batches());
    for (let round = 0; round < 60; round++) {
      for (let i = below(8); i >= 0; i--) {
        const [slot, from] = [below(2), below(KEYS.length)];
        const some = KEYS.slice(from, from + below(40));
        if (next() < 0.6) source.store(slot, some, below(3), () => 1 + below(9_999));
        else source.remove(slot, some);
      }
      const batches = source.batches();
      pushAll(gateway, batches);
      if (next() < 0.2) {
        const place = `epp1/kv/${source.sequence % wire.KV_SEGMENTS}/${POOL}`;
        gateway.setShared(place, Buffer.from("not a batch"));
      }
      if (next() < 0.1) {
        gateway.host.faults.trapAt("proxy_on_request_headers", 1, 2);
        gateway.open(2);
        gateway.clock.advance(1_100);
        gateway.open(2);
      }
      gateway.clock.advance(below(4) * TICK_MS);
      told();
      gateway.clock.advance(120);
      for (let tries = 0, lacking = wanted(told()); lacking.length > 0; lacking = wanted(told())) {
        expect(++tries, `seed ${seed}, round ${round}`).toBeLessThan(4);
        for (const slot of lacking) source.copy(slot).exact(slot);
        pushAll(gateway, source.batches());
        gateway.clock.advance(120);
      }
      for (const worker of [0, 1, 2]) {
        const expected = [0, 1].map((slot) => ["exact", source.of(slot).size]);
        expect(slots(gateway, worker), `seed ${seed}, round ${round}, worker ${worker}`).toEqual(expected);
      }
    }
    gateway.host.close();
  }, 240_000);
});

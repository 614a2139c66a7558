// Batches of index changes on a real gateway: exact in all workers, refused, held back, drifted and repaired.
import { afterEach, describe, expect, it } from "vitest";
import { KV_BATCH_BYTES_MAX, KV_CELL_BYTES, KV_SEGMENTS } from "../../assembly/wire/kv-deltas.ts";
import { random } from "../unit/support/random.ts";
import { send } from "./clients.ts";
import { type ControlReply, ENVOY_VERSIONS, type Gateway, POOL, startGateway, until } from "./harness.ts";
import { cellKeys, KvSource } from "./kv-batches.ts";
import type { Status } from "./status.ts";
import { settings } from "./support.ts";
import { held } from "./upstream.ts";

const WORKERS = 2;
const KEYS = cellKeys("what an engine holds. ".repeat(200));
const PATH = `/v1/pools/${POOL}/kv`;
/** More than half of what a worker with requests in flight applies at one tick (assembly/filter/kv-follow.ts). */
const CELLS_OF_A_TICK = 5_000;
/** Batches until one has to be held back. */
const PUSHES_MAX = 20 * KV_SEGMENTS;

interface KvPool {
  readonly name: string;
  readonly kvIndex: {
    readonly sequence: number;
    readonly appliedSequence: number;
    readonly workers: number;
    readonly entries: number;
    readonly exactEndpoints: number;
    readonly wantedEndpoints: number;
  };
  readonly endpoints: readonly { readonly kv: string; readonly kvEntries: number | null }[];
}

describe.each(ENVOY_VERSIONS)("index batches on Envoy %s", (version) => {
  let gateway: (Gateway & { stop(): Promise<void> }) | undefined;
  afterEach(async () => {
    await gateway?.stop();
    gateway = undefined;
  });

  /** A gateway with two replicas, all of whose workers have had a request and so follow the index. */
  async function start(parameters: Record<string, unknown> = {}): Promise<Gateway> {
    const pluginConfig = settings(parameters);
    gateway = await startGateway(version, { replicas: 2, concurrency: WORKERS, pluginConfig });
    await until("every worker has had a request", async () => {
      await send(gateway!.url, { path: "/v1/completions", body: { model: "test-model", prompt: "p" } });
      return (await poolOf(gateway!)).kvIndex.workers === WORKERS;
    });
    return gateway;
  }
  const poolOf = async (of: Gateway): Promise<KvPool> => {
    const { pools } = await of.status<{ pools: KvPool[] }>();
    return pools.find(({ name }) => name === POOL)!;
  };
  const push = (of: Gateway, batch: Buffer): Promise<ControlReply> => of.control("POST", PATH, batch);
  const wanted = ({ text }: ControlReply): number[] => (JSON.parse(text) as { wanted: number[] }).wanted;

  const applied = (of: Gateway): Promise<boolean> =>
    until("all workers have applied all", async () => {
      const { kvIndex } = await poolOf(of);
      return kvIndex.appliedSequence === kvIndex.sequence;
    });

  /** Pushes all, again while they are held back; returns the last answer once all workers have applied it. */
  async function pushAll(of: Gateway, batches: readonly Buffer[]): Promise<ControlReply> {
    let reply: ControlReply = { status: 0, text: "" };
    for (const batch of batches) {
      reply = await until("the batch is taken", async () => {
        const answer = await push(of, batch);
        return answer.status !== 503 && answer;
      });
      expect(reply.status, reply.text).toBe(200);
    }
    await applied(of);
    return reply;
  }

  it("make every worker exact; what changes then reaches them all, and the metrics say so", async () => {
    const of = await start();
    const source = new KvSource(11n);
    await pushAll(of, source.store(0, KEYS).copy(0).exact(0).copy(1).exact(1).batches());
    expect((await poolOf(of)).kvIndex).toEqual({
      sequence: 1,
      appliedSequence: 1,
      workers: WORKERS,
      entries: KEYS.length,
      exactEndpoints: 2,
      wantedEndpoints: 0,
    });
    await pushAll(of, source.remove(0, KEYS.slice(5)).exact(0).degraded(1).batches());
    const { kvIndex, endpoints } = await poolOf(of);
    expect(kvIndex).toMatchObject({ entries: 5, exactEndpoints: 1, wantedEndpoints: 0 });
    expect(endpoints.map(({ kv }) => kv)).toEqual(["exact", "degraded"]);
    expect(endpoints[0]!.kvEntries).toBe(5);
    await until("the metrics follow", async () => {
      const exact = await of.metric("epp_kv_exact_endpoints", { pool: POOL });
      return exact === 1 && (await of.metric("epp_kv_entries")) === 5;
    });
    await until("batches are counted", async () => (await of.metric("epp_kv_batches_total")) === 2 * WORKERS);
  });

  it("are refused whole: bad ones with the field, large ones, those of unknown sessions", async () => {
    const of = await start();
    const source = new KvSource(12n);
    const bad = source.store(0, KEYS).copy(0).exact(0).batch();
    bad[100] = bad[100]! ^ 1;
    const refused = await push(of, bad);
    expect([refused.status, JSON.parse(refused.text).error.field]).toEqual([400, "checksum"]);
    await until("the refusal is logged", () => of.envoy.log().includes("index batch refused: checksum"));
    expect((await push(of, Buffer.alloc(KV_BATCH_BYTES_MAX + 1))).status).toBe(413);
    expect((await of.control("GET", PATH)).status).toBe(404);
    expect((await push(of, source.exact(0).batch())).status, "the second of a session").toBe(409);
    expect((await poolOf(of)).kvIndex).toMatchObject({ sequence: 0, exactEndpoints: 0, entries: 0 });
  });

  it("are held back when they come faster than the workers apply them, and none is lost", async () => {
    // The control listener's ticks are left, ten a second. At each a worker with a request in flight applies one batch.
    const of = await start({ tickMs: 1000 });
    const source = new KvSource(13n);
    await pushAll(of, source.copy(0).exact(0).batches());
    const hold = held();
    for (const replica of of.replicas) {
      replica.forget();
      replica.behave(hold.behaviour);
    }
    const waiting = send(of.url, { path: "/v1/completions", body: { model: "test-model", prompt: "held" } });
    await until("a request in flight", () => of.replicas.some(({ received }) => received.length > 0));
    const keys = cellKeys(Buffer.alloc(CELLS_OF_A_TICK * KV_CELL_BYTES, "what an engine holds. "));
    let heldBack = 0;
    for (let i = 0; heldBack === 0 && i < PUSHES_MAX; i++) {
      const batch = source.store(0, keys, 0, (cell) => cell + 1 + i).batch();
      while ((await push(of, batch)).status === 503) heldBack++;
    }
    hold.release();
    expect((await waiting).status).toBe(200);
    await applied(of);
    const reply = await pushAll(of, source.exact(0).batches());
    expect(JSON.parse(reply.text)).toEqual({ sequence: source.sequence, wanted: [1] });
    expect((await poolOf(of)).endpoints[0]).toMatchObject({ kv: "exact", kvEntries: keys.length });
    expect(heldBack).toBeGreaterThan(0);
    await until("the workers' counters are known", async () => {
      const { counters } = await of.status<Status>();
      return counters["kvBatchesHeld"] === heldBack;
    });
    expect((await of.status<Status>()).counters).toMatchObject({ kvOverruns: 0, kvDrifts: 0 });
  });

  it("whose digest tells of a drift are answered with the slot, and a copy repairs it", async () => {
    const of = await start();
    const source = new KvSource(14n);
    await pushAll(of, source.store(0, KEYS).copy(0).exact(0).copy(1).exact(1).batches());
    source.of(0).delete(KEYS[3]!);
    await pushAll(of, source.exact(0).exact(1).batches());
    expect(wanted(await pushAll(of, source.batches()))).toEqual([0]);
    expect((await poolOf(of)).endpoints.map(({ kv }) => kv)).toEqual(["unknown", "exact"]);
    await pushAll(of, source.copy(0).exact(0).batches());
    expect((await poolOf(of)).endpoints[0]).toMatchObject({ kv: "exact", kvEntries: KEYS.length - 1 });
  });

  it("void what another session told, and what belongs to another generation", async () => {
    const of = await start();
    const source = new KvSource(15n);
    await pushAll(of, source.store(0, KEYS).copy(0).exact(0).copy(1).exact(1).batches());
    await of.push({ generation: 2 });
    await until("nothing is exact", async () => (await poolOf(of)).kvIndex.wantedEndpoints === 2);
    expect(wanted(await push(of, source.batch()))).toEqual([0, 1]);
    const next = new KvSource(16n, () => 2);
    await pushAll(of, next.store(1, KEYS.slice(0, 4)).copy(1).exact(1).batches());
    const { endpoints } = await poolOf(of);
    expect(endpoints.map(({ kv }) => kv)).toEqual(["unknown", "exact"]);
  });

  it("agree with a map after random stores and removals while requests go through", async () => {
    const { seed, next } = random();
    const below = (limit: number): number => Math.floor(next() * limit);
    const of = await start();
    const source = new KvSource(17n);
    await pushAll(of, source.copy(0).exact(0).copy(1).exact(1).batches());
    for (let round = 0; round < 25; round++) {
      for (let i = below(30); i >= 0; i--) {
        const [slot, from] = [below(2), below(KEYS.length)];
        const some = KEYS.slice(from, from + 1 + below(20));
        if (next() < 0.6) source.store(slot, some, below(3), () => 1 + below(9_999));
        else source.remove(slot, some);
      }
      const requests = [1, 2, 3].map((i) =>
        send(of.url, { path: "/v1/completions", body: { model: "test-model", prompt: `${round} ${i}` } }),
      );
      await pushAll(of, source.exact(0).exact(1).batches());
      for (const { status } of await Promise.all(requests)) expect(status).toBe(200);
      const { kvIndex, endpoints } = await poolOf(of);
      expect(kvIndex, `seed ${seed}, round ${round}`).toMatchObject({
        exactEndpoints: 2,
        entries: source.of(0).size + source.of(1).size,
      });
      const held = endpoints.map(({ kvEntries }) => kvEntries);
      expect(held, `seed ${seed}, round ${round}`).toEqual([source.of(0).size, source.of(1).size]);
    }
  });
});

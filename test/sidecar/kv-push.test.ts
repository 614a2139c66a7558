// The exact index on its way to the gateway: sessions, lost answers, back-pressure, wanted slots, limits, and the whole sidecar.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { describe, expect, it, onTestFinished } from "vitest";
import { kvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import type { SimulatedReplica } from "../../host-sim/model-server/server.ts";
import { Sidecar } from "../../sidecar/app.ts";
import { loadSettings } from "../../sidecar/config/load.ts";
import type { BlockHash } from "../../sidecar/kv-events/events.ts";
import type { SlotPlace } from "../../sidecar/kv-index/batch-writer.ts";
import { EntryBudget } from "../../sidecar/kv-index/entry-budget.ts";
import { KvIndex } from "../../sidecar/kv-index/kv-index.ts";
import { KvPush, type SnapshotsTaken } from "../../sidecar/kv-index/kv-push.ts";
import { ConnectionError, ControlRefusedError } from "../../sidecar/errors.ts";
import type { KvAnswer } from "../../sidecar/push/control-client.ts";
import { ReplicaBlocks } from "../../sidecar/kv-events/replica-blocks.ts";
import { ReplicaState } from "../../sidecar/kv-events/replica-state.ts";
import { Ticker, type TickerClock } from "../../sidecar/scrape/ticker.ts";
import { send, startReplica } from "../sim/support/replica.ts";
import { KvGatewayModel } from "./kv-batch-model.ts";
import { endpointOf } from "./kv-events-sidecar.ts";
import { byteTable, SILENT, storedEvent } from "./kv-events-support.ts";
import { addEntries } from "./kv-index-support.ts";
import { eventually, FakeControl, temporaryFolder } from "./servers.ts";
import { PATIENT } from "./whole-sidecar.ts";

const A = "10.0.0.1:8000";

/** A clock that a test turns by hand; timers run when their time has come. */
class HandClock implements TickerClock {
  nowMs = 1_000;
  private timer: { run: () => void; atMs: number } | null = null;
  now(): number {
    return this.nowMs;
  }
  setTimer(run: () => void, delayMs: number): unknown {
    this.timer = { run, atMs: this.nowMs + delayMs };
    return this.timer;
  }
  clearTimer(): void {
    this.timer = null;
  }
  /** Lets time pass, 10 ms at a time, and what was asked meanwhile be answered. */
  async pass(ms: number): Promise<void> {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs;) {
      this.nowMs += 10;
      const { timer } = this;
      if (timer !== null && timer.atMs <= this.nowMs) {
        this.timer = null;
        timer.run();
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

/** A pusher before a model of the gateway, with one endpoint whose engine is exact. */
class PushSetting {
  readonly clock = new HandClock();
  readonly snapshots = {
    takenSlots: new Map<string, SlotPlace>(),
    acceptedAtMs: 1_000,
  } satisfies SnapshotsTaken;
  readonly model = new KvGatewayModel();
  readonly budget = new EntryBudget();
  readonly index = new KvIndex(this.budget, () => this.clock.nowMs);
  readonly push: KvPush;
  /** Times of all batches that were offered, and their bytes. */
  readonly offered: { atMs: number; bytes: Buffer }[] = [];
  /** Thrown instead of an answer, the next ones first; null = answered. */
  readonly faults: (Error | null)[] = [];
  readonly state: ReplicaState;
  readonly blocks: ReplicaBlocks;
  private hashes = 0;

  constructor() {
    const replica = { address: A, rank: 0 };
    this.index.followed(replica);
    this.state = new ReplicaState((degraded) => this.index.state(replica, degraded));
    this.blocks = new ReplicaBlocks({
      replica,
      tokens: byteTable(),
      state: this.state,
      sink: this.index,
      blocksMax: 1_000_000,
    });
    this.state.setProgress(null);
    this.snapshots.takenSlots.set(A, { slot: 3, generation: 7 });
    const ticker = new Ticker(this.clock);
    const control = { pushKv: (_: string, batch: Buffer) => this.answer(Buffer.from(batch)) };
    this.push = new KvPush("default", this.index, this.snapshots, control, ticker, SILENT);
  }

  /** Stores `count` chains of one cell each. */
  store(count: number): void {
    for (let i = 0; i < count; i++) {
      const number = this.hashes++;
      const text = Buffer.from(String(number).padStart(64, "."));
      const hashes: BlockHash[] = [BigInt(number)];
      this.blocks.apply(storedEvent("", "", { hashes, tokens: [...text], blockTokens: 64 }));
    }
  }

  get entries(): number {
    return this.model.slots.get(3)?.entries.size ?? 0;
  }

  get isExact(): boolean {
    return this.model.slots.get(3)?.state === "exact";
  }

  private async answer(bytes: Buffer): Promise<KvAnswer> {
    this.offered.push({ atMs: this.clock.nowMs, bytes });
    const fault = this.faults.shift();
    if (fault instanceof ControlRefusedError) throw fault;
    const { status, body } = this.model.take(bytes);
    if (fault !== undefined && fault !== null) throw fault;
    if (status !== 200) throw new ControlRefusedError(status, "", body);
    return JSON.parse(body) as KvAnswer;
  }
}

const LOST = new ConnectionError("control listener", new Error("reset"));
const BUSY = new ControlRefusedError(503, "", "behind");

describe("a pusher of the exact index", () => {
  it("tells changes within 20 ms, and that nothing changed every 500 ms", async () => {
    const setting = new PushSetting();
    await setting.clock.pass(100);
    setting.store(5);
    await setting.clock.pass(30);
    expect([setting.entries, setting.isExact]).toEqual([5, true]);
    const before = setting.offered.length;
    await setting.clock.pass(2_000);
    expect(setting.offered.length - before).toBe(4);
    expect(setting.model.batches.at(-1)!.sections.map(({ operation }) => operation)).toEqual(["exact"]);
    expect(setting.push.counts).toMatchObject({ accepted: setting.offered.length, sessions: 1, failed: 0 });
    expect(setting.push.lagSeconds(setting.clock.nowMs)).toBeLessThanOrEqual(0.02);
  });

  it("waits for the pool's first snapshot, and tells nothing of an endpoint that is not in it", async () => {
    const setting = new PushSetting();
    setting.snapshots.acceptedAtMs = Number.NEGATIVE_INFINITY;
    setting.store(5);
    await setting.clock.pass(500);
    expect(setting.offered).toEqual([]);
    setting.snapshots.takenSlots.clear();
    setting.snapshots.acceptedAtMs = setting.clock.nowMs;
    await setting.clock.pass(200);
    expect(setting.model.slots.size).toBe(0);
    setting.snapshots.takenSlots.set(A, { slot: 3, generation: 7 });
    setting.push.slotsChanged();
    await setting.clock.pass(30);
    expect([setting.entries, setting.isExact]).toEqual([5, true]);
  });

  it("sends a batch again whose answer got lost, and is understood", async () => {
    const setting = new PushSetting();
    await setting.clock.pass(100);
    const before = setting.offered.length;
    setting.faults.push(LOST, LOST);
    setting.store(5);
    await setting.clock.pass(300);
    const [first, second, third] = setting.offered.slice(before);
    expect(second!.bytes.equals(first!.bytes) && third!.bytes.equals(first!.bytes)).toBe(true);
    expect(third!.atMs - second!.atMs).toBeGreaterThanOrEqual(100);
    expect([setting.entries, setting.isExact]).toEqual([5, true]);
    expect(setting.push.counts).toMatchObject({ failed: 2, sessions: 1 });
    expect(setting.push.lastError).toBeNull();
  });

  it("offers the same batch until workers have caught up, and gathers what comes meanwhile", async () => {
    const setting = new PushSetting();
    await setting.clock.pass(100);
    setting.faults.push(...Array.from({ length: 5 }, () => BUSY));
    setting.store(5);
    await setting.clock.pass(30);
    setting.store(5);
    await setting.clock.pass(20);
    expect(setting.entries).toBe(0);
    await setting.clock.pass(200);
    expect([setting.entries, setting.isExact]).toEqual([10, true]);
    expect(setting.push.counts).toMatchObject({ busy: 5, refused: 0, sessions: 1 });
  });

  it("begins anew with a gateway that restarted, once it has a snapshot", async () => {
    const setting = new PushSetting();
    setting.store(5);
    await setting.clock.pass(100);
    setting.model.restart();
    await setting.clock.pass(1_000);
    expect(setting.entries).toBe(0);
    setting.snapshots.acceptedAtMs = setting.clock.nowMs;
    await setting.clock.pass(50);
    expect([setting.entries, setting.isExact]).toEqual([5, true]);
    expect(setting.push.counts).toMatchObject({ refused: 1, sessions: 2 });
  });

  it("begins anew, a second later, when a batch is refused or answered with another number", async () => {
    const setting = new PushSetting();
    setting.store(5);
    await setting.clock.pass(100);
    setting.faults.push(new ControlRefusedError(400, "sections[0].key", "0 is not a key"));
    setting.store(1);
    await setting.clock.pass(30);
    expect(setting.push.lastError?.message).toContain("400 for field sections[0].key");
    setting.snapshots.acceptedAtMs = setting.clock.nowMs + 1;
    await setting.clock.pass(900);
    expect(setting.push.counts.sessions).toBe(1);
    await setting.clock.pass(200);
    expect([setting.entries, setting.push.counts.sessions, setting.push.lastError]).toEqual([6, 2, null]);
  });

  it("sends a slot again that a worker wants, once a second at most", async () => {
    const setting = new PushSetting();
    setting.store(5);
    await setting.clock.pass(1_500);
    const { copies } = setting.push.composer.counts;
    setting.model.wanted.add(3).add(200);
    await setting.clock.pass(600);
    expect(setting.model.wanted).toEqual(new Set([200]));
    expect(setting.push.composer.counts.copies).toBe(copies + 1);
    setting.model.wanted.add(3);
    await setting.clock.pass(300);
    expect(setting.push.composer.counts.copies).toBe(copies + 1);
    await setting.clock.pass(1_200);
    expect(setting.push.composer.counts.copies).toBe(copies + 2);
    expect(setting.isExact).toBe(true);
  });

  it("sends everything of a large endpoint in one go, batch by batch", async () => {
    const setting = new PushSetting();
    setting.store(20_000);
    await setting.clock.pass(80);
    expect([setting.entries, setting.isExact]).toEqual([20_000, true]);
    const sizes = setting.offered.map(({ bytes }) => bytes.length);
    expect(Math.max(...sizes)).toBeGreaterThan(65_000);
    expect(sizes.length).toBeLessThan(8);
  });
});

/** A sidecar over the control listener of tests, and simulated replicas that publish. */
async function start(count: number): Promise<{
  control: FakeControl;
  sidecar: Sidecar;
  replicas: SimulatedReplica[];
  get(path: string): Promise<string>;
  /** Waits until the gateway has of a replica just what its view holds, as exact, and the sidecar knows that it does. */
  settled(replica: SimulatedReplica): Promise<number>;
}> {
  const folder = temporaryFolder();
  const control = await new FakeControl(join(folder, "control.sock")).start();
  const replicas: SimulatedReplica[] = [];
  for (let i = 0; i < count; i++)
    replicas.push(await startReplica({ name: `r-${i}`, kvEvents: kvEventsConfig({}) }));
  const config = join(folder, "sidecar.yaml");
  const pool = {
    name: "default",
    scrape: { intervalMs: 20 },
    discovery: { static: { endpoints: replicas.map(endpointOf) } },
    kvEvents: { idleCheckMs: 100, replayTimeoutMs: 2_000 },
  };
  writeFileSync(
    config,
    stringify({ control: control.settings, http: { listen: "127.0.0.1:0" }, pools: [pool] }),
  );
  const sidecar = new Sidecar(loadSettings({ config }, {}), { ...PATIENT, log: SILENT });
  onTestFinished(() => sidecar.stop());
  onTestFinished(() => expect(control.kvFaults).toEqual([]));
  await sidecar.start();
  const settled = async (replica: SimulatedReplica): Promise<number> => {
    const engine = [...sidecar.pools[0]!.kvEvents!.engines].find(
      (each) => each.replica.address === replica.address,
    )!;
    const isTold = (): number | false => {
      const expected = new Map<bigint, number>();
      addEntries(expected, engine.blocks);
      const slot = control.kv().slots.get(control.row(replica.address)?.slot ?? -1);
      if (slot?.state !== "exact" || expected.size !== slot.entries.size) return false;
      for (const [key, value] of expected) if (slot.entries.get(key) !== value) return false;
      // The listener has a batch before its answer is read.
      return sidecar.kvPushes[0]!.isCurrent && (expected.size || 0.5);
    };
    return Math.floor(await eventually("the gateway had what the engine holds", isTold));
  };
  const get = async (path: string): Promise<string> =>
    (await fetch(`http://127.0.0.1:${sidecar.httpPort}${path}`)).text();
  return { control, sidecar, replicas, get, settled };
}

const PROMPT = "The router compares prefix caches: naïve café 日本語 😀. ".repeat(30);

describe("a sidecar with kvEvents", () => {
  it("brings what engines hold to the gateway, over restarts of both, and says how it stands", async () => {
    const { control, sidecar, replicas, get, settled } = await start(2);
    const [one, two] = replicas as [SimulatedReplica, SimulatedReplica];
    await send(one, "/v1/completions", { prompt: PROMPT, max_tokens: 1 });
    const entriesOf = (replica: SimulatedReplica): number =>
      sidecar.kvPushes[0]!.index.endpoints.get(replica.address)?.entries ?? 0;
    await eventually("cells arrived", () => entriesOf(one) > 10);
    expect(await settled(one)).toBeGreaterThan(10);
    expect(await settled(two)).toBe(0);
    const labels = `pool="default",endpoint="${one.address}"`;
    const metrics = await get("/metrics");
    expect(metrics).toContain(`epp_sidecar_kv_index_exact{${labels}} 1`);
    expect(metrics).toMatch(new RegExp(`epp_sidecar_kv_index_entries{${labels}} [1-9]`));
    expect(metrics).toMatch(new RegExp(`epp_sidecar_kv_index_told_entries{${labels}} [1-9]`));
    expect(metrics).toMatch(/epp_sidecar_kv_index_batches_total\{pool="default",result="accepted"\} [1-9]/);
    expect(metrics).toMatch(/epp_sidecar_kv_index_cells_total\{pool="default",kind="copied"\} \d/);
    expect(metrics).toMatch(/epp_sidecar_kv_index_copies_total\{pool="default"\} [1-9]/);
    expect(metrics).toMatch(/epp_sidecar_kv_index_lag_seconds\{pool="default"\} \d/);
    expect(metrics).toMatch(/epp_sidecar_kv_index_memory_bytes\{pool="default"\} [1-9]/);
    expect(metrics).not.toMatch(/epp_sidecar_kv_index_degraded\{/);

    await send(one, "/reset_prefix_cache", "");
    // It tells with its next step.
    await send(one, "/v1/completions", { prompt: "x", max_tokens: 1 });
    await send(two, "/v1/completions", { prompt: PROMPT, max_tokens: 1, cache_salt: "tenant" });
    await eventually("the cleared cache was told", () => entriesOf(one) === 0 && entriesOf(two) > 10);
    expect(await settled(one)).toBe(0);
    expect(await settled(two)).toBeGreaterThan(10);

    await one.restart();
    await send(one, "/v1/completions", { prompt: PROMPT, max_tokens: 1 });
    await eventually("the new process's cells arrived", () => entriesOf(one) > 10);
    expect(await settled(one)).toBeGreaterThan(10);

    await control.stop();
    control.kv().restart();
    await send(two, "/v1/completions", { prompt: `Another. ${PROMPT}`, max_tokens: 1 });
    await eventually("more cells arrived", () => entriesOf(two) > 20);
    await control.start();
    expect(await settled(one)).toBeGreaterThan(10);
    expect(await settled(two)).toBeGreaterThan(20);
    expect(sidecar.kvPushes[0]!.counts.sessions).toBe(2);
  });

  it("says that the gateway does not take the index, and goes on once it does", async () => {
    const { control, replicas, sidecar, get, settled } = await start(1);
    await settled(replicas[0]!);
    control.kvAnswer = { status: 400, body: '{"error":{"field":"version","message":"is 9"}}' };
    await eventually("it was refused", () => sidecar.kvPushes[0]!.counts.refused > 0);
    expect(await get("/readyz")).toContain("its exact index is not taken: control listener answered 400");
    for (const body of ["ok", '{"sequence":-1,"wanted":[]}', '{"sequence":1,"wanted":[256]}']) {
      control.kvAnswer = { status: 200, body };
      await eventually(`${body} was refused`, () =>
        sidecar.kvPushes[0]!.lastError?.message.includes(`${JSON.stringify(body)}, expected {"sequence"`),
      );
    }
    control.kvAnswer = null;
    control.kvAnswersLost = 2;
    await send(replicas[0]!, "/v1/completions", { prompt: PROMPT, max_tokens: 1 });
    await eventually("it was taken", () => sidecar.kvPushes[0]!.lastError === null);
    await eventually("cells arrived", () => control.kv().entries > 10);
    expect(await settled(replicas[0]!)).toBeGreaterThan(10);
    await eventually("nothing was amiss", () => sidecar.readiness().reasons.length === 0);
    expect(JSON.parse(await get("/readyz"))).toMatchObject({ status: "ready", reasons: [] });
  });
});

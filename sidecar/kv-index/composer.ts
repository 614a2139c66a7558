// Decides what the next batch tells the gateway of a pool's endpoints: states, changes, and copies where it has nothing.
import * as wire from "../../assembly/wire/kv-deltas.ts";
import { BatchWriter, type SlotPlace } from "./batch-writer.ts";
import { EndpointIndex, type IndexReason, type Told } from "./endpoint-index.ts";
import type { KvIndex } from "./kv-index.ts";
import { COPY_AGAIN_AFTER_MS, LOOKED_AT_MAX, TAKEN_OUT_MAX } from "./limits.ts";

/** Room that each endpoint's state may take: KV_BEGIN, KV_DEGRADED and a digest. */
const STATE_BYTES = 2 * wire.KV_SECTION_BYTES + 8;

/** An endpoint that the gateway knows, while a batch is made. */
interface Listed {
  readonly endpoint: EndpointIndex;
  readonly told: Told;
  readonly reason: IndexReason | null;
}

/** Counts since start, for metrics. */
export interface TellCounts {
  /** Cells that were told: changes, and those of copies. */
  changes: number;
  copied: number;
  /** Copies begun. */
  copies: number;
}

/**
 * Makes batches for one pool. In each come the states first, then the changes of all endpoints in turns, then copies,
 * one endpoint at a time; while one waits it has half of the room. Of an endpoint that is being copied nothing else is
 * told until the copy is whole.
 */
export class BatchComposer {
  readonly counts: TellCounts = { changes: 0, copied: 0, copies: 0 };
  /** The last batch left something untold for lack of room. */
  hasMore = false;
  private readonly writer = new BatchWriter();
  /** Endpoint whose changes come first. */
  private turn = 0;

  constructor(private readonly index: KvIndex) {}

  /** The gateway has nothing of all that was told. */
  forget(): void {
    for (const endpoint of this.index.endpoints.values()) this.lose(endpoint);
  }

  /**
   * Workers lack these slots, or hold something else there.
   * @param nowMs monotonic
   */
  want(slots: readonly number[], nowMs: number): void {
    if (slots.length === 0) return;
    const wanted = new Set(slots);
    for (const { told, changed } of this.index.endpoints.values()) {
      if (told === null || !wanted.has(told.slot)) continue;
      if (told.phase !== "present" || told.isWanted || nowMs - told.copiedAtMs < COPY_AGAIN_AFTER_MS)
        continue;
      told.isWanted = true;
      changed();
    }
  }

  /**
   * Makes the next batch; `finish` gives it.
   * @param places slots by address, as the gateway has them
   * @param isHeartbeat every endpoint's state is told, changed or not
   * @returns whether there is anything to send; a heartbeat always is
   */
  compose(places: ReadonlyMap<string, SlotPlace>, nowMs: number, isHeartbeat: boolean): boolean {
    this.writer.reset();
    this.hasMore = this.takeOut();
    const listed = this.list(places);
    for (const each of listed) this.tellState(each, isHeartbeat);
    if (isHeartbeat) this.readmit(listed);
    const isCopying = listed.some((each) => this.isToBeCopied(each));
    const states = STATE_BYTES * listed.length;
    this.tellChanges(
      listed,
      isHeartbeat,
      isCopying ? Math.max(states, Math.floor(this.writer.room / 2)) : states,
    );
    if (isCopying) this.tellCopies(listed, nowMs);
    return isHeartbeat || !this.writer.isEmpty;
  }

  finish(session: Buffer, sequence: number): Buffer {
    return this.writer.finish(session, sequence);
  }

  /** Endpoints that the gateway knows, beginning with another one each time. */
  private list(places: ReadonlyMap<string, SlotPlace>): Listed[] {
    const listed: Listed[] = [];
    for (const endpoint of this.index.endpoints.values()) {
      const place = places.get(endpoint.address);
      const { told } = endpoint;
      if (told !== null && (told.slot !== place?.slot || told.generation !== place.generation)) {
        this.lose(endpoint);
      }
      if (place === undefined) continue;
      endpoint.told ??= {
        ...place,
        phase: "absent",
        state: "nothing",
        isWanted: false,
        copyFrom: 0,
        copiedAtMs: Number.NEGATIVE_INFINITY,
      };
      listed.push({ endpoint, told: endpoint.told, reason: endpoint.reason });
    }
    this.turn = listed.length === 0 ? 0 : (this.turn + 1) % listed.length;
    return [...listed.slice(this.turn), ...listed.slice(0, this.turn)];
  }

  /** Takes out what engines lost. @returns whether there is more of it */
  private takeOut(): boolean {
    let left = TAKEN_OUT_MAX;
    for (const endpoint of this.index.endpoints.values()) {
      if (left > 0) left -= endpoint.takeOut(left);
    }
    return left === 0;
  }

  private lose(endpoint: EndpointIndex): void {
    endpoint.told = null;
    this.index.budget.hold(endpoint, 0);
  }

  /** Tells that an endpoint is not exact; takes its entries from the gateway where they would be of no use. */
  private tellState({ endpoint, told, reason }: Listed, isHeartbeat: boolean): void {
    if (!endpoint.table.isTracked) {
      // Changes were given up: only a copy can tell what there is, and it may have to wait for others.
      told.phase = "absent";
      if (told.state === "exact" && reason === null) {
        this.writer.degraded(told);
        told.state = "nothing";
      }
    }
    if (reason === null) return;
    const keeps = EndpointIndex.keepsEntries(reason);
    if (keeps && told.phase === "copying") return;
    if (!keeps && endpoint.held > 0) {
      this.writer.copyBegins(told, 0, 0, 0);
      this.index.budget.hold(endpoint, 0);
    }
    if (!keeps) {
      told.phase = "absent";
      endpoint.table.untrack();
    }
    if (told.state === "degraded" && !isHeartbeat) return;
    this.writer.degraded(told);
    told.state = "degraded";
  }

  /** @param reserved bytes that are left to states and copies */
  private tellChanges(listed: readonly Listed[], isHeartbeat: boolean, reserved: number): void {
    const { writer, index } = this;
    for (const { endpoint, told, reason } of listed) {
      if (told.phase !== "present") continue;
      const { table } = endpoint;
      const isTold = table.changes > 0;
      if (isTold) {
        const cells = BatchWriter.cellsIn(writer.room - reserved);
        if (cells === 0) {
          this.hasMore = true;
          continue;
        }
        // Without room for all that may come, nothing is told until another endpoint or this one has gone.
        if (!index.budget.makeRoom(endpoint, table.toldCount + table.changes)) continue;
        table.tellChanges(cells, writer);
        this.counts.changes += writer.flush(told);
        index.budget.hold(endpoint, table.toldCount);
        if (table.changes > 0) this.hasMore = true;
      }
      if (reason === null && (isTold || isHeartbeat || told.state !== "exact"))
        this.tellExact(endpoint, told);
    }
  }

  private tellExact({ table }: EndpointIndex, told: Told): void {
    this.writer.exact(told, table.toldDigestHigh, table.toldDigestLow, table.toldCount);
    told.state = "exact";
  }

  private isToBeCopied({ told, reason }: Listed): boolean {
    return told.phase === "copying" || (reason === null && (told.phase === "absent" || told.isWanted));
  }

  /** The copy at hand, then others, small ones first. */
  private tellCopies(listed: readonly Listed[], nowMs: number): void {
    const waiting = listed.filter((each) => this.isToBeCopied(each));
    const rank = ({ endpoint, told }: Listed): number => (told.phase === "copying" ? -1 : endpoint.entries);
    waiting.sort((a, b) => rank(a) - rank(b));
    let lookedAt = 0;
    for (const each of waiting) {
      const cells = BatchWriter.cellsIn(this.writer.room);
      if (cells === 0) {
        this.hasMore = true;
        return;
      }
      if (each.told.phase !== "copying") {
        const { table } = each.endpoint;
        if (!this.hasRoom(each)) continue;
        if (!table.isReady) lookedAt += table.track(LOOKED_AT_MAX - lookedAt);
        if (!table.isReady) {
          this.hasMore = true;
          return;
        }
        if (!this.hasRoom(each)) continue;
        this.beginCopy(each);
      }
      if (!this.goOn(each, cells, nowMs)) {
        this.hasMore = true;
        return;
      }
    }
  }

  private hasRoom({ endpoint }: Listed): boolean {
    const { table } = endpoint;
    return this.index.budget.makeRoom(endpoint, table.isReady ? table.toldCount : table.count);
  }

  private beginCopy({ endpoint, told }: Listed): void {
    const { table } = endpoint;
    this.writer.copyBegins(told, table.toldDigestHigh, table.toldDigestLow, table.toldCount);
    this.index.budget.hold(endpoint, table.toldCount);
    this.counts.copies += 1;
    told.phase = "copying";
    told.state = "nothing";
    told.isWanted = false;
    told.copyFrom = 0;
  }

  /** @returns whether the copy is whole */
  private goOn({ endpoint, told, reason }: Listed, cells: number, nowMs: number): boolean {
    told.copyFrom = endpoint.table.tellCopy(told.copyFrom, cells, this.writer);
    this.counts.copied += this.writer.flush(told);
    if (told.copyFrom >= 0) return false;
    told.phase = "present";
    told.copiedAtMs = nowMs;
    if (reason === null) {
      this.tellExact(endpoint, told);
    } else {
      this.writer.degraded(told);
      told.state = "degraded";
    }
    if (endpoint.table.changes > 0) this.hasMore = true;
    return true;
  }

  private readmit(listed: readonly Listed[]): void {
    const left = listed.map(({ endpoint }) => endpoint).filter(({ isLeftOut }) => isLeftOut);
    left.sort((a, b) => a.entries - b.entries);
    for (const endpoint of left) this.index.budget.readmit(endpoint);
  }
}

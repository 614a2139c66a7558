// Writes batches of changes of the exact index as the gateway reads them (assembly/wire/kv-deltas.ts).
import * as wire from "../../assembly/wire/kv-deltas.ts";
import { snapshotChecksum } from "../snapshot-encoder.ts";
import type { CellWriter } from "./cell-table.ts";

const KEY_BYTES = 8;
const CELL_BYTES = 12;
const DIGEST_BYTES = 8;
/** Cells that fit into a batch that has nothing else. */
const CELLS_MAX = Math.floor(wire.KV_BATCH_BYTES_MAX / CELL_BYTES);
/** What cells of every kind cost beside themselves: four sections, three of them padded. */
const CELLS_OVERHEAD_BYTES = 4 * wire.KV_SECTION_BYTES + 3 * 4;
/** Bytes of a section with a digest: KV_BEGIN, KV_EXACT. */
const DIGEST_SECTION_BYTES = wire.KV_SECTION_BYTES + DIGEST_BYTES;
const TIERS = [wire.KV_TIER_GPU, wire.KV_TIER_CPU, wire.KV_TIER_DISK];

/** Slot and generation of the snapshot. */
export interface SlotPlace {
  readonly slot: number;
  readonly generation: number;
}

/**
 * A batch in the making, in a buffer of its own. Cells are gathered first, and go into sections by kind:
 *
 * ```
 * cells  i32[3 × count]   high and low half of the key, tier << 30 | tokens, 0 = removed
 * ```
 */
export class BatchWriter implements CellWriter {
  private readonly buffer = Buffer.alloc(wire.KV_BATCH_BYTES_MAX);
  private readonly words = new Int32Array(this.buffer.buffer, this.buffer.byteOffset, this.buffer.length / 4);
  private readonly cells = new Int32Array(3 * CELLS_MAX);
  private cellCount = 0;
  private end = wire.KV_HEADER_BYTES;
  private sections = 0;

  /** Begins another batch in the same buffer. */
  reset(): void {
    this.end = wire.KV_HEADER_BYTES;
    this.sections = 0;
    this.cellCount = 0;
  }

  get isEmpty(): boolean {
    return this.sections === 0;
  }

  /** Bytes left. */
  get room(): number {
    return this.buffer.length - this.end;
  }

  /** Cells of one endpoint that fit into `bytes`, whatever their kinds, a KV_BEGIN before and a KV_EXACT behind them. */
  static cellsIn(bytes: number): number {
    const left = bytes - CELLS_OVERHEAD_BYTES - 2 * DIGEST_SECTION_BYTES;
    return Math.max(0, Math.floor(left / CELL_BYTES));
  }

  /** Gathers a cell of the endpoint at hand. */
  cell(keyHigh: number, keyLow: number, value: number): void {
    const at = 3 * this.cellCount++;
    this.cells[at] = keyHigh;
    this.cells[at + 1] = keyLow;
    this.cells[at + 2] = value;
  }

  /** Writes the gathered cells, removed ones first. @returns how many they are */
  flush(place: SlotPlace): number {
    const { cellCount } = this;
    if (cellCount === 0) return 0;
    this.writeCells(place, wire.KV_REMOVE, 0);
    for (const tier of TIERS) this.writeCells(place, wire.KV_STORE, tier);
    this.cellCount = 0;
    return cellCount;
  }

  /** KV_BEGIN: a copy of `entries` cells follows. */
  copyBegins(place: SlotPlace, digestHigh: number, digestLow: number, entries: number): void {
    this.section(wire.KV_BEGIN, 0, place, entries);
    this.digest(digestHigh, digestLow);
  }

  /** KV_EXACT: that is all of them. */
  exact(place: SlotPlace, digestHigh: number, digestLow: number, entries: number): void {
    this.section(wire.KV_EXACT, 0, place, entries);
    this.digest(digestHigh, digestLow);
  }

  degraded(place: SlotPlace): void {
    this.section(wire.KV_DEGRADED, 0, place, 0);
  }

  /**
   * The whole batch.
   * @param session its 8 bytes as on the wire
   * @returns a view of the buffer, valid until `reset`
   */
  finish(session: Buffer, sequence: number): Buffer {
    const { buffer } = this;
    buffer.fill(0, 0, wire.KV_HEADER_BYTES);
    buffer.writeUInt32LE(wire.KV_MAGIC, wire.KV_AT_MAGIC);
    buffer.writeUInt16LE(wire.KV_WIRE_VERSION, wire.KV_AT_VERSION);
    buffer.writeUInt16LE(wire.KV_HEADER_BYTES, wire.KV_AT_HEADER_BYTES);
    buffer.writeUInt32LE(this.end, wire.KV_AT_TOTAL_BYTES);
    session.copy(buffer, wire.KV_AT_SESSION);
    buffer.writeUInt32LE(sequence, wire.KV_AT_SEQUENCE);
    buffer.writeUInt32LE(this.sections, wire.KV_AT_SECTIONS);
    const batch = buffer.subarray(0, this.end);
    batch.writeUInt32LE(snapshotChecksum(batch), wire.KV_AT_CHECKSUM);
    return batch;
  }

  /** A section of the gathered cells of one kind, if there are any. */
  private writeCells(place: SlotPlace, operation: number, tier: number): void {
    const { cells, words } = this;
    const isStore = operation === wire.KV_STORE;
    const isWanted = (value: number): boolean =>
      isStore ? value !== 0 && value >>> 30 === tier : value === 0;
    let count = 0;
    for (let i = 0; i < this.cellCount; i++) if (isWanted(cells[3 * i + 2]!)) count += 1;
    if (count === 0) return;
    this.section(operation, tier, place, count);
    let key = this.end / 4;
    let tokens = key + (count * KEY_BYTES) / 4;
    for (let i = 0; i < this.cellCount; i++) {
      const value = cells[3 * i + 2]!;
      if (!isWanted(value)) continue;
      words[key] = cells[3 * i + 1]!;
      words[key + 1] = cells[3 * i]!;
      key += 2;
      if (isStore) words[tokens++] = value & wire.KV_TOKENS_MAX;
    }
    if (isStore && count % 2 === 1) words[tokens++] = 0;
    this.end = (isStore ? tokens : key) * 4;
  }

  private section(operation: number, tier: number, { slot, generation }: SlotPlace, entries: number): void {
    const at = this.end;
    this.buffer.fill(0, at, at + wire.KV_SECTION_BYTES);
    this.buffer.writeUInt8(operation, at + wire.KV_SECTION_AT_OPERATION);
    this.buffer.writeUInt8(tier, at + wire.KV_SECTION_AT_TIER);
    this.buffer.writeUInt16LE(slot, at + wire.KV_SECTION_AT_SLOT);
    this.buffer.writeUInt16LE(generation, at + wire.KV_SECTION_AT_GENERATION);
    this.buffer.writeUInt32LE(entries, at + wire.KV_SECTION_AT_ENTRIES);
    this.end = at + wire.KV_SECTION_BYTES;
    this.sections += 1;
  }

  private digest(high: number, low: number): void {
    this.words[this.end / 4] = low;
    this.words[this.end / 4 + 1] = high;
    this.end += DIGEST_BYTES;
  }
}

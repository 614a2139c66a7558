// The exact index of one endpoint: its engines' cells, whether they are all there is, and what the gateway has of them.
import type { CachedBlock, ReplicaKey } from "../kv-events/block-sink.ts";
import { TIERS, type Tier } from "../kv-events/events.ts";
import { DEGRADED_REASONS, type DegradedReason } from "../kv-events/replica-state.ts";
import { CellTable } from "./cell-table.ts";
import { EngineCells, isUnnamedAdapter } from "./engine-cells.ts";
import type { BudgetMember } from "./entry-budget.ts";
import { LEAVING_BLOCKS_MAX } from "./limits.ts";

/** Why an endpoint is not matched exactly: what its views say, or else a reason of the index. */
export const INDEX_REASONS = [
  ...DEGRADED_REASONS,
  /** It holds blocks of an adapter that the engine does not name. */
  "unnamed-adapter",
  /** There is no room for its entries. */
  "index-full",
  /** The gateway was not told all of it yet. */
  "not-sent",
] as const;
export type IndexReason = (typeof INDEX_REASONS)[number];

/** Reasons that may end while what is known stays true: the gateway keeps the entries. */
const PASSING: ReadonlySet<IndexReason | null> = new Set(["starting", "unreachable", "catching-up"]);

/** What the gateway has of an endpoint, after all that was written so far. Kept by the composer of batches. */
export interface Told {
  /** Slot and generation of the snapshot that it was told under. */
  readonly slot: number;
  readonly generation: number;
  /** "absent": nothing, or nothing of use; "copying": a part. */
  phase: "absent" | "copying" | "present";
  state: "nothing" | "exact" | "degraded";
  /** Some worker lacks it, others have it: changes are told until its copy begins. */
  isWanted: boolean;
  /** Where the copy goes on. */
  copyFrom: number;
  /** When a copy was last finished, monotonic ms. */
  copiedAtMs: number;
}

interface Engine {
  cells: EngineCells;
  degraded: DegradedReason | null;
  /** Copies of blocks of unnamed adapters. */
  unnamed: number;
}

/** One endpoint: what any of its data-parallel ranks holds counts as held. */
export class EndpointIndex implements BudgetMember {
  readonly table: CellTable;
  held = 0;
  isLeftOut = false;
  /** null = nothing was told of it, or its slot is not known. */
  told: Told | null = null;
  private readonly engines = new Map<number, Engine>();
  /** What engines lost or took with them, and is still counted. */
  private readonly leaving: EngineCells[] = [];

  /**
   * @param address "ip:port"
   * @param changed called when something is to be told
   */
  constructor(
    readonly address: string,
    readonly changed: () => void,
    entriesMax?: number,
  ) {
    this.table = new CellTable(entriesMax);
  }

  get entries(): number {
    return this.table.count;
  }

  /** Bytes of memory that it takes, beside the blocks themselves. */
  get bytes(): number {
    let sum = this.table.bytes;
    for (const { cells } of this.engines.values()) sum += cells.bytes;
    for (const cells of this.leaving) sum += cells.bytes;
    return sum;
  }

  get hasEngines(): boolean {
    return this.engines.size > 0;
  }

  /** Why the cells are not all there is, or may not be told; null = they are, and may. */
  get reason(): IndexReason | null {
    let first: DegradedReason | null = null;
    let unnamed = 0;
    for (const engine of this.engines.values()) {
      unnamed += engine.unnamed;
      if (engine.degraded === null) continue;
      if (first === null || DEGRADED_REASONS.indexOf(engine.degraded) < DEGRADED_REASONS.indexOf(first)) {
        first = engine.degraded;
      }
    }
    if (first !== null) return first;
    if (this.leaving.length > 0) return "catching-up";
    if (unnamed > 0) return "unnamed-adapter";
    return this.isLeftOut || this.table.isFull ? "index-full" : null;
  }

  /** The same, or that the gateway does not take it for exact yet. */
  get shownReason(): IndexReason | null {
    return this.reason ?? (this.told?.state === "exact" ? null : "not-sent");
  }

  /** Whether the gateway is to keep entries for this reason. */
  static keepsEntries(reason: IndexReason | null): boolean {
    return reason === null || PASSING.has(reason);
  }

  follows(rank: number): boolean {
    return this.engines.has(rank);
  }

  followed(rank: number): void {
    if (this.engines.has(rank)) return;
    this.engines.set(rank, { cells: new EngineCells(this.table), degraded: "starting", unnamed: 0 });
  }

  left(rank: number): void {
    this.cleared(rank);
    this.engines.delete(rank);
  }

  /** This and what follows is of engines that are followed. */
  stored({ rank }: ReplicaKey, block: CachedBlock, tier: Tier): void {
    const { root } = block;
    // A prompt with pictures is never text alone.
    if (root.hasMedia) return;
    const engine = this.engineOf(rank);
    if (isUnnamedAdapter(root)) engine.unnamed += 1;
    else engine.cells.stored(block, TIERS.indexOf(tier));
  }

  removed({ rank }: ReplicaKey, block: CachedBlock, tier: Tier): void {
    const { root } = block;
    if (root.hasMedia) return;
    const engine = this.engineOf(rank);
    if (isUnnamedAdapter(root)) engine.unnamed -= 1;
    else engine.cells.removed(block, TIERS.indexOf(tier));
  }

  /** What no other engine holds is gone at once, the rest by `takeOut`. */
  cleared(rank: number): void {
    const engine = this.engineOf(rank);
    engine.unnamed = 0;
    let others = 0;
    for (const other of this.engines.values()) if (other !== engine) others += other.cells.size;
    if (others === 0) {
      this.table.clear();
      this.leaving.length = 0;
    } else if (engine.cells.size > 0) {
      this.leaving.push(engine.cells);
    }
    engine.cells = new EngineCells(this.table);
    let left = 0;
    for (const { size } of this.leaving) left += size;
    for (; left > LEAVING_BLOCKS_MAX; left -= this.leaving.shift()!.size) this.leaving[0]!.takeOut(Infinity);
  }

  /**
   * Goes on taking out what engines lost.
   * @param max blocks to look at
   * @returns blocks that were looked at, less than `max` = there are no more
   */
  takeOut(max: number): number {
    let done = 0;
    while (done < max && this.leaving.length > 0) {
      const left = max - done;
      const taken = this.leaving[0]!.takeOut(left);
      if (taken < left) this.leaving.shift();
      done += taken;
    }
    return done;
  }

  setState(rank: number, degraded: DegradedReason | null): void {
    this.engineOf(rank).degraded = degraded;
  }

  private engineOf(rank: number): Engine {
    return this.engines.get(rank)!;
  }
}

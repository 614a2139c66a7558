// A block of an engine's cache as its view keeps it: place, text, and who holds it how often.
import type { ChainRoot } from "./block-sink.ts";
import { NO_TEXT } from "./block-texts.ts";
import { type BlockHash, TIERS } from "./events.ts";

/** A block that is held, or that a held block descends from. Without a place in a chain while `root` is null. */
export class Block {
  root: ChainRoot | null = null;
  parent: Block | null = null;
  endTokens = 0;
  startByte = 0;
  /** Holds the block's text from `textStart` to `textEnd`, and that of its neighbours. */
  text = NO_TEXT;
  textStart = 0;
  textEnd = 0;
  mark: unknown = undefined;
  /** Blocks whose parent it is. */
  children = 0;
  /** Copies of group 0 by tier, and of the others by `(group − 1) × TIERS.length + tier`, grown as needed. */
  private gpu = 0;
  private cpu = 0;
  private disk = 0;
  private others: number[] | null = null;

  constructor(readonly hash: BlockHash) {}

  get bytes(): Uint8Array {
    return this.text.bytes.subarray(this.textStart, this.textEnd);
  }

  get textBytes(): number {
    return this.textEnd - this.textStart;
  }

  copies(group: number, tier: number): number {
    if (group > 0) return this.others?.[(group - 1) * TIERS.length + tier] ?? 0;
    return tier === 0 ? this.gpu : tier === 1 ? this.cpu : this.disk;
  }

  addCopies(group: number, tier: number, count: number): void {
    if (group === 0) {
      if (tier === 0) this.gpu += count;
      else if (tier === 1) this.cpu += count;
      else this.disk += count;
      return;
    }
    this.others ??= [];
    const at = (group - 1) * TIERS.length + tier;
    while (this.others.length <= at) this.others.push(0);
    this.others[at]! += count;
  }

  /** Copies in a tier of the one of `groups` that has fewest; 0 without groups. */
  heldBy(tier: number, groups: readonly number[]): number {
    if (groups.length === 1) return this.copies(groups[0]!, tier);
    let least = groups.length === 0 ? 0 : Number.POSITIVE_INFINITY;
    for (const group of groups) least = Math.min(least, this.copies(group, tier));
    return least;
  }

  /** All copies of a group are gone. */
  dropGroup(group: number): void {
    for (let tier = 0; tier < TIERS.length; tier++) {
      const copies = this.copies(group, tier);
      if (copies > 0) this.addCopies(group, tier, -copies);
    }
  }

  get isHeld(): boolean {
    return this.gpu + this.cpu + this.disk > 0 || (this.others?.some((copies) => copies > 0) ?? false);
  }
}

// What one engine's cache holds, kept from its events: reference counts, tiers, and each block's place in its chain.
import type { BlockSink, CachedBlock, ReplicaKey } from "./block-sink.ts";
import { Block } from "./block.ts";
import { BlockTexts, type SharedText } from "./block-texts.ts";
import { ChainRoots } from "./chain-root.ts";
import { isFullAttention } from "./decode.ts";
import {
  type BlockHash,
  type BlockRemoved,
  type BlockStored,
  type ExtraKey,
  type KvEvent,
  MEDIA_TOKEN,
  type Tier,
  TIERS,
} from "./events.ts";
import * as limits from "./limits.ts";
import type { ReplicaState } from "./replica-state.ts";
import { type TokenTable, UNKNOWN_TOKEN } from "./token-table.ts";

/** Events and blocks seen, for metrics. */
export interface BlockCounts {
  stored: number;
  removed: number;
  cleared: number;
  /** Removals of blocks that were not known to be there. */
  unmatched: number;
  /** Events of groups without full attention, or of media that are no tier. */
  ignored: number;
}

/** Blocks of an event that are looked at without a break, about a millisecond's work. */
const PART_BLOCKS = 256;

/** What a view is made of. */
export interface ViewOptions {
  readonly replica: ReplicaKey;
  readonly tokens: TokenTable;
  readonly state: ReplicaState;
  readonly sink: BlockSink;
  /** Blocks kept at most; those beyond are left out. */
  readonly blocksMax: number;
}

/**
 * The view of one engine. An engine may hold the same content several times and says so each time, so copies are
 * counted by (hash, group, tier). Groups without full attention are left out: what they hold tells nothing of a
 * prefix. Of those with it all have to hold a block: an engine looks for a prefix in each (vllm/v1/core,
 * find_longest_cache_hit). A block that is gone stays known while blocks that descend from it are held.
 */
export class ReplicaBlocks {
  readonly counts: BlockCounts = { stored: 0, removed: 0, cleared: 0, unmatched: 0, ignored: 0 };
  private readonly blocks = new Map<BlockHash, Block>();
  private readonly roots = new ChainRoots();
  /** Groups that stored something, as far as they have full attention. */
  private groups: readonly number[] = [];
  /** Groups that said to be of another kind than full attention: their removals do not say it again. */
  private readonly otherGroups = new Set<number>();
  private readonly texts = new BlockTexts();
  private readonly textBytesMax: number;

  constructor(private readonly options: ViewOptions) {
    this.textBytesMax = Math.max(
      limits.VIEW_TEXT_BYTES_MIN,
      options.blocksMax * limits.VIEW_TEXT_BYTES_A_BLOCK,
    );
  }

  /** Blocks known, those that are only remembered for their descendants among them. */
  get size(): number {
    return this.blocks.size;
  }

  /** Bytes of the arrays that hold the blocks' texts. */
  get textBytesTaken(): number {
    return this.texts.taken;
  }

  apply(event: KvEvent): void {
    for (const _ of this.applyInParts(event));
  }

  /** The same, with a break after every PART_BLOCKS blocks, and at the end; in a break nothing else may be applied. */
  *applyInParts(event: KvEvent): Generator<void> {
    switch (event.kind) {
      case "stored":
        yield* this.store(event);
        break;
      case "removed":
        yield* this.remove(event);
        break;
      case "cleared":
        this.counts.cleared += 1;
        this.clear();
        this.options.state.emptied();
    }
    yield;
    if (this.texts.isSparse) yield* this.moveTexts();
  }

  /** Forgets everything. What was wrong with the view stays said: `ReplicaState.emptied` takes it back. */
  clear(): void {
    this.blocks.clear();
    this.texts.clear();
    this.groups = [];
    this.otherGroups.clear();
    this.options.sink.cleared(this.options.replica);
  }

  /** Calls `visit` with each block that a tier holds; null = its place in a chain is not known. */
  forEachHeld(visit: (hash: BlockHash, tier: Tier, copies: number, block: CachedBlock | null) => void): void {
    for (const block of this.blocks.values()) {
      TIERS.forEach((tier, index) => {
        const copies = block.heldBy(index, this.groups);
        if (copies > 0) visit(block.hash, tier, copies, asPlaced(block));
      });
    }
  }

  private *store(event: BlockStored): Generator<void> {
    this.counts.stored += 1;
    if (!isFullAttention(event.groupKind)) {
      this.otherGroups.add(event.group);
      if (this.groups.includes(event.group)) yield* this.leaveOut(event.group);
    }
    if (event.tier === null || this.otherGroups.has(event.group)) {
      this.counts.ignored += 1;
      return;
    }
    if (!this.groups.includes(event.group)) yield* this.regroup([...this.groups, event.group]);
    const tier = TIERS.indexOf(event.tier);
    let parent = event.parent === null ? null : (this.blocks.get(event.parent) ?? null);
    let hasPlace = event.tokens.length > 0 && (event.parent === null || asPlaced(parent) !== null);
    if (event.tokens.length > 0 && !hasPlace && parent === null) this.options.state.fault("unknown-parent");
    for (let index = 0; index < event.hashes.length; index++) {
      const block = this.blockOf(event.hashes[index]!);
      if (block === null) {
        this.options.state.fault("too-many-blocks");
        return;
      }
      if (hasPlace) hasPlace = this.place(block, parent, event, index);
      this.addCopy(block, tier, event.group);
      parent = block;
      if (index % PART_BLOCKS === PART_BLOCKS - 1) yield;
    }
  }

  /** Other groups than before have to hold a block: tells of those that this changes. */
  private *regroup(groups: readonly number[]): Generator<void> {
    const before = this.groups;
    this.groups = groups;
    let seen = 0;
    for (const block of this.blocks.values()) {
      TIERS.forEach((tier, i) => {
        const was = block.heldBy(i, before) > 0;
        if (block.root !== null && was !== block.heldBy(i, groups) > 0) this.tell(block, tier, !was);
      });
      seen += 1;
      if (seen % PART_BLOCKS === 0) yield;
    }
  }

  /** A group was taken for one with full attention until it said what it is. */
  private *leaveOut(group: number): Generator<void> {
    yield* this.regroup(this.groups.filter((one) => one !== group));
    let seen = 0;
    for (const block of this.blocks.values()) {
      block.dropGroup(group);
      this.forgetUnused(block);
      seen += 1;
      if (seen % PART_BLOCKS === 0) yield;
    }
  }

  private tell(block: Block, tier: Tier, isHeld: boolean): void {
    const { sink, replica } = this.options;
    if (isHeld) sink.stored(replica, block as CachedBlock, tier);
    else sink.removed(replica, block as CachedBlock, tier);
  }

  private blockOf(hash: BlockHash): Block | null {
    const known = this.blocks.get(hash);
    if (known !== undefined) return known;
    if (this.blocks.size >= this.options.blocksMax) return null;
    const block = new Block(hash);
    this.blocks.set(hash, block);
    return block;
  }

  /** Puts a block behind `parent`, unless it has its place. @returns whether it has one now */
  private place(block: Block, parent: Block | null, event: BlockStored, index: number): boolean {
    const { blockTokens } = event;
    const endTokens = (parent?.endTokens ?? 0) + blockTokens;
    if (block.root !== null) {
      if (block.endTokens !== endTokens) this.options.state.fault("conflicting-block");
      return true;
    }
    const fault = this.write(block, event, index, parent === null);
    if (fault !== null) {
      const from = index * blockTokens;
      // A chain with pictures in place of tokens is never matched from there on, and so lacks nothing.
      const isMedia = event.tokens.slice(from, from + blockTokens).includes(MEDIA_TOKEN);
      if (fault !== "unknown-token" || !isMedia) this.options.state.fault(fault);
      return false;
    }
    const keys: readonly ExtraKey[] | null = event.extraKeys?.[index] ?? null;
    block.root =
      parent === null ? this.roots.first(event, keys) : this.roots.next(parent.root!, event.loraName, keys);
    block.parent = parent;
    block.endTokens = endTokens;
    block.startByte = parent === null ? 0 : parent.startByte + parent.textBytes;
    if (parent !== null) parent.children += 1;
    if (block.isHeld) this.tellHeld(block);
    return true;
  }

  /** Tells of the tiers that hold a block since before its place was known. */
  private tellHeld(block: Block): void {
    TIERS.forEach((tier, i) => {
      if (block.heldBy(i, this.groups) > 0) this.tell(block, tier, true);
    });
  }

  /** Gives a block its text, behind that of the block before where there is room. @returns why it has none */
  private write(
    block: Block,
    event: BlockStored,
    index: number,
    isFirst: boolean,
  ): "unknown-token" | "too-many-blocks" | null {
    const { texts } = this;
    const { tokens } = this.options;
    const { blockTokens } = event;
    const from = index * blockTokens;
    const length = tokens.textLength(event.tokens, from, from + blockTokens);
    if (length === UNKNOWN_TOKEN) return "unknown-token";
    if (texts.live + length > this.textBytesMax) return "too-many-blocks";
    if (length === 0) return null;
    const text = texts.reserve(length);
    const end = tokens.write(event.tokens, from, from + blockTokens, isFirst, text.bytes, texts.at);
    this.holdText(block, text, end - texts.at);
    return null;
  }

  /** The reserved bytes are the block's text. */
  private holdText(block: Block, text: SharedText, length: number): void {
    const { texts } = this;
    if (length === 0) return;
    block.text = text;
    block.textStart = texts.at;
    block.textEnd = texts.at + length;
    texts.hold(length);
  }

  /** Moves all texts to new arrays, one after the other. */
  private *moveTexts(): Generator<void> {
    const { texts } = this;
    texts.close();
    let moved = 0;
    for (const block of this.blocks.values()) {
      const { text, textBytes } = block;
      if (textBytes > 0) {
        const to = texts.reserve(textBytes);
        to.bytes.set(block.bytes, texts.at);
        this.holdText(block, to, textBytes);
        texts.drop(text, textBytes);
      }
      moved += 1;
      if (moved % PART_BLOCKS === 0) yield;
    }
  }

  private addCopy(block: Block, tier: number, group: number): void {
    const wasHeld = block.heldBy(tier, this.groups) > 0;
    block.addCopies(group, tier, 1);
    if (block.root === null || wasHeld || block.heldBy(tier, this.groups) === 0) return;
    this.tell(block, TIERS[tier]!, true);
  }

  private *remove(event: BlockRemoved): Generator<void> {
    this.counts.removed += 1;
    if (event.tier === null || this.otherGroups.has(event.group)) {
      this.counts.ignored += 1;
      return;
    }
    const tier = TIERS.indexOf(event.tier);
    for (const [index, hash] of event.hashes.entries()) {
      if (index % PART_BLOCKS === PART_BLOCKS - 1) yield;
      const block = this.blocks.get(hash);
      if (block === undefined || block.copies(event.group, tier) === 0) {
        this.counts.unmatched += 1;
        continue;
      }
      const wasHeld = block.heldBy(tier, this.groups) > 0;
      block.addCopies(event.group, tier, -1);
      if (block.heldBy(tier, this.groups) > 0) continue;
      if (block.root !== null && wasHeld) this.tell(block, event.tier, false);
      this.forgetUnused(block);
    }
  }

  /** Forgets a block that nobody holds or descends from, and then those before it likewise. */
  private forgetUnused(block: Block): void {
    for (let last: Block | null = block; last !== null && last.children === 0 && !last.isHeld;) {
      this.blocks.delete(last.hash);
      this.texts.drop(last.text, last.textBytes);
      last = last.parent;
      if (last !== null) last.children -= 1;
    }
  }
}

function asPlaced(block: Block | null): CachedBlock | null {
  return block === null || block.root === null ? null : (block as CachedBlock);
}

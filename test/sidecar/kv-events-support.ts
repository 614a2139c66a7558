// Views of KV caches for tests: a sink that remembers, a log that is kept, and what a simulated engine really holds.
import type { KvCache } from "../../host-sim/model-server/kv-cache.ts";
import type { KvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import { publishedHash } from "../../host-sim/model-server/kv-events/encode.ts";
import { tokenBytes, VOCABULARY_SIZE } from "../../host-sim/model-server/tokenizer.ts";
import type { BlockSink, CachedBlock, ReplicaKey } from "../../sidecar/kv-events/block-sink.ts";
import type { BlockStored, KvEvent, Tier } from "../../sidecar/kv-events/events.ts";
import { BLOCKS_MAX } from "../../sidecar/kv-events/limits.ts";
import { ReplicaBlocks } from "../../sidecar/kv-events/replica-blocks.ts";
import { ReplicaState } from "../../sidecar/kv-events/replica-state.ts";
import { TokenTable } from "../../sidecar/kv-events/token-table.ts";
import { makeLogger } from "../../sidecar/log.ts";

export const REPLICA: ReplicaKey = { address: "10.0.0.1:8000", rank: 0 };

/** Follows what it is told, and throws when it is told what cannot be. */
export class RememberingSink implements BlockSink {
  /** Calls as "stored gpu text" and so on, since the last look. */
  calls: string[] = [];
  /** Tiers and blocks held, by block. */
  readonly held = new Map<CachedBlock, Set<Tier>>();
  clears = 0;

  stored(_: ReplicaKey, block: CachedBlock, tier: Tier): void {
    this.calls.push(`stored ${tier} ${Buffer.from(block.bytes).toString()}`);
    const tiers = this.held.get(block) ?? new Set();
    if (tiers.has(tier)) throw new Error(`stored twice in ${tier}`);
    this.held.set(block, tiers.add(tier));
  }

  removed(_: ReplicaKey, block: CachedBlock, tier: Tier): void {
    this.calls.push(`removed ${tier} ${Buffer.from(block.bytes).toString()}`);
    const tiers = this.held.get(block);
    if (tiers?.delete(tier) !== true) throw new Error(`removed from ${tier}, where it is not`);
    if (tiers.size === 0) this.held.delete(block);
  }

  cleared(): void {
    this.calls.push("cleared");
    this.clears += 1;
    this.held.clear();
  }

  take(): string[] {
    const { calls } = this;
    this.calls = [];
    return calls;
  }
}

/** A view and all that belongs to it. */
export interface View {
  readonly blocks: ReplicaBlocks;
  readonly state: ReplicaState;
  readonly sink: RememberingSink;
}

/** A view whose state is told by `state` alone. @param tokens by default one byte a token, its own number */
export function makeView(options: { tokens?: TokenTable; blocksMax?: number } = {}): View {
  const state = new ReplicaState();
  const sink = new RememberingSink();
  const { tokens = byteTable(), blocksMax = BLOCKS_MAX } = options;
  return { state, sink, blocks: new ReplicaBlocks({ replica: REPLICA, tokens, state, sink, blocksMax }) };
}

/** Token ids 0–255 are single bytes. */
export function byteTable(): TokenTable {
  const table = new TokenTable({ dropsFirstSpace: false });
  for (let byte = 0; byte < 256; byte++) table.add(byte, Uint8Array.of(byte));
  return table;
}

/** The simulated servers' vocabulary. */
export function simulatedTable(): TokenTable {
  const table = new TokenTable({ dropsFirstSpace: false });
  for (let id = 0; id < VOCABULARY_SIZE; id++) table.add(id, tokenBytes(id));
  return table;
}

/** Blocks of two tokens that say `text`; hashes by name. */
export function storedEvent(names: string, text: string, more: Partial<BlockStored> = {}): BlockStored {
  return {
    kind: "stored",
    hashes: [...names],
    parent: null,
    tokens: [...Buffer.from(text)],
    blockTokens: 2,
    loraId: null,
    loraName: null,
    tier: "gpu",
    group: 0,
    groupKind: "full_attention",
    extraKeys: null,
    ...more,
  };
}

export function removedEvent(names: string, tier: Tier = "gpu", group = 0): KvEvent {
  return { kind: "removed", hashes: [...names], tier, group };
}

/** Copies a hash of what the view says that GPU memory holds, as "hash ×copies", sorted. */
export function heldInView(blocks: ReplicaBlocks): string[] {
  const held: string[] = [];
  blocks.forEachHeld((hash, tier, copies) => {
    if (tier === "gpu") held.push(`${nameOf(hash)} ×${copies}`);
  });
  return held.sort();
}

/** The same of what a simulated engine holds. */
export function heldInEngine(cache: KvCache, form: KvEventsConfig["hashes"]): string[] {
  const copies = new Map<string, number>();
  cache.forEachCached((hash) => {
    const wire = publishedHash(hash, form);
    const name = nameOf(typeof wire === "bigint" ? wire : Buffer.from(wire).toString("latin1"));
    copies.set(name, (copies.get(name) ?? 0) + 1);
  });
  return [...copies].map(([name, count]) => `${name} ×${count}`).sort();
}

function nameOf(hash: bigint | string): string {
  return typeof hash === "bigint" ? String(hash) : Buffer.from(hash, "latin1").toString("hex");
}

/** A log of which nothing is shown. */
export const SILENT = makeLogger("silent");

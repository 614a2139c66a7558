// KV events as the sidecar works with them, whatever engine and encoding they came in.

/**
 * Identity of a block's content and of everything before it, opaque: an integer, or bytes as a latin1 text. Equal
 * only within one engine process.
 */
export type BlockHash = bigint | string;

/**
 * Stands among a block's tokens for what is no text. No vocabulary reaches it; SGLang writes a number from it on, made of
 * a picture's hash, in place of each of its tokens (MM_PAD_SHIFT_VALUE, sglang/srt/managers/schedule_batch.py).
 */
export const MEDIA_TOKEN = 1_000_000;

/** Where an engine keeps a block, fastest first. */
export const TIERS = ["gpu", "cpu", "disk"] as const;
export type Tier = (typeof TIERS)[number];

/** What tells equal tokens of different content apart, beside the LoRA adapter: a text, or an item at a place. */
export type ExtraKey = string | readonly [item: string, offset: number];

/** Blocks are findable by their hashes from now on. */
export interface BlockStored {
  readonly kind: "stored";
  /** In order, each block the child of the one before. */
  readonly hashes: readonly BlockHash[];
  /** Block before the first; null = there is none. */
  readonly parent: BlockHash | null;
  /** `hashes.length × blockTokens` ids up to MEDIA_TOKEN; empty = the engine does not say (a block that was moved between tiers). */
  readonly tokens: readonly number[];
  readonly blockTokens: number;
  readonly loraId: number | null;
  readonly loraName: string | null;
  /** null = a medium that no request of this replica is served from. */
  readonly tier: Tier | null;
  readonly group: number;
  /** What kind of layers the group is of; null = the engine does not say. */
  readonly groupKind: string | null;
  /** One entry a block, null = none; null = none at all. */
  readonly extraKeys: readonly (readonly ExtraKey[] | null)[] | null;
}

/** One copy of each block is gone. */
export interface BlockRemoved {
  readonly kind: "removed";
  readonly hashes: readonly BlockHash[];
  readonly tier: Tier | null;
  readonly group: number;
}

/** The whole cache is gone. */
export interface BlocksCleared {
  readonly kind: "cleared";
}

export type KvEvent = BlockStored | BlockRemoved | BlocksCleared;

/** What happened in one step of an engine. */
export interface KvEventBatch {
  /** Unix seconds by the engine's clock. */
  readonly timeSeconds: number;
  readonly events: readonly KvEvent[];
  /** Data-parallel rank; null = the engine does not say. */
  readonly rank: number | null;
}

// Who is told what a replica's cache holds, and in which words: the interface to whatever makes an index of it.
import type { BlockHash, Tier } from "./events.ts";
import type { DegradedReason } from "./replica-state.ts";

/** One engine: a replica and one of its data-parallel ranks. */
export interface ReplicaKey {
  /** "ip:port" of the replica's API. */
  readonly address: string;
  /** Data-parallel rank, 0 where there is one engine. */
  readonly rank: number;
}

/** What makes equal bytes mean different KV content. Equal keys mean equal roots, over all replicas of a pool. */
export interface ChainRoot {
  readonly key: string;
  /** LoRA adapter's name, or "#" and its number where engines do not name it; null = the base model. */
  readonly lora: string | null;
  /** The request's `cache_salt`; null = none. */
  readonly cacheSalt: string | null;
  /**
   * Whether something stands in the prompt that is no text: pictures, sounds, embeddings. Which of them, the key tells:
   * a list would grow with every block of a chain.
   */
  readonly hasMedia: boolean;
}

/** A block whose place in a chain is known. Immutable but for `mark`. */
export interface CachedBlock {
  readonly hash: BlockHash;
  readonly root: ChainRoot;
  /** The block before; null = it is the first. It may be held by no tier itself. */
  readonly parent: CachedBlock | null;
  /** Tokens of the chain up to the block's end. */
  readonly endTokens: number;
  /** Bytes of the chain before the block. */
  readonly startByte: number;
  /** The text of its tokens; may begin and end inside a UTF-8 character, may be empty. */
  readonly bytes: Uint8Array;
  /** The sink's own; nobody else looks at it. */
  mark: unknown;
}

/**
 * Follows the caches of many replicas. Calls come in the order in which the engines did it, and tell changes only:
 * `stored` when the first copy comes to a tier, `removed` when the last one leaves it.
 */
export interface BlockSink {
  /** The replica is followed from now on: nothing is known of it yet. */
  followed?(replica: ReplicaKey): void;
  /** It is not followed any more; its last call. */
  left?(replica: ReplicaKey): void;
  stored(replica: ReplicaKey, block: CachedBlock, tier: Tier): void;
  removed(replica: ReplicaKey, block: CachedBlock, tier: Tier): void;
  /** All that was told of this replica is void: its cache is empty, or its contents are not known any more. */
  cleared(replica: ReplicaKey): void;
  /** Whether what is told is all there is; null = it is (EXACT), else why not. */
  state?(replica: ReplicaKey, degraded: DegradedReason | null): void;
}

/** For views that are only counted. */
export const NO_SINK: BlockSink = {
  stored: () => undefined,
  removed: () => undefined,
  cleared: () => undefined,
};

// Writes KV event batches in the shapes of real engines.
import { Encoder } from "@msgpack/msgpack";
import type { KvEventsConfig } from "./config.ts";

/** Blocks became findable by their hashes. */
export interface StoredEvent {
  readonly type: "BlockStored";
  readonly hashes: readonly number[];
  /** null = the first is a chain's first block. */
  readonly parent: number | null;
  readonly tokens: readonly number[];
  readonly blockSize: number;
  readonly lora: { readonly id: number; readonly name: string } | null;
  /** Set on a chain's first block alone. */
  readonly cacheSalt: string | null;
}

export type PublishedEvent =
  | StoredEvent
  | { readonly type: "BlockRemoved"; readonly hash: number }
  | { readonly type: "AllBlocksCleared" };

type Form = Pick<KvEventsConfig, "encoding" | "hashes">;

const encoder = new Encoder({ useBigInt64: true });

/** Odd, so that multiplying by it maps hashes of 53 bits one to one to 64: 2^64 by the golden ratio. */
const SPREAD = 0x9e3779b97f4a7c15n;

/** A hash as it is published. */
export function publishedHash(hash: number, form: KvEventsConfig["hashes"]): bigint | Uint8Array {
  const wide = BigInt.asUintN(64, BigInt(hash) * SPREAD);
  if (form === "uint64") return wide;
  if (form === "int64") return BigInt.asIntN(64, wide);
  const bytes = Buffer.alloc(32, 0xa5);
  bytes.writeBigUInt64BE(wide, 24);
  return bytes;
}

/** The payload of one message. @param timeSeconds Unix time. @param rank data-parallel rank */
export function encodeBatch(
  events: readonly PublishedEvent[],
  timeSeconds: number,
  rank: number,
  form: Form,
): Uint8Array {
  const write = form.encoding === "map" ? asMap : asArray;
  return encoder.encode([timeSeconds, events.map((event) => write(event, form.hashes)), rank]);
}

/** As vLLM 0.32.0 was seen to write: fields that are null by default are left out, the others are nil. */
function asMap(event: PublishedEvent, form: KvEventsConfig["hashes"]): object {
  switch (event.type) {
    case "BlockStored":
      return {
        type: event.type,
        block_hashes: event.hashes.map((hash) => publishedHash(hash, form)),
        parent_block_hash: event.parent === null ? null : publishedHash(event.parent, form),
        token_ids: event.tokens,
        block_size: event.blockSize,
        lora_id: event.lora?.id ?? null,
        medium: "GPU",
        lora_name: event.lora?.name ?? null,
        extra_keys: event.hashes.map((_, index) => extraKeys(event, index)),
        group_idx: 0,
        kv_cache_spec_kind: "full_attention",
      };
    case "BlockRemoved":
      return {
        type: event.type,
        block_hashes: [publishedHash(event.hash, form)],
        medium: "GPU",
        group_idx: 0,
      };
    case "AllBlocksCleared":
      return { type: event.type };
  }
}

/** As vLLM wrote before it had maps, LoRA names and extra keys (v0.10), and SGLang writes. */
function asArray(event: PublishedEvent, form: KvEventsConfig["hashes"]): unknown[] {
  switch (event.type) {
    case "BlockStored":
      return [
        event.type,
        event.hashes.map((hash) => publishedHash(hash, form)),
        event.parent === null ? null : publishedHash(event.parent, form),
        event.tokens,
        event.blockSize,
        event.lora?.id ?? null,
        "GPU",
      ];
    case "BlockRemoved":
      return [event.type, [publishedHash(event.hash, form)], "GPU"];
    case "AllBlocksCleared":
      return [event.type];
  }
}

function extraKeys({ lora, parent, cacheSalt }: StoredEvent, index: number): string[] | null {
  const keys = lora === null ? [] : [lora.name];
  if (cacheSalt !== null && parent === null && index === 0) keys.push(cacheSalt);
  return keys.length === 0 ? null : keys;
}

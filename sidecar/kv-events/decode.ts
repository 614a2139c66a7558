// Decodes the batches that engines publish: vLLM of every version with KV events, SGLang, llm-d's simulator.
//
// Field order and names: vllm/distributed/kv_events.py (v0.32.0); sglang/srt/disaggregation/kv_events.py (0.5.10 to
// 0.5.23). Older versions have fewer trailing fields, newer ones write events as maps.
import { Decoder } from "@msgpack/msgpack";
import { BadEventError, messageOf } from "../errors.ts";
import {
  type BlockHash,
  type BlockStored,
  type ExtraKey,
  type KvEvent,
  type KvEventBatch,
  MEDIA_TOKEN,
  type Tier,
} from "./events.ts";
import * as limits from "./limits.ts";
import { checkShape } from "./msgpack-shape.ts";

const STORED_FIELDS = [
  "block_hashes",
  "parent_block_hash",
  "token_ids",
  "block_size",
  "lora_id",
  "medium",
  "lora_name",
  "extra_keys",
  "group_idx",
  "kv_cache_spec_kind",
  "kv_cache_spec_sliding_window",
  "locality",
];
const REMOVED_FIELDS = ["block_hashes", "medium", "group_idx", "locality"];

/** Names of media, upper case. Others (shared and external stores) are no tier of one replica. */
const TIER_OF_MEDIUM: ReadonlyMap<string, Tier> = new Map([
  ["GPU", "gpu"],
  ["CPU", "cpu"],
  ["CPU_PINNED", "cpu"],
  ["CPU_TIER1", "cpu"],
  ["STORAGE", "disk"],
  ["DISK", "disk"],
]);

const TOKEN_ID_LIMIT = 1n << 63n;

const decoder = new Decoder({
  useBigInt64: true,
  maxStrLength: limits.TEXT_BYTES_MAX,
  maxBinLength: limits.TEXT_BYTES_MAX,
  maxExtLength: 0,
  maxArrayLength: limits.TOKENS_PER_EVENT_MAX,
  maxMapLength: 64,
});

/**
 * One message's payload.
 * @throws BadEventError naming the field, its value and what was expected; then nothing of the batch counts
 */
export function decodeBatch(payload: Uint8Array): KvEventBatch {
  if (payload.length > limits.MESSAGE_BYTES_MAX) {
    throw new BadEventError(
      "message",
      `${payload.length} bytes`,
      `at most ${limits.MESSAGE_BYTES_MAX} bytes`,
    );
  }
  checkShape(payload);
  let raw: unknown;
  try {
    raw = decoder.decode(payload);
  } catch (error) {
    throw new BadEventError(
      "message",
      `${payload.length} bytes`,
      `MessagePack within limits: ${messageOf(error)}`,
    );
  }
  const batch = fieldsOf(raw, ["ts", "events", "data_parallel_rank"], "batch", 0);
  const timeSeconds = Number(batch("ts") ?? Number.NaN);
  if (!Number.isFinite(timeSeconds)) throw new BadEventError("ts", batch("ts"), "a time in seconds");
  const events = listOf(batch("events"), "events", limits.EVENTS_PER_BATCH_MAX);
  return {
    timeSeconds,
    events: events.map((event, index) => readEvent(event, `events[${index}]`)),
    rank: optional(batch("data_parallel_rank"), (value) => wholeNumber(value, "data_parallel_rank", 65_535)),
  };
}

type Fields = (name: string) => unknown;

/**
 * Fields of a map, or of an array whose field `first` is the first of `names`. A missing field is undefined, and so is
 * one that arrays do not have.
 */
function fieldsOf(value: unknown, names: readonly string[], what: string, first: number): Fields {
  if (Array.isArray(value)) {
    return (name) => (names.includes(name) ? (value[names.indexOf(name) + first] as unknown) : undefined);
  }
  if (isMap(value)) return (name) => value[name];
  throw new BadEventError(what, value, "an array or a map");
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

function readEvent(value: unknown, where: string): KvEvent {
  const tag = Array.isArray(value) ? (value[0] as unknown) : isMap(value) ? value["type"] : undefined;
  switch (tag) {
    case "BlockStored":
      return readStored(fieldsOf(value, STORED_FIELDS, where, 1), where);
    case "BlockRemoved": {
      const field = fieldsOf(value, REMOVED_FIELDS, where, 1);
      return { kind: "removed", hashes: hashesOf(field, where), ...placeOf(field, where) };
    }
    case "AllBlocksCleared":
      return { kind: "cleared" };
    default:
      throw new BadEventError(`${where}.type`, tag, "BlockStored, BlockRemoved or AllBlocksCleared");
  }
}

function readStored(field: Fields, where: string): KvEvent {
  const hashes = hashesOf(field, where);
  const tokens = tokensOf(field("token_ids"), `${where}.token_ids`);
  const blockTokens = wholeNumber(field("block_size"), `${where}.block_size`, limits.BLOCK_TOKENS_MAX);
  const groupKind = optional(field("kv_cache_spec_kind"), (kind) =>
    textOf(kind, `${where}.kv_cache_spec_kind`),
  );
  // Groups without full attention leave blocks out; their tokens are not looked at.
  const isExact = tokens.length === hashes.length * blockTokens;
  const parent = parentOf(field("parent_block_hash"), `${where}.parent_block_hash`);
  const loraName = optional(field("lora_name"), (name) =>
    isMap(name) ? null : textOf(name, `${where}.lora_name`),
  );
  if (tokens.length > 0 && !isExact && isFullAttention(groupKind)) {
    const expected = `${hashes.length} blocks of ${blockTokens}`;
    throw new BadEventError(`${where}.token_ids`, `${tokens.length} tokens`, expected);
  }
  return {
    kind: "stored",
    hashes,
    parent,
    tokens: isExact ? tokens : [],
    blockTokens,
    loraId: optional(field("lora_id"), (id) => wholeNumber(id, `${where}.lora_id`, Number.MAX_SAFE_INTEGER)),
    loraName,
    ...placeOf(field, where),
    groupKind,
    extraKeys:
      optional(field("extra_keys"), (keys) => extraKeysOf(keys, hashes.length, `${where}.extra_keys`)) ??
      saltKeys(saltOf(field, where), parent === null, loraName, hashes.length),
  };
}

/** SGLang names a block's salt by a field of its own; 0.5.18, in arrays, in a map where newer ones have the adapter. */
function saltOf(field: Fields, where: string): string | null {
  const metadata = field("lora_name");
  const salt = isMap(metadata) ? metadata["cache_salt"] : field("cache_salt");
  return optional(salt, (value) => textOf(value, `${where}.cache_salt`));
}

/** A salt as vLLM puts it: behind the adapter's name, in the first block of a chain alone. */
function saltKeys(
  salt: string | null,
  isFirst: boolean,
  loraName: string | null,
  blocks: number,
): BlockStored["extraKeys"] {
  if (salt === null || !isFirst) return null;
  const keys = loraName === null ? [salt] : [loraName, salt];
  return Array.from({ length: blocks }, (_, block) => (block === 0 ? keys : null));
}

/**
 * Whether a prefix of every length can be found in a group of this kind, by the names of vLLM's KVCacheSpecKind;
 * null = an engine that does not say, and has one group.
 */
export function isFullAttention(groupKind: string | null): boolean {
  return (
    groupKind === null ||
    groupKind === "full_attention" ||
    groupKind === "mla_attention" ||
    groupKind === "sink_full_attention"
  );
}

function placeOf(field: Fields, where: string): { tier: Tier | null; group: number } {
  const medium = optional(field("medium"), (value) => textOf(value, `${where}.medium`));
  const isRemote = field("locality") === "REMOTE";
  return {
    tier: isRemote ? null : medium === null ? "gpu" : (TIER_OF_MEDIUM.get(medium.toUpperCase()) ?? null),
    group:
      optional(field("group_idx"), (g) => wholeNumber(g, `${where}.group_idx`, limits.GROUPS_MAX - 1)) ?? 0,
  };
}

function hashesOf(field: Fields, where: string): BlockHash[] {
  const list = listOf(field("block_hashes"), `${where}.block_hashes`, limits.HASHES_PER_EVENT_MAX);
  // The place is named only where it is wanted: most messages are hashes.
  for (let i = 0; i < list.length; i++) {
    if (typeof list[i] !== "bigint") list[i] = hashOf(list[i], where, i);
  }
  return list as BlockHash[];
}

/** llm-d's simulator writes 0 where vLLM writes nil. */
function parentOf(value: unknown, where: string): BlockHash | null {
  return optional(value, (hash) => (hash === 0 || hash === 0n ? null : hashOf(hash, where, null)));
}

/** @param index of a list of block hashes; null = `where` is the field itself */
function hashOf(value: unknown, where: string, index: number | null): BlockHash {
  if (typeof value === "bigint") return value;
  if (typeof value === "number" && Number.isSafeInteger(value)) return BigInt(value);
  if (value instanceof Uint8Array && value.length > 0 && value.length <= limits.HASH_BYTES_MAX) {
    return Buffer.from(value.buffer, value.byteOffset, value.length).toString("latin1");
  }
  const field = index === null ? where : `${where}.block_hashes[${index}]`;
  throw new BadEventError(field, value, `an integer or 1 to ${limits.HASH_BYTES_MAX} bytes`);
}

function tokensOf(value: unknown, where: string): number[] {
  const tokens = listOf(value, where, limits.TOKENS_PER_EVENT_MAX);
  for (let i = 0; i < tokens.length; i++) {
    if (!isTextToken(tokens[i])) tokens[i] = otherToken(tokens[i], `${where}[${i}]`);
  }
  return tokens as number[];
}

function isTextToken(id: unknown): id is number {
  return typeof id === "number" && Number.isInteger(id) && id >= 0 && id < MEDIA_TOKEN;
}

/**
 * SGLang with EAGLE caches pairs of neighbours and writes each as [token, next one]: the first is the pair's own. In the
 * place of pictures it has numbers of up to 63 bits.
 */
function otherToken(entry: unknown, where: string): number {
  const id: unknown = Array.isArray(entry) && entry.length === 2 ? entry[0] : entry;
  if (isTextToken(id)) return id;
  const isLarge = typeof id === "bigint" ? id >= 0n && id < TOKEN_ID_LIMIT : Number.isInteger(id);
  if (isLarge && Number(id) >= MEDIA_TOKEN) return MEDIA_TOKEN;
  throw new BadEventError(where, id, "a token id from 0 to 9223372036854775807");
}

function extraKeysOf(value: unknown, blocks: number, where: string): (readonly ExtraKey[] | null)[] {
  const list = listOf(value, where, limits.HASHES_PER_EVENT_MAX);
  if (list.length !== blocks)
    throw new BadEventError(where, `${list.length} entries`, `${blocks}, one a block`);
  return list.map((entry, block) =>
    optional(entry, (keys) => {
      const inner = listOf(keys, `${where}[${block}]`, limits.EXTRA_KEYS_MAX);
      return inner.map((key, index) => extraKeyOf(key, `${where}[${block}][${index}]`));
    }),
  );
}

/** A text (salt, adapter, digest, or an older version's multimodal hash), or [multimodal hash, offset]. */
function extraKeyOf(value: unknown, where: string): ExtraKey {
  if (typeof value === "string") return value;
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (Array.isArray(value) && value.length === 2) {
    const [item, offset] = value as unknown[];
    if (typeof item === "string" && Number.isSafeInteger(offset)) return [item, offset as number];
  }
  throw new BadEventError(where, value, "a text, bytes, or a text and an offset");
}

function listOf(value: unknown, where: string, max: number): unknown[] {
  if (!Array.isArray(value)) throw new BadEventError(where, value, "an array");
  if (value.length > max) throw new BadEventError(where, `${value.length} entries`, `at most ${max}`);
  return value as unknown[];
}

function optional<T>(value: unknown, read: (value: unknown) => T): T | null {
  return value === undefined || value === null ? null : read(value);
}

function textOf(value: unknown, where: string): string {
  if (typeof value === "string") return value;
  throw new BadEventError(where, value, "a text");
}

function wholeNumber(value: unknown, where: string, max: number): number {
  const number = typeof value === "bigint" ? Number(value) : value;
  if (typeof number === "number" && Number.isInteger(number) && number >= 0 && number <= max) return number;
  throw new BadEventError(where, value, `a whole number from 0 to ${max}`);
}

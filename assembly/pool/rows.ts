// What the picker knows of every endpoint, as columns: one row a pool slot, one f64 or u32 column a fact.
import { POOL_ENDPOINTS_MAX, ROWS_MAX, MODELS_MAX, LORAS_MAX } from "../wire/limits";

// f64 columns. NaN = this fact was never published for this row, which is not the same as zero.
/** Requests queued in the engine, from its metrics. */
export const COLUMN_WAITING: u32 = 0;
/** Requests running in the engine, from its metrics. */
export const COLUMN_RUNNING: u32 = 1;
/** KV cache in use, 0–1, from the engine's metrics. */
export const COLUMN_KV_USAGE: u32 = 2;
/** GPU busy, 0–1, from DCGM. */
export const COLUMN_GPU_UTILIZATION: u32 = 3;
/** GPU framebuffer in use, 0–1, from DCGM. */
export const COLUMN_GPU_MEMORY: u32 = 4;
/** KV cache size in tokens; 0 = unknown. */
export const COLUMN_KV_CAPACITY_TOKENS: u32 = 5;
/** Tokens of one KV block; 0 = unknown. */
export const COLUMN_BLOCK_TOKENS: u32 = 6;
/** LoRA adapters the engine holds at once. */
export const COLUMN_LORA_MAX: u32 = 7;
/** Requests in flight there through any worker, by our own reservations. */
export const COLUMN_INFLIGHT_REQUESTS: u32 = 8;
/** Uncached prompt tokens in flight there through any worker, by our own reservations. */
export const COLUMN_INFLIGHT_TOKENS: u32 = 9;
/** For the request being decided: prompt tokens expected in this row's cache. */
export const COLUMN_MATCHED_TOKENS: u32 = 10;
/** For the request being decided: prompt tokens that this row would have to compute. */
export const COLUMN_UNCACHED_TOKENS: u32 = 11;
/** When a cold prompt last went there (ms, own clock); NaN = never. For no-hit-lru. */
export const COLUMN_COLD_USED_MS: u32 = 12;
/** Requests in flight there, through any worker, that have had no first token. */
export const COLUMN_PREFILLING: u32 = 13;
/** Since when the engine works on what now heads its queue, as far as our requests tell (ms, own clock); 0 = idle. */
export const COLUMN_HEAD_SINCE_MS: u32 = 14;
/** Uncached tokens that were in flight there at that time. */
export const COLUMN_HEAD_TOKENS: u32 = 15;
/** When the last first token came from there, through any worker (ms, own clock); 0 = never. */
export const COLUMN_FIRST_TOKEN_MS: u32 = 16;
/** Most requests in flight there since the last snapshot, and between the two before. */
export const COLUMN_INFLIGHT_PEAK: u32 = 17;
export const COLUMN_INFLIGHT_PEAK_BEFORE: u32 = 18;
/** Requests at the engine, by its metrics, that none of our workers sent. */
export const COLUMN_FOREIGN_REQUESTS: u32 = 19;
/** Tightest wish for the time between tokens among the requests in flight there, ms; 0 = none. */
export const COLUMN_TPOT_SLO_MS: u32 = 20;
/** Since when there is something to prefill there without a pause, through any worker (ms, own clock); 0 = there is not. */
export const COLUMN_BUSY_SINCE_MS: u32 = 21;
/** Uncached tokens whose computation ended there for the other workers, counted from when each was last idle there. */
export const COLUMN_OTHERS_COMPUTED: u32 = 22;
/** Prompt tokens, cached ones included, of all requests in flight there through any worker: what their KV takes. */
export const COLUMN_CONTEXT_TOKENS: u32 = 23;
/** Of the requests in flight there those that only compute a prompt, for another endpoint to answer it. */
export const COLUMN_LEGS: u32 = 24;
export const F64_COLUMNS: u32 = 25;

// u32 columns.
/** ENDPOINT_* flags of wire/snapshot.ts; 0 = no endpoint in this row. */
export const COLUMN_FLAGS: u32 = 0;
/** ROLE_* bits. */
export const COLUMN_ROLES: u32 = 1;
/** Generation of the endpoint in this row, 1–65535. */
export const COLUMN_GENERATION: u32 = 2;
/** Models this endpoint serves (base and LoRA names): entries used in modelHashes(row). */
export const COLUMN_MODEL_COUNT: u32 = 3;
export const COLUMN_LORA_ACTIVE_COUNT: u32 = 4;
export const COLUMN_LORA_WAITING_COUNT: u32 = 5;
export const U32_COLUMNS: u32 = 6;

const f64Rows: usize = memory.data(25 * 4096 * 8, 16);
const u32Rows: usize = memory.data(6 * 4096 * 4, 16);
const modelHashRows: usize = memory.data(4096 * 64 * 8, 16);
const loraActiveRows: usize = memory.data(4096 * 32 * 8, 16);
const loraWaitingRows: usize = memory.data(4096 * 32 * 8, 16);

/** Address of an f64 column: f64[ROWS_MAX]. */
export function f64Column(column: u32): usize {
  return f64Rows + <usize>column * (ROWS_MAX * 8);
}

/** Address of a u32 column: u32[ROWS_MAX]. */
export function u32Column(column: u32): usize {
  return u32Rows + <usize>column * (ROWS_MAX * 4);
}

export function rowF64(column: u32, row: u32): f64 {
  return load<f64>(f64Column(column) + ((<usize>row) << 3));
}

export function setRowF64(column: u32, row: u32, value: f64): void {
  store<f64>(f64Column(column) + ((<usize>row) << 3), value);
}

export function rowU32(column: u32, row: u32): u32 {
  return load<u32>(u32Column(column) + ((<usize>row) << 2));
}

export function setRowU32(column: u32, row: u32, value: u32): void {
  store<u32>(u32Column(column) + ((<usize>row) << 2), value);
}

/** Row of a pool's slot. */
export function rowOf(pool: u32, slot: u32): u32 {
  return pool * POOL_ENDPOINTS_MAX + slot;
}

/** u64[MODELS_MAX]: hashBytes() of the names of the models served by a row. */
export function modelHashes(row: u32): usize {
  return modelHashRows + <usize>row * (MODELS_MAX * 8);
}

/** u64[LORAS_MAX]: hashBytes() of the names of the adapters loaded at a row. */
export function loraActiveHashes(row: u32): usize {
  return loraActiveRows + <usize>row * (LORAS_MAX * 8);
}

/** u64[LORAS_MAX]: hashBytes() of the names of the adapters waiting at a row. */
export function loraWaitingHashes(row: u32): usize {
  return loraWaitingRows + <usize>row * (LORAS_MAX * 8);
}

// The pool snapshot: what the sidecar knows of one pool, pushed whole. Constants only; little-endian.
//
//   POST /v1/pools/<name>/snapshot    body = header · endpoint records · string references · UTF-8 bytes
//
//   ┌ header, 64 bytes ────────────────────────────────────────────────────────────────┐
//   │ 0  u32 magic "EPS1"      4 u16 version   6 u16 header bytes (64)                  │
//   │ 8  u32 checksum of [12, total)          12 u32 total bytes                        │
//   │ 16 u64 snapshot id (sidecar's, for /status only; age counts from receipt)         │
//   │ 24 u32 endpoint count    28 u32 record bytes (128)   32…63 zero                   │
//   ├ records, endpoint count × 128 bytes, slots strictly ascending ────────────────────┤
//   │ 0  u16 slot  2 u16 generation  4 u32 flags      8 u32 roles (bit mask)            │
//   │ 12 u32 address offset  16 u32 address bytes    20 u32 name offset  24 u32 bytes   │
//   │ 28 u32 waiting  32 u32 running   36 f32 KV usage 0–1   40 f32 GPU utilisation 0–1 │
//   │ 44 f32 GPU memory used 0–1   48 u32 metrics age ms   52 u32 KV capacity tokens    │
//   │ 56 u32 block tokens   60 u32 max LoRA   64 u32 data-parallel rank (~0 = none)     │
//   │ 68 u32 models refs offset   72 u16 models   74 u16 labels                         │
//   │ 76 u32 labels refs offset   80 u32 active LoRA refs   84 u32 waiting LoRA refs    │
//   │ 88 u16 active LoRAs   90 u16 waiting LoRAs   92 u32 preemptions (total, wraps)    │
//   │ 96 f64 prompt tokens (total)   104 f64 generation tokens (total)   112…127 zero   │
//   ├ references: (u32 offset, u32 bytes) each; a label is two: key, value ─────────────┤
//   └ bytes ───────────────────────────────────────────────────────────────────────────┘
//
// All offsets count from the start of the snapshot. A slot keeps its endpoint for as long as that is
// known; the generation (1–65535) changes whenever what is behind the slot lost its KV cache: another
// address, or a restart (its counters fell).
// Checksum, over 32-bit words (the last one padded with zeros): h = 0x811C9DC5; h = rotl(h ^ word, 5) × 0x9E3779B1.

export const SNAPSHOT_MAGIC = 0x31535045;
export const SNAPSHOT_VERSION = 1;
export const SNAPSHOT_HEADER_BYTES = 64;
export const SNAPSHOT_RECORD_BYTES = 128;

export const SNAPSHOT_AT_MAGIC = 0;
export const SNAPSHOT_AT_VERSION = 4;
export const SNAPSHOT_AT_HEADER_BYTES = 6;
export const SNAPSHOT_AT_CHECKSUM = 8;
export const SNAPSHOT_AT_TOTAL_BYTES = 12;
export const SNAPSHOT_AT_ID = 16;
export const SNAPSHOT_AT_ENDPOINTS = 24;
export const SNAPSHOT_AT_RECORD_BYTES = 28;
/** The checksum covers the bytes from here on. */
export const SNAPSHOT_CHECKED_FROM = 12;
export const SNAPSHOT_CHECKSUM_SEED = 0x811c9dc5;
export const SNAPSHOT_CHECKSUM_PRIME = 0x9e3779b1;
export const SNAPSHOT_CHECKSUM_ROTATE = 5;

export const ENDPOINT_AT_SLOT = 0;
export const ENDPOINT_AT_GENERATION = 2;
export const ENDPOINT_AT_FLAGS = 4;
export const ENDPOINT_AT_ROLES = 8;
export const ENDPOINT_AT_ADDRESS = 12;
export const ENDPOINT_AT_ADDRESS_BYTES = 16;
export const ENDPOINT_AT_NAME = 20;
export const ENDPOINT_AT_NAME_BYTES = 24;
export const ENDPOINT_AT_WAITING = 28;
export const ENDPOINT_AT_RUNNING = 32;
export const ENDPOINT_AT_KV_USAGE = 36;
export const ENDPOINT_AT_GPU_UTILIZATION = 40;
export const ENDPOINT_AT_GPU_MEMORY = 44;
export const ENDPOINT_AT_METRICS_AGE_MS = 48;
export const ENDPOINT_AT_KV_CAPACITY_TOKENS = 52;
export const ENDPOINT_AT_BLOCK_TOKENS = 56;
export const ENDPOINT_AT_LORA_MAX = 60;
export const ENDPOINT_AT_RANK = 64;
export const ENDPOINT_AT_MODELS = 68;
export const ENDPOINT_AT_MODEL_COUNT = 72;
export const ENDPOINT_AT_LABEL_COUNT = 74;
export const ENDPOINT_AT_LABELS = 76;
export const ENDPOINT_AT_LORA_ACTIVE = 80;
export const ENDPOINT_AT_LORA_WAITING = 84;
export const ENDPOINT_AT_LORA_ACTIVE_COUNT = 88;
export const ENDPOINT_AT_LORA_WAITING_COUNT = 90;
export const ENDPOINT_AT_PREEMPTIONS = 92;
export const ENDPOINT_AT_PROMPT_TOKENS = 96;
export const ENDPOINT_AT_GENERATION_TOKENS = 104;

/** The endpoint may be picked. */
export const ENDPOINT_READY = 1;
/** The endpoint keeps its streams and gets no new ones. */
export const ENDPOINT_DRAINING = 2;
/** waiting, running and KV usage were read at least once. */
export const ENDPOINT_HAS_LOAD = 4;
/** GPU utilisation and memory were read at least once. */
export const ENDPOINT_HAS_GPU = 8;
/** LoRA lists were read at least once. */
export const ENDPOINT_HAS_LORA = 16;

/** Role bits; an endpoint without a role label has ROLE_DECODE (llm-d's rule). */
export const ROLE_DECODE = 1;
export const ROLE_PREFILL = 2;
export const ROLE_ENCODE = 4;

// What a configuration says of the stages of one decision: which of them run, and how a prefill elsewhere goes.

//   ┌ stages, 128 bytes ─────────────────────────────────────────────────────────────────────┐
//   │ 0 u8 prefill runs   1 u8 encode runs   2 u8 prefill comes first   3 u8 mode             │
//   │ 4 u8 protocol   5 u8 decode retry   6 u8 data-parallel   8 u32 prefill decider (0 none) │
//   │ 12 u32 primary port (0 = as it is)   16 f64 non-cached tokens   24 f64 prompt tokens    │
//   │ 32 u32 body bytes   36 u32 cluster (Text)   40 u32 timeout ms   44 u32 bootstrap port   │
//   │ 48 f64 transfer bytes per ms   56 f64 KV bytes per token   64 f64 min gain ms           │
//   └─────────────────────────────────────────────────────────────────────────────────────────┘
export const STAGES_BYTES: usize = 128;
export const STAGES_PREFILL: usize = 0;
export const STAGES_ENCODE: usize = 1;
export const STAGES_PREFILL_FIRST: usize = 2;
export const STAGES_MODE: usize = 3;
export const STAGES_PROTOCOL: usize = 4;
export const STAGES_DECODE_RETRY: usize = 5;
export const STAGES_DATA_PARALLEL: usize = 6;
export const STAGES_DECIDER: usize = 8;
export const STAGES_PRIMARY_PORT: usize = 12;
export const STAGES_NON_CACHED: usize = 16;
export const STAGES_PROMPT: usize = 24;
export const STAGES_BODY_BYTES: usize = 32;
export const STAGES_CLUSTER: usize = 36;
export const STAGES_TIMEOUT_MS: usize = 40;
export const STAGES_BOOTSTRAP_PORT: usize = 44;
export const STAGES_TRANSFER_RATE: usize = 48;
export const STAGES_KV_BYTES: usize = 56;
export const STAGES_MIN_GAIN_MS: usize = 64;

/** STAGES_MODE: the decode pod's sidecar is told the prefill endpoint by a header. */
export const MODE_HEADERS: u32 = 0;
/** STAGES_MODE: the filter calls the prefill endpoint itself. */
export const MODE_INLINE: u32 = 1;

/** STAGES_PROTOCOL: vLLM's NIXL connector, one leg after the other. */
export const PROTOCOL_NIXL: u32 = 0;
/** STAGES_PROTOCOL: SGLang, both legs at once. */
export const PROTOCOL_SGLANG: u32 = 1;

// What a worker learnt of the endpoints' speed, in shared data, for the other workers and /status. Constants only.
//
//   key "epp1/rates/<n>", n = the worker's cell; one writer (the cell's owner)
//
//   ┌ header, 32 bytes ────────────────────────────────────────────────────────┐
//   │ 0 u32 magic "EPR1"   4 u16 version   6 u16 pools   8 u64 owner            │
//   │ 16 u64 written ms    24 u32 entries   28 u32 zero                         │
//   ├ per pool: u64 hash of its name, u32 entries, u32 zero ───────────────────┤
//   │   per entry, 64 bytes: u16 slot  u16 generation  u32 zero                 │
//   │     8 f32 prefill regime ms ago   12 f32 TPOT regime ms ago (−1 = none)   │
//   │     16 f32 prefill sums[6]   40 f32 TPOT sums[6]                          │
//   └──────────────────────────────────────────────────────────────────────────┘
//
// Sums are those of a weighted least-squares line: samples, Σw, Σwx, Σwy, Σwx², Σwxy. Those of several workers add up.
// They outlive their writer: until RATES_LAPSE_MS a worker that comes later learns from them.

export const RATES_MAGIC = 0x31525045;
export const RATES_VERSION = 1;
export const RATES_HEADER_BYTES = 32;
export const RATES_AT_VERSION = 4;
export const RATES_AT_POOLS = 6;
export const RATES_AT_OWNER = 8;
export const RATES_AT_WRITTEN = 16;
export const RATES_AT_ENTRIES = 24;
export const RATES_POOL_BYTES = 16;
export const RATES_ENTRY_BYTES = 64;
export const RATES_AT_REGIMES = 8;
export const RATES_AT_SUMS = 16;
/** Endpoints one worker tells of; the rest stay its own knowledge and are counted. */
export const RATES_ENTRIES_MAX = 1024;
export const RATES_BYTES_MAX = 65824;
/** A worker that learnt something tells it, and reads what the others did, this often. */
export const RATES_PERIOD_MS = 500;
export const RATES_LAPSE_MS = 600000;

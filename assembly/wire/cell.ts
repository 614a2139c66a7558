// A worker's cell in shared data: its reservations, the hosts it set aside, its counters. Constants only.
//
//   key "epp1/cell/<n>", n = 0…WORKERS_MAX−1; one writer (the owner), read by every worker and by /status.
//
//   ┌ header, 640 bytes ────────────────────────────────────────────────────────┐
//   │ 0 u32 magic "EPC1"   4 u16 version   6 u16 pools   8 u64 owner (random)   │
//   │ 16 u64 heartbeat ms  24 u64 journal head (bytes)  32 u32 entries  36 …63  │
//   │ 64 u64 counters[72]                                                       │
//   ├ per pool: u64 hash of its name, u32 entries, u32 zero ────────────────────┤
//   │   per entry, 40 bytes: u16 slot  u16 generation  u16 requests  u16 failures│
//   │     8 u32 uncached tokens   12 u32 set aside for ms                        │
//   │     16 f32 first token ms ago   20 f32 prefilling for ms                   │
//   │     24 f32 tightest TPOT wish ms   28 u16 prefilling   30 u16 legs         │
//   │     32 u32 tokens computed   36 u32 context tokens                         │
//   └ (set aside: from the heartbeat on; 0 = in service) ───────────────────────┘
//
// Tokens are uncached prompt tokens of requests that have had no first token ("prefilling"). "First token ago" is
// the time from the last first token of the owner's requests there to the heartbeat, −1 = none yet; "prefilling for"
// that from when the owner last had nothing to prefill there; the wish is 0 where no request has one. Tokens computed
// count from when the entry came into the cell. Context tokens are all prompt tokens of its requests, cached ones too.
// Legs are those requests that only compute a prompt, for another endpoint to answer it.
//
// A cell whose heartbeat is older than CELL_LAPSE_MS counts for nothing and may be claimed by another.

export const CELL_MAGIC = 0x31435045;
export const CELL_VERSION = 3;
export const CELL_HEADER_BYTES = 640;
export const CELL_AT_VERSION = 4;
export const CELL_AT_POOLS = 6;
export const CELL_AT_OWNER = 8;
export const CELL_AT_HEARTBEAT = 16;
export const CELL_AT_JOURNAL = 24;
export const CELL_AT_ENTRIES = 32;
export const CELL_AT_COUNTERS = 64;
export const CELL_COUNTERS = 72;
export const CELL_POOL_BYTES = 16;
export const CELL_ENTRY_BYTES = 40;
/** Entries one cell carries; a worker with more busy endpoints publishes the first ones and counts the rest. */
export const CELL_ENTRIES_MAX = 1024;
export const CELL_BYTES_MAX = 41856;
/** A worker publishes at least this often. */
export const CELL_HEARTBEAT_MS = 500;
export const CELL_LAPSE_MS = 3000;

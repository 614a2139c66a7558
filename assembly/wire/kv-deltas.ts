// What the engines' caches hold: changes of the exact index, pushed in order. Constants only; little-endian.
//
//   POST /v1/pools/<name>/kv    body = header · sections
//
//   ┌ header, 64 bytes ────────────────────────────────────────────────────────────────┐
//   │ 0  u32 magic "EPK1"      4 u16 version   6 u16 header bytes (64)                  │
//   │ 8  u32 checksum of [12, total), as in snapshot.ts       12 u32 total bytes        │
//   │ 16 u64 session: random, not 0; a new one voids all that was told before           │
//   │ 24 u32 sequence: 1, 2, 3 … within the session   28 u32 sections   32…63 zero      │
//   ├ section, 16 bytes and its payload, a multiple of 8 bytes ─────────────────────────┤
//   │ 0 u8 operation  1 u8 tier  2 u16 slot  4 u16 generation  6 u16 zero               │
//   │ 8 u32 entries   12 u32 zero                                                       │
//   │   KV_STORE     u64 key × entries, then u32 tokens × entries, padded to 8 bytes    │
//   │   KV_REMOVE    u64 key × entries                                                  │
//   │   KV_BEGIN     u64 digest of the copy that follows; entries = how many it has     │
//   │   KV_EXACT     u64 digest of all that the slot holds now; entries = how many      │
//   │   KV_DEGRADED  none                                                               │
//   └───────────────────────────────────────────────────────────────────────────────────┘
//
// An entry is a cell: 64 bytes of rendered prompt, counted from its start, the last of them at the end of the text that
// the key stands for (prefix/cells.ts). Its tokens are those that the engine counts as cached in a prompt that agrees
// up to there, 1 to KV_TOKENS_MAX: 1 where no block ends yet (a first block is often longer than a cell), for a cell is
// told only together with all those before it, by which it is searched for. Slot and generation are the snapshot's.
// KV_STORE of a key that is there sets its tokens and tier anew. KV_BEGIN empties the slot, then come its KV_STORE sections, over as many batches as it takes,
// then KV_EXACT; nothing else of that slot comes between. A worker whose slot has just that digest passes over them.
// KV_DEGRADED or another KV_BEGIN of the slot ends a copy too: what has come of it stays until that KV_BEGIN.
// After KV_EXACT the slot is exact where digest and count agree, until KV_DEGRADED or a change of its generation;
// KV_STORE and KV_REMOVE keep it exact. KV_DEGRADED keeps the entries: KV_STORE and KV_REMOVE go on, and KV_EXACT may
// follow without another copy. A batch that comes again, with the sequence of the last one, is answered and not applied.
// Digest: xor over the entries of mixPair(key, tier << 30 | tokens).
//
// The answer is {"sequence":n,"wanted":[slot,…]}: what the gateway has, and the slots that a worker lacks or holds
// differently, which are to be sent again from KV_BEGIN on. 409: the session is not known, begin another. 503: some worker is
// KV_SEGMENTS batches behind, send the same batch again later.
//
//   keys "epp1/kvhead/<pool>"  u64 session, u32 sequence, u32 zero: the last batch taken
//        "epp1/kv/<n>/<pool>"   batch, n = sequence mod KV_SEGMENTS
//        "epp1/kvat/<cell>"     how far a worker is: u64 owner, u64 heartbeat ms, then KV_POSITION_BYTES a pool:
//                               u64 hash of its name, u64 session, u32 sequence, u32 entries,
//                               u8[32] wanted, u8[32] exact, u8[32] degraded (a bit a slot), 8 zero

export const KV_MAGIC = 0x314b5045;
export const KV_WIRE_VERSION = 1;
export const KV_HEADER_BYTES = 64;
export const KV_SECTION_BYTES = 16;

export const KV_AT_MAGIC = 0;
export const KV_AT_VERSION = 4;
export const KV_AT_HEADER_BYTES = 6;
export const KV_AT_CHECKSUM = 8;
export const KV_AT_TOTAL_BYTES = 12;
export const KV_AT_SESSION = 16;
export const KV_AT_SEQUENCE = 24;
export const KV_AT_SECTIONS = 28;

export const KV_SECTION_AT_OPERATION = 0;
export const KV_SECTION_AT_TIER = 1;
export const KV_SECTION_AT_SLOT = 2;
export const KV_SECTION_AT_GENERATION = 4;
export const KV_SECTION_AT_ENTRIES = 8;

export const KV_STORE = 1;
export const KV_REMOVE = 2;
export const KV_BEGIN = 3;
export const KV_EXACT = 4;
export const KV_DEGRADED = 5;

/** Tiers: the fastest that holds the cell. */
export const KV_TIER_GPU = 0;
export const KV_TIER_CPU = 1;
export const KV_TIER_DISK = 2;

/** Bytes of prompt text that one entry stands for. */
export const KV_CELL_BYTES = 64;
/** Most tokens of an entry: 30 bits. */
export const KV_TOKENS_MAX = 1073741823;
/** Bytes of one batch. The sidecar sends no larger one, the gateway refuses it with 413. */
export const KV_BATCH_BYTES_MAX = 65536;
/** Batches that are kept for workers that are behind; further ones are refused with 503 until all have read. */
export const KV_SEGMENTS = 32;
/** Entries of all pools and endpoints together; the sidecar leaves further endpoints DEGRADED(index-full). */
export const KV_ENTRIES_MAX = 1000000;
export const KV_POSITION_HEADER_BYTES = 16;
export const KV_POSITION_BYTES = 128;
export const KV_POSITION_AT_SESSION = 8;
export const KV_POSITION_AT_SEQUENCE = 16;
export const KV_POSITION_AT_ENTRIES = 20;
export const KV_POSITION_AT_WANTED = 24;
export const KV_POSITION_AT_EXACT = 56;
export const KV_POSITION_AT_DEGRADED = 88;
/** A worker tells how far it is at least this often; one that was not heard for KV_LAPSE_MS is not waited for. */
export const KV_HEARTBEAT_MS = 500;
export const KV_LAPSE_MS = 3000;
/**
 * A sidecar sends a batch with KV_EXACT of its slots at least every KV_HEARTBEAT_MS. After so long without any the slots
 * count as degraded until their next KV_EXACT: nobody tells what the engines have given up since.
 */
export const KV_SILENT_MS = 3000;

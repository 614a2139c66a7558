// A worker's journal in shared data: what it stored in its prefix index, for the others to replay. Constants only.
//
//   keys "epp1/journal/<cell>/<segment>", segment = (position / JOURNAL_SEGMENT_BYTES) mod JOURNAL_SEGMENTS
//
//   ┌ segment ─────────────────────────────────────────────────────────────────┐
//   │ 0 u64 position of its first record   8 u32 bytes used   12 u32 zero       │
//   │ 16 records: ┌ u16 kind  u16 slot  u16 generation  u16 keys                │
//   │             │ u64 hash of the pool's name   u32 new tokens   u32 zero     │
//   │             └ u64 keys[]                                                  │
//   └──────────────────────────────────────────────────────────────────────────┘
//
// Positions count record bytes since the owner claimed its cell; a record never spans two segments: the
// rest of a segment is skipped. A reader that fell more than a ring behind starts at the oldest segment
// that is left and counts the overrun.

export const JOURNAL_SEGMENTS = 32;
export const JOURNAL_SEGMENT_BYTES = 4096;
export const JOURNAL_HEADER_BYTES = 16;
export const JOURNAL_RECORD_BYTES = 24;
/** The endpoint now holds these keys. */
export const JOURNAL_STORED = 1;
/** The endpoint does not hold these keys after all. */
export const JOURNAL_REMOVED = 2;
/** The endpoint was sent a prompt that no endpoint held (no keys follow when the prompt was short). */
export const JOURNAL_COLD = 4;

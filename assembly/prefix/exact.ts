// The exact entries: which cells of rendered prompts (cells.ts) each engine holds, as it tells itself.
import { INDEX_ENTRIES_MAX } from "../wire/limits";
import { KV_ENTRIES_MAX } from "../wire/kv-deltas";
import { mixPair } from "../text/hash";
import {
  ENTRY_GENERATION,
  ENTRY_TOUCH,
  EXACT,
  addEntry,
  dropEntry,
  findEntry,
  noteDeadExact,
  sweepAllExact,
} from "./entries";
import { EPOCHS, exactCount, exactEmpty, exactEntries, exactEpoch } from "./exact-rows";

// The rest of the table is the approximate entries'.
if (KV_ENTRIES_MAX >= INDEX_ENTRIES_MAX) unreachable();

let live: u32 = 0;

/** Exact entries of all rows that are alive; at most KV_ENTRIES_MAX. */
export function exactEntriesTotal(): u32 {
  return live;
}

/**
 * The engine at `row` holds the cell: `tokens` tokens, 1 to KV_TOKENS_MAX, cached up to its end, in `tier` (KV_TIER_*).
 * Stored again it has the new figures. False: there are KV_ENTRIES_MAX entries already.
 */
export function exactStore(key: u64, row: u32, tokens: u32, tier: u32): bool {
  const value = (tier << 30) | tokens;
  const epoch = exactEpoch(row);
  let entry = findEntry(key, row | EXACT);
  if (entry != 0 && <u32>load<u16>(entry, ENTRY_GENERATION) == epoch) {
    const before = load<u32>(entry, ENTRY_TOUCH);
    store<u32>(entry, value, ENTRY_TOUCH);
    exactCount(row, 0, mixPair(key, before) ^ mixPair(key, value));
    return true;
  }
  if (live >= <u32>KV_ENTRIES_MAX) return false;
  // One that died with an epoch before is taken over.
  if (entry != 0) noteDeadExact(-1);
  else entry = addEntry(key, row | EXACT);
  if (entry == 0) return false;
  store<u16>(entry, <u16>epoch, ENTRY_GENERATION);
  store<u32>(entry, value, ENTRY_TOUCH);
  exactCount(row, 1, mixPair(key, value));
  live++;
  return true;
}

/** The engine at `row` does not hold the cell any more; nothing happens when that is not here. */
export function exactRemove(key: u64, row: u32): void {
  const entry = findEntry(key, row | EXACT);
  if (entry == 0 || <u32>load<u16>(entry, ENTRY_GENERATION) != exactEpoch(row)) return;
  exactCount(row, -1, mixPair(key, load<u32>(entry, ENTRY_TOUCH)));
  live--;
  dropEntry(entry);
}

/** Forgets all entries of `row` in O(1); once in 65,536 times what died before is reclaimed first, for its epoch is due again. */
export function exactClear(row: u32): void {
  const entries = exactEntries(row);
  if (entries == 0) return;
  live -= entries;
  noteDeadExact(entries);
  const epoch = exactEpoch(row) + 1;
  exactEmpty(row, epoch);
  if (epoch < EPOCHS) return;
  sweepAllExact();
  exactEmpty(row, 0);
}

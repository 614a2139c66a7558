// The exact entries: which cells of rendered prompts (cells.ts) each engine holds, as it tells itself.
import { INDEX_ENTRIES_MAX } from "../wire/limits";
import { KV_ENTRIES_MAX } from "../wire/kv-deltas";
import { mixPair } from "../text/hash";
import { EPOCHS, exactCount, exactEmpty, exactEntries, exactEpoch } from "./exact-rows";
import {
  EXACT,
  HOLDER_GENERATION,
  HOLDER_TOUCH,
  addHolder,
  dropHolder,
  findHolder,
  holderAt,
  noteDeadExact,
  sweepAllExact,
} from "./holders";

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
  let index = findHolder(key, row | EXACT);
  if (index != 0 && <u32>load<u16>(holderAt(index), HOLDER_GENERATION) == epoch) {
    const before = load<u32>(holderAt(index), HOLDER_TOUCH);
    store<u32>(holderAt(index), value, HOLDER_TOUCH);
    exactCount(row, 0, mixPair(key, before) ^ mixPair(key, value));
    return true;
  }
  if (live >= <u32>KV_ENTRIES_MAX) return false;
  // One that died with an epoch before is taken over.
  if (index != 0) noteDeadExact(-1);
  else index = addHolder(key, row | EXACT);
  if (index == 0) return false;
  store<u16>(holderAt(index), <u16>epoch, HOLDER_GENERATION);
  store<u32>(holderAt(index), value, HOLDER_TOUCH);
  exactCount(row, 1, mixPair(key, value));
  live++;
  return true;
}

/** The engine at `row` does not hold the cell any more; nothing happens when that is not here. */
export function exactRemove(key: u64, row: u32): void {
  const index = findHolder(key, row | EXACT);
  if (index == 0) return;
  const holder = holderAt(index);
  if (<u32>load<u16>(holder, HOLDER_GENERATION) != exactEpoch(row)) return;
  exactCount(row, -1, mixPair(key, load<u32>(holder, HOLDER_TOUCH)));
  live--;
  dropHolder(index);
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

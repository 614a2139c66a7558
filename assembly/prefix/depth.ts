// How many leading keys of a prompt a row holds. Whoever holds a key holds those before it, so the depth is searched by
// doubling and halving; and rows share prompts' starts, so the depths that were found last are tried first.
import { cellKey } from "./cells";
import { chainKey } from "./chain";
import { ENTRY_GENERATION, EXACT, findEntry, isAlive } from "./entries";
import { exactEpoch } from "./exact-rows";

let chain: usize = 0;
let root: u64 = 0;
let count: u32 = 0;
// What rows before had: the last two depths that differ, and whether the last row held anything.
let lastDepth: u32 = 0;
let depthBefore: u32 = 0;
let wasHeld: bool = true;

/** Begins a search for the first `keys` keys of a chain under `keyRoot`; `searched` 0 = for the opened cells, in exact entries. */
export function depthBegin(searched: usize, keyRoot: u64, keys: u32): void {
  chain = searched;
  root = keyRoot;
  count = keys;
  lastDepth = 0;
  depthBefore = 0;
  wasHeld = true;
}

/** Leading keys that `row` holds, 0 to the number asked for: about 2·log2 of it look-ups at most. */
export function depthOf(row: u32): u32 {
  const depth = search(row);
  wasHeld = depth != 0;
  if (depth != 0 && depth != lastDepth) {
    depthBefore = lastDepth;
    lastDepth = depth;
  }
  return depth;
}

// From here on the row holds the first `held` keys, and `limit` is count or the first that it does not hold.
function search(row: u32): u32 {
  if (count == 0 || (!wasHeld && !holds(0, row))) return 0;
  let held: u32 = wasHeld ? 0 : 1;
  let limit = count;
  for (let i = 0; i < 2; i++) {
    const tried = i == 0 ? lastDepth : depthBefore;
    if (tried <= held || tried > limit) continue;
    if (!holds(tried - 1, row)) {
      limit = tried - 1;
      continue;
    }
    if (tried == limit || !holds(tried, row)) return tried;
    held = tried + 1;
  }
  if (held == 0 && (limit == 0 || !holds(0, row))) return 0;
  held = max<u32>(held, 1);
  for (let step: u32 = 1; held + step < limit; step <<= 1) {
    if (!holds(held + step, row)) {
      limit = held + step;
      break;
    }
    held += step + 1;
  }
  while (held < limit) {
    const middle = (held + limit) >> 1;
    if (holds(middle, row)) held = middle + 1;
    else limit = middle;
  }
  return held;
}

function holds(index: u32, row: u32): bool {
  if (chain != 0) {
    const entry = findEntry(chainKey(chain, index, root), row);
    return entry != 0 && isAlive(entry);
  }
  const entry = findEntry(cellKey(index, root), row | EXACT);
  return entry != 0 && <u32>load<u16>(entry, ENTRY_GENERATION) == exactEpoch(row);
}

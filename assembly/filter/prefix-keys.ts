// The prompt's keys in the prefix index, here and, by the journal, in the other workers' copies of it.
import { JOURNAL_REMOVED, JOURNAL_STORED } from "../wire/journal";
import { chainKey, chainKeyCount } from "../prefix/chain";
import { indexStored } from "../prefix/clocks";
import { indexInsert, indexIsFresh, indexRemove } from "../prefix/index";
import { S_KEY_ROOT, S_POOL, streamChain } from "./streams";
import { journal } from "./worker";

/**
 * Notes the stream's prompt at `row`, which holds the first `held` keys and gets `newTokens` more. The keys that it
 * already holds are touched if that is due, the others stored. The other workers' copies of the index get the same
 * keys: a touch of the deepest one alone would let its ancestors expire there, and then the prefix is not found.
 * `kind`: JOURNAL_COLD or 0.
 */
export function insertKeys(stream: usize, row: u32, held: u32, newTokens: u32, kind: u32): void {
  const chain = streamChain(stream);
  const root = load<u64>(stream, S_KEY_ROOT);
  const keys = chainKeyCount(chain);
  const untouched: u32 = held > 0 && indexIsFresh(chainKey(chain, held - 1, root), row) ? held : 0;
  for (let i = untouched; i < keys; i++) indexInsert(chainKey(chain, i, root), row);
  indexStored(row, newTokens);
  journal(JOURNAL_STORED | kind, load<u32>(stream, S_POOL), row, newTokens, chain, root, untouched, keys);
}

/** The prompt was not computed at `row`: its keys from the `from`-th on are forgotten there. */
export function removeKeys(stream: usize, row: u32, from: u32): void {
  const chain = streamChain(stream);
  const root = load<u64>(stream, S_KEY_ROOT);
  const keys = chainKeyCount(chain);
  for (let i = from; i < keys; i++) indexRemove(chainKey(chain, i, root), row);
  if (keys > from) journal(JOURNAL_REMOVED, load<u32>(stream, S_POOL), row, 0, chain, root, from, keys);
}

import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { ENDPOINT_DRAINING, ENDPOINT_READY } from "../wire/snapshot";
import {
  COLUMN_FLAGS,
  COLUMN_MATCHED_TOKENS,
  COLUMN_MODEL_COUNT,
  COLUMN_UNCACHED_TOKENS,
  modelHashes,
  rowOf,
  rowU32,
  setRowF64,
} from "../pool/rows";
import { isSetAside } from "../pool/health";
import { isOnlyModel } from "../pool/snapshot";
import { subsetAllows } from "../pool/subset";
import { poolBytesPerToken } from "../pool/table";
import { chainDepthBytes, chainKey, chainKeyCount, chainSetHead, chainTextBytes } from "../prefix/chain";
import { mixPair } from "../text/hash";
import { indexLookup, matchedBytes, matchedKeys } from "../prefix/index";
import {
  promptExtraBytes,
  promptHeadBytes,
  promptIngredientsHash,
  promptLoraHash,
  promptTokenIds,
} from "../prompt/record";
import { candidateCount, candidateRow, candidatesAdd, candidatesReset } from "../schedule/candidates";
import { requestSetTieKey, requestSetTokens } from "../schedule/request";
import {
  exactKeys,
  exactMatch,
  forgetRendered,
  lookUpRendered,
  renderedBytes,
  renderedPart,
  renderedTokens,
  usesExact,
} from "./rendered";
import {
  F_EARLY,
  F_HAS_PROMPT,
  S_CONTENT_LENGTH,
  S_KEY_ROOT,
  S_PROMPT_TOKENS,
  S_SEEN,
  S_TEXT_BYTES,
  hasFlag,
  streamChain,
  streamPrompt,
} from "./streams";

/**
 * Lists the ready endpoints in the subset that serve the model and are not set aside. When none is left the
 * conditions fall one by one: a model nobody lists (the engine's own 404 is clearer than ours), then being set
 * aside (trying a host that failed is better than failing for certain). False: there is none at all.
 */
export function gatherCandidates(pool: u32, model: u64, now: f64): bool {
  if (gather(pool, model, now)) return true;
  if (model != 0 && gather(pool, 0, now)) return true;
  return gather(pool, 0, -1);
}

function gather(pool: u32, model: u64, now: f64): bool {
  candidatesReset();
  const first = rowOf(pool, 0);
  for (let row = first; row < first + POOL_ENDPOINTS_MAX; row++) {
    if ((rowU32(COLUMN_FLAGS, row) & (ENDPOINT_READY | ENDPOINT_DRAINING)) != ENDPOINT_READY) continue;
    if (model != 0 && !serves(row, model)) continue;
    if (now >= 0 && isSetAside(row, now)) continue;
    if (!subsetAllows(row)) continue;
    candidatesAdd(row);
  }
  return candidateCount() > 0;
}

function serves(row: u32, model: u64): bool {
  const count = rowU32(COLUMN_MODEL_COUNT, row);
  if (count == 0) return true;
  const hashes = modelHashes(row);
  for (let i: u32 = 0; i < count; i++) if (load<u64>(hashes + ((<usize>i) << 3)) == model) return true;
  return false;
}

// Keys of the prompt at hand that each slot's endpoint holds, counted from the start; u16[slots].
const keysHeld: usize = memory.data(256 * 2, 2);

/** Keys of the measured prompt that the candidate in `slot` holds, or computes right now; 0 = none. */
export function heldKeys(slot: u32): u32 {
  return <u32>load<u16>(keysHeld + ((<usize>slot) << 1));
}

/** Fills the candidates' MATCHED and UNCACHED columns, and the stream's own sizes; `stream` 0 = no prompt is known. */
export function measurePrompt(stream: usize, pool: u32, model: u64): void {
  const perToken = bytesPerToken(stream, pool);
  let promptTokens: f64 = 0;
  let matchable: f64 = 0;
  let bytesOfToken = perToken;
  let isKnown = false;
  forgetRendered();
  if (stream != 0 && hasFlag(stream, F_HAS_PROMPT)) {
    const chain = streamChain(stream);
    const root = keyRoot(stream, pool, model);
    store<u64>(stream, root, S_KEY_ROOT);
    const prompt = streamPrompt(stream);
    chainSetHead(chain, promptHeadBytes(prompt));
    const keys = chainKeyCount(chain);
    const textBytes = expectedTextBytes(stream, chainTextBytes(chain) + promptExtraBytes(prompt));
    store<u32>(stream, <u32>Math.min(textBytes, 4294967295), S_TEXT_BYTES);
    promptTokens = textBytes / perToken;
    matchable = keys == 0 ? 0 : <f64>chainDepthBytes(chain, keys - 1) / perToken;
    indexLookup(chain, root, pool);
    isKnown = true;
    if (lookUpRendered(stream, pool)) {
      promptTokens = renderedTokens(expectedTextBytes(stream, renderedBytes()), perToken);
      matchable = promptTokens * renderedPart();
      bytesOfToken = Math.max(textBytes, 1) / promptTokens;
    }
  }
  if (stream != 0) store<u32>(stream, <u32>promptTokens, S_PROMPT_TOKENS);
  requestSetTokens(promptTokens, matchable, promptTokens);
  let deepest: u32 = 0;
  for (let i: u32 = 0; i < candidateCount(); i++) {
    const row = candidateRow(i);
    const slot = row % POOL_ENDPOINTS_MAX;
    let keys: u32 = 0;
    let matched: f64 = 0;
    if (isKnown && usesExact(row)) {
      matched = exactMatch(stream, row, promptTokens, bytesOfToken);
      keys = exactKeys();
    } else if (isKnown) {
      keys = matchedKeys(slot);
      matched = <f64>matchedBytes(streamChain(stream), slot) / bytesOfToken;
    }
    deepest = max(deepest, keys);
    store<u16>(keysHeld + ((<usize>slot) << 1), <u16>keys);
    setRowF64(COLUMN_MATCHED_TOKENS, row, matched);
    setRowF64(COLUMN_UNCACHED_TOKENS, row, promptTokens - matched);
  }
  if (isKnown) requestSetTieKey(tieKey(stream, deepest));
}

// Key of the first part of the prompt that no candidate holds, or of all of it.
function tieKey(stream: usize, deepest: u32): u64 {
  const chain = streamChain(stream);
  const keys = chainKeyCount(chain);
  return keys == 0 ? 0 : chainKey(chain, min(deepest, keys - 1), load<u64>(stream, S_KEY_ROOT));
}

const TOKEN_ID_BYTES: f64 = 4;

// Bytes of the chain that stand for a token of this prompt: exact for token ids, else as the pool's usage taught.
function bytesPerToken(stream: usize, pool: u32): f64 {
  const isIds = stream != 0 && hasFlag(stream, F_HAS_PROMPT) && promptTokenIds(streamPrompt(stream)) > 0;
  return isIds ? TOKEN_ID_BYTES : poolBytesPerToken(pool);
}

// What the prompt's keys depend on beside its text. Where one model is served its name would only split them:
// a long body may be decided before its name has come, a short one after.
function keyRoot(stream: usize, pool: u32, model: u64): u64 {
  const prompt = streamPrompt(stream);
  const name = isOnlyModel(pool, model) ? 0 : model;
  return mixPair(mixPair(name, promptLoraHash(prompt)), promptIngredientsHash(prompt));
}

// A body of which only the start was read: its text is taken to go on as it began.
function expectedTextBytes(stream: usize, textBytes: u32): f64 {
  const seen = load<u32>(stream, S_SEEN);
  const total = load<u32>(stream, S_CONTENT_LENGTH);
  if (!hasFlag(stream, F_EARLY) || seen == 0 || total == 0xffffffff || total <= seen) return <f64>textBytes;
  return (<f64>textBytes * <f64>total) / <f64>seen;
}

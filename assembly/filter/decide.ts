// The decision for one stream: candidates, what each holds of the prompt, the schedule, and what follows from it.
import { MAP_REQUEST_HEADERS, STATUS_OK } from "../abi/constants";
import { header, nowNs, replaceHeader, setFilterState, valueBytes, valuePtr } from "../abi/host";
import {
  textBytes,
  writeBegin,
  writeByte,
  writeBytes,
  writeLength,
  writeLiteral,
  writeText,
  writeU64,
} from "../text/text";
import { DESTINATIONS_MAX, POOLS_MAX, POOL_ENDPOINTS_MAX } from "../wire/limits";
import { ENDPOINT_DRAINING, ENDPOINT_READY } from "../wire/snapshot";
import { JOURNAL_COLD, JOURNAL_REMOVED, JOURNAL_STORED } from "../wire/journal";
import {
  COLUMN_COLD_USED_MS,
  COLUMN_FLAGS,
  COLUMN_GENERATION,
  COLUMN_MATCHED_TOKENS,
  COLUMN_MODEL_COUNT,
  COLUMN_UNCACHED_TOKENS,
  modelHashes,
  rowF64,
  rowOf,
  rowU32,
  setRowF64,
} from "../pool/rows";
import { isSetAside } from "../pool/health";
import { isOnlyModel } from "../pool/snapshot";
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { subsetAllows } from "../pool/subset";
import { NO_POOL, poolBytesPerToken, poolHasSnapshot, poolName, poolNameBytes } from "../pool/table";
import { chainDepthBytes, chainKey, chainKeyCount, chainSetHead, chainTextBytes } from "../prefix/chain";
import { mixPair } from "../text/hash";
import {
  indexInsert,
  indexIsFresh,
  indexLookup,
  indexRemove,
  indexStored,
  matchedBytes,
  matchedKeys,
} from "../prefix/index";
import { apiKeepsPrefix } from "../prompt/api";
import {
  promptExtraBytes,
  promptHeadBytes,
  promptIngredientsHash,
  promptLoraHash,
  promptModelBytes,
  promptModelHash,
  promptModelPtr,
  promptTokenIds,
} from "../prompt/record";
import { candidateCount, candidateRow, candidatesAdd, candidatesReset } from "../schedule/candidates";
import {
  requestReset,
  requestSetHeader,
  requestSetLora,
  requestSetModel,
  requestSetTokens,
} from "../schedule/request";
import { resultRow } from "../schedule/pickers";
import { schedule, schedulePlaced } from "../schedule/schedule";
import { configExposeDecision, configHeaderCount, configHeaderName, configPlan } from "../schema/settings";
import { releaseRequest, releaseTokens, reserve } from "../flow/reservations";
import {
  COUNT_BY_LOAD,
  COUNT_DECISIONS,
  COUNT_EARLY,
  COUNT_MATCHED_TOKENS,
  COUNT_PROMPT_TOKENS,
  DECIDED_BLIND,
  DECIDED_BY_LOAD,
  DECIDED_BY_PREFIX,
  DECIDED_COLD,
  countUp,
  decisionKindName,
  meterDecision,
  meterDecisionTime,
  meterHitPercent,
} from "./counters";
import { H_DESTINATION, H_MAX_RETRIES, H_RETRY_ON, S_DECISION, V_RETRIES, V_RETRY_ON } from "./names";
import {
  F_EARLY,
  F_HAS_PROMPT,
  F_PREFIX_STORED,
  F_REQUEST_RESERVED,
  F_TOKENS_RESERVED,
  S_API,
  S_CONTENT_LENGTH,
  S_DECIDED,
  S_DESTINATIONS,
  S_GENERATIONS,
  S_KEYS_MATCHED,
  S_KEY_ROOT,
  S_POOL,
  S_PREFIX_ROW,
  S_PROMPT_TOKENS,
  S_ROWS,
  S_SEEN,
  S_TEXT_BYTES,
  S_UNCACHED,
  clearFlag,
  destinationRow,
  hasFlag,
  setFlag,
  streamChain,
  streamPrompt,
} from "./streams";
import { journal, publish, sync } from "./worker";

// Outcomes of decide().
export const DECIDED: u32 = 0;
/** The pool has no ready endpoint. */
export const NO_ENDPOINTS: u32 = 1;
/** Ready endpoints there are, but the configuration's filters let none through. */
export const NONE_ELIGIBLE: u32 = 2;
/** No pool, or no snapshot of it yet. */
export const NO_SNAPSHOT: u32 = 3;

let randomState: u64 = 0x9e3779b97f4a7c15;

// The pick without a stream record: rows of the last schedule().
let pickedCount: u32 = 0;
const picked: usize = memory.data(3 * 2, 2);

/** The two histograms show every n-th decision: recording one costs as much as scoring 64 endpoints. */
const METERED_EVERY: u32 = 8;
let decisionsUnmetered: u32 = 0;
let isMetered: bool = false;

/**
 * Decides for a stream, writes the headers, reserves the work and notes the prefix.
 * The subset hint was taken before (pool/subset.ts). `blind`: the body is unknown though there is one.
 */
export function decide(stream: usize, config: u32, blind: bool): u32 {
  const startNs = nowNs();
  const now = <f64>startNs / 1000000;
  const pool = load<u32>(stream, S_POOL);
  sync(now);
  const outcome = pick(stream, pool, config, now, startNs);
  if (outcome != DECIDED) return outcome;
  store<f64>(stream, now, S_DECIDED);
  isMetered = ++decisionsUnmetered >= METERED_EVERY;
  if (isMetered) decisionsUnmetered = 0;
  rememberDestinations(stream);
  const kind = describe(stream, blind);
  writeDestination();
  commit(stream, pool, now);
  publish(now);
  schedulePlaced(configPlan(config), pool, destinationRow(stream, 0));
  countUp(COUNT_DECISIONS);
  if (hasFlag(stream, F_EARLY)) countUp(COUNT_EARLY);
  meterDecision(pool, kind);
  if (configExposeDecision(config)) exposeDecision(stream, pool, kind);
  if (isMetered) meterDecisionTime((nowNs() - startNs) / 1000);
  return DECIDED;
}

/** Decides for a request that has no record, as the table is full: by load alone, nothing reserved. */
export function decideWithoutStream(pool: u32, config: u32): u32 {
  const startNs = nowNs();
  const now = <f64>startNs / 1000000;
  sync(now);
  const outcome = pick(0, pool, config, now, startNs);
  if (outcome != DECIDED) return outcome;
  writeDestination();
  countUp(COUNT_DECISIONS);
  meterDecision(pool, DECIDED_BLIND);
  return DECIDED;
}

function pick(stream: usize, pool: u32, config: u32, now: f64, entropy: u64): u32 {
  if (pool == NO_POOL || !poolHasSnapshot(pool)) return NO_SNAPSHOT;
  randomState = mixPair(randomState, entropy);
  requestReset(now, randomState);
  let model: u64 = 0;
  if (stream != 0 && hasFlag(stream, F_HAS_PROMPT)) {
    const prompt = streamPrompt(stream);
    if (promptModelBytes(prompt) > 0) {
      model = promptModelHash(prompt);
      requestSetModel(model, promptModelPtr(prompt), promptModelBytes(prompt));
    }
    requestSetLora(promptLoraHash(prompt));
  }
  if (!gatherCandidates(pool, model, now)) return NO_ENDPOINTS;
  measurePrompt(stream, pool, model);
  readHeaders(config);
  pickedCount = min<u32>(schedule(configPlan(config), pool), DESTINATIONS_MAX);
  for (let i: u32 = 0; i < pickedCount; i++) store<u16>(picked + ((<usize>i) << 1), <u16>resultRow(i));
  return pickedCount > 0 ? DECIDED : NONE_ELIGIBLE;
}

// Ready endpoints in the subset that serve the model and are not set aside. When no endpoint is left the
// conditions fall one by one: a model nobody lists (the engine's own 404 is clearer than ours), then being
// set aside (trying a host that failed is better than failing for certain).
function gatherCandidates(pool: u32, model: u64, now: f64): bool {
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

// Fills MATCHED and UNCACHED for the candidates, and the stream's own sizes.
function measurePrompt(stream: usize, pool: u32, model: u64): void {
  const perToken = bytesPerToken(stream, pool);
  let promptTokens: f64 = 0;
  let matchable: f64 = 0;
  let isKnown = false;
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
    indexLookup(chain, root, pool, candidateCount());
    isKnown = true;
  }
  if (stream != 0) store<u32>(stream, <u32>promptTokens, S_PROMPT_TOKENS);
  requestSetTokens(promptTokens, matchable, promptTokens);
  for (let i: u32 = 0; i < candidateCount(); i++) {
    const row = candidateRow(i);
    const matched = isKnown ? <f64>matchedBytes(streamChain(stream), row % POOL_ENDPOINTS_MAX) / perToken : 0;
    setRowF64(COLUMN_MATCHED_TOKENS, row, matched);
    setRowF64(COLUMN_UNCACHED_TOKENS, row, promptTokens - matched);
  }
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

function readHeaders(config: u32): void {
  for (let i: u32 = 0; i < configHeaderCount(config); i++) {
    if (header(MAP_REQUEST_HEADERS, configHeaderName(config, i)) == STATUS_OK) {
      requestSetHeader(i, valuePtr(), valueBytes());
    }
  }
}

function rememberDestinations(stream: usize): void {
  store<u8>(stream, <u8>pickedCount, S_DESTINATIONS);
  for (let i: u32 = 0; i < pickedCount; i++) {
    const row = load<u16>(picked + ((<usize>i) << 1));
    store<u16>(stream + S_ROWS + ((<usize>i) << 1), row);
    store<u16>(stream + S_GENERATIONS + ((<usize>i) << 1), <u16>rowU32(COLUMN_GENERATION, row));
  }
}

function describe(stream: usize, blind: bool): u32 {
  if (blind) return DECIDED_BLIND;
  if (!hasFlag(stream, F_HAS_PROMPT)) {
    countUp(COUNT_BY_LOAD);
    return DECIDED_BY_LOAD;
  }
  return matchedKeys(destinationRow(stream, 0) % POOL_ENDPOINTS_MAX) > 0 ? DECIDED_BY_PREFIX : DECIDED_COLD;
}

const destination: usize = memory.data(320);

function writeDestination(): void {
  writeBegin(destination, 320);
  for (let i: u32 = 0; i < pickedCount; i++) {
    const row = load<u16>(picked + ((<usize>i) << 1));
    if (i > 0) writeByte(44);
    writeBytes(rowAddressPtr(row), rowAddressLen(row));
  }
  replaceHeader(MAP_REQUEST_HEADERS, H_DESTINATION, destination, writeLength());
  replaceHeader(MAP_REQUEST_HEADERS, H_RETRY_ON, V_RETRY_ON, textBytes(V_RETRY_ON));
  replaceHeader(MAP_REQUEST_HEADERS, H_MAX_RETRIES, V_RETRIES, textBytes(V_RETRIES));
}

// Reserves the request and its uncached tokens, and notes the prompt as held by the chosen endpoint: so a
// burst of requests with one new prefix finds the first one's entry while that is still being computed.
function commit(stream: usize, pool: u32, now: f64): void {
  const row = destinationRow(stream, 0);
  const promptTokens = load<u32>(stream, S_PROMPT_TOKENS);
  const hasPrompt = hasFlag(stream, F_HAS_PROMPT);
  const uncached: u32 = hasPrompt
    ? min(<u32>Math.max(rowF64(COLUMN_UNCACHED_TOKENS, row), 0), promptTokens)
    : 0;
  store<u32>(stream, uncached, S_UNCACHED);
  reserve(row, uncached);
  setFlag(stream, F_REQUEST_RESERVED | F_TOKENS_RESERVED);
  if (!hasPrompt) return;
  const keys = matchedKeys(row % POOL_ENDPOINTS_MAX);
  store<u16>(stream, <u16>keys, S_KEYS_MATCHED);
  store<u32>(stream, row, S_PREFIX_ROW);
  if (keys == 0) setRowF64(COLUMN_COLD_USED_MS, row, now);
  if (apiKeepsPrefix(load<u32>(stream, S_API))) {
    storePrefix(stream, pool, row, keys, uncached, keys == 0 ? JOURNAL_COLD : 0);
  }
  countUp(COUNT_PROMPT_TOKENS, promptTokens);
  countUp(COUNT_MATCHED_TOKENS, promptTokens - uncached);
  if (isMetered && promptTokens > 0) meterHitPercent(pool, ((promptTokens - uncached) * 100) / promptTokens);
}

// The keys that the row already holds are touched if that is due, the others stored. The others' copies of the index get
// the deepest held key and the new ones.
function storePrefix(stream: usize, pool: u32, row: u32, held: u32, newTokens: u32, kind: u32): void {
  const chain = streamChain(stream);
  const root = load<u64>(stream, S_KEY_ROOT);
  const keys = chainKeyCount(chain);
  const untouched: u32 = held > 0 && indexIsFresh(chainKey(chain, held - 1, root), row) ? held : 0;
  for (let i = untouched; i < keys; i++) indexInsert(chainKey(chain, i, root), row);
  indexStored(row, newTokens);
  const from = held > 0 ? held - 1 : 0;
  journal(JOURNAL_STORED | kind, pool, row, newTokens, chain, root, from, keys);
  setFlag(stream, F_PREFIX_STORED);
}

/** The prompt was not computed where it was noted: its new keys are forgotten there. */
export function forgetPrefix(stream: usize): void {
  if (!hasFlag(stream, F_PREFIX_STORED)) return;
  clearFlag(stream, F_PREFIX_STORED);
  const chain = streamChain(stream);
  const root = load<u64>(stream, S_KEY_ROOT);
  const row = load<u32>(stream, S_PREFIX_ROW);
  const from = <u32>load<u16>(stream, S_KEYS_MATCHED);
  const keys = chainKeyCount(chain);
  for (let i = from; i < keys; i++) indexRemove(chainKey(chain, i, root), row);
  if (keys > from) journal(JOURNAL_REMOVED, load<u32>(stream, S_POOL), row, 0, chain, root, from, keys);
}

/** The request went to `row` and not to the first choice: reservation and prefix follow it. */
export function moveTo(stream: usize, row: u32): void {
  const pool = load<u32>(stream, S_POOL);
  const hadTokens = hasFlag(stream, F_TOKENS_RESERVED);
  const hadPrefix = hasFlag(stream, F_PREFIX_STORED);
  releaseReservation(stream);
  forgetPrefix(stream);
  const promptTokens = load<u32>(stream, S_PROMPT_TOKENS);
  store<u16>(stream, <u16>row, S_ROWS);
  store<u16>(stream, <u16>rowU32(COLUMN_GENERATION, row), S_GENERATIONS);
  store<u32>(stream, hadTokens ? promptTokens : 0, S_UNCACHED);
  reserve(row, load<u32>(stream, S_UNCACHED));
  setFlag(stream, F_REQUEST_RESERVED | F_TOKENS_RESERVED);
  if (!hadPrefix) return;
  store<u32>(stream, row, S_PREFIX_ROW);
  store<u16>(stream, 0, S_KEYS_MATCHED);
  storePrefix(stream, pool, row, 0, promptTokens, 0);
}

/** The first token came: the prompt is computed. */
export function releasePrefill(stream: usize): void {
  if (!hasFlag(stream, F_TOKENS_RESERVED)) return;
  clearFlag(stream, F_TOKENS_RESERVED);
  releaseTokens(destinationRow(stream, 0), load<u32>(stream, S_UNCACHED));
}

/** Gives back whatever the stream still has reserved. Calling it again is harmless. */
export function releaseReservation(stream: usize): void {
  releasePrefill(stream);
  if (!hasFlag(stream, F_REQUEST_RESERVED)) return;
  clearFlag(stream, F_REQUEST_RESERVED);
  releaseRequest(destinationRow(stream, 0));
}

const state: usize = memory.data(512);

// One line for access logs: pool, endpoint, kind, prompt and matched tokens.
function exposeDecision(stream: usize, pool: u32, kind: u32): void {
  const row = destinationRow(stream, 0);
  const promptTokens = load<u32>(stream, S_PROMPT_TOKENS);
  writeBegin(state, 512);
  writeLiteral("pool=");
  if (pool < <u32>POOLS_MAX) writeBytes(poolName(pool), poolNameBytes(pool));
  writeLiteral(" endpoint=");
  writeBytes(rowAddressPtr(row), rowAddressLen(row));
  writeLiteral(" kind=");
  writeText(decisionKindName(kind));
  writeLiteral(" prompt_tokens=");
  writeU64(promptTokens);
  writeLiteral(" matched_tokens=");
  writeU64(promptTokens - min(promptTokens, load<u32>(stream, S_UNCACHED)));
  setFilterState(S_DECISION, state, writeLength());
}

// What the engines' own word makes of a prompt that was rendered: tokens that each has cached, per endpoint.
//
// Of an endpoint whose cache is known exactly the exact index counts, and of the approximate one only what is being
// computed there right now: a burst of requests with one new prefix finds it before the engine tells of it. A prompt
// that was not rendered, or of which too little was read to be sure of it, and an endpoint that is not known exactly, go
// by the approximate index.
import { POOLS_MAX, POOL_ENDPOINTS_MAX } from "../wire/limits";
import { ascii } from "../text/text";
import { KV_CELL_BYTES } from "../wire/kv-deltas";
import { promptModelCount } from "../pool/prompt-programs";
import { CELLS_BYTES, cellsBytes, cellsCount, cellsRelease } from "../prefix/cells";
import { chainDepthBytes, chainKeyCount, chainTextBytes } from "../prefix/chain";
import { exactBytes, exactHeldTokens, exactLookup, exactTokens } from "../prefix/exact-lookup";
import { isExact } from "../prefix/exact-rows";
import { inFlightKeys, matchedBytes } from "../prefix/index";
import { API_CHAT, API_COMPLETIONS } from "../prompt/api";
import { renderOf } from "../prompt/layout";
import { promptHasEnded, promptRender } from "../prompt/record";
import { RENDER_BYTES, renderBegin } from "../prompt/render";
import { RENDER_API, RENDER_CHANGED, RENDER_UNREAD } from "../prompt/render-layout";
import { renderOutcome, renderRoot } from "../prompt/render-outcome";
import { candidateCount, candidateRow } from "../schedule/candidates";
import { meterRendered } from "./prompt-metrics";
import { streamModelBytes, streamModelPtr } from "./rewrite";
import { F_EARLY, S_API, S_KEY_ROOT, hasFlag, streamChain, streamPrompt, streamSlot } from "./streams";

// One render record and its cells a stream's place. Only those of streams in pools with programs are ever touched.
const records: usize = memory.data(4096 * 280, 8);
const RECORD_BYTES: usize = 280;
if (RENDER_BYTES + CELLS_BYTES != RECORD_BYTES) unreachable();

function renderRecord(stream: usize): usize {
  return records + <usize>streamSlot(stream) * RECORD_BYTES;
}
function cellsOf(stream: usize): usize {
  return renderRecord(stream) + RENDER_BYTES;
}

/** A body of `api` begins: where the pool has prompt programs its prompt is rendered while it is read. */
export function beginRendering(stream: usize, pool: u32, api: u32): void {
  if (promptModelCount(pool) == 0 || (api != API_CHAT && api != API_COMPLETIONS)) return;
  renderBegin(renderRecord(stream), pool, cellsOf(stream));
  promptRender(streamPrompt(stream), renderRecord(stream));
}

/** Gives the rendered prompt's keys back. Calling it again is harmless. */
export function endRendering(stream: usize): void {
  if (renderOf(streamPrompt(stream)) != 0) cellsRelease(cellsOf(stream));
}

/** Whether prompts of the pool are rendered at all. */
export function mayRender(pool: u32): bool {
  return pool < <u32>POOLS_MAX && promptModelCount(pool) > 0;
}

const EXACT = ascii("exact");
const APPROXIMATE = ascii("approximate");

/** Name (a Text) of the index that the decision at hand goes by at `row`. */
export function indexName(row: u32): usize {
  return usesExact(row) ? EXACT : APPROXIMATE;
}

// The prompt of the decision at hand: whether the exact index counts, the bytes of all of it and those with keys.
let isRendered: bool = false;
let wholeBytes: f64 = 0;
let keyedBytes: f64 = 0;

/** Whether the decision at hand goes by the exact index at `row`. */
export function usesExact(row: u32): bool {
  return isRendered && isExact(row);
}

/** The decision at hand is one without a prompt that could be rendered. */
export function forgetRendered(): void {
  isRendered = false;
}

/**
 * Looks the stream's prompt up in the exact index of `pool`, behind indexLookup() of it. False: it was not rendered, or
 * may be another one, and the approximate index counts.
 */
export function lookUpRendered(stream: usize, pool: u32): bool {
  isRendered = false;
  if (promptModelCount(pool) == 0) return false;
  let reason = outcomeOf(stream);
  if (reason == 0) {
    lookUp(stream, pool);
    if (isDoubtful(stream)) reason = RENDER_UNREAD;
  }
  meterRendered(pool, reason);
  isRendered = reason == 0;
  return isRendered;
}

function lookUp(stream: usize, pool: u32): void {
  const cells = cellsOf(stream);
  const root = renderRoot(renderRecord(stream), streamModelPtr(stream), streamModelBytes(stream));
  exactLookup(cells, root, pool);
  wholeBytes = <f64>cellsBytes(cells);
  keyedBytes = <f64>(cellsCount(cells) * KV_CELL_BYTES);
  cellsRelease(cells);
}

/** The engines' own word counts for a prompt whose end is not known where it tells this part of what they were sent. */
const BELIEVED_PART: f64 = 0.5;

// Tools may stand behind the messages, where OpenAI's Python client writes them, and before them in the prompt: of a body
// that was not read so far another text was rendered than the engines see. They hold little of that, however much of this
// conversation they were sent.
function isDoubtful(stream: usize): bool {
  if (!hasFlag(stream, F_EARLY) || promptHasEnded(streamPrompt(stream))) return false;
  const chain = streamChain(stream);
  let sent: f64 = 0;
  let held: f64 = 0;
  for (let i: u32 = 0; i < candidateCount(); i++) {
    const row = candidateRow(i);
    if (!isExact(row)) continue;
    sent = Math.max(sent, <f64>matchedBytes(chain, row % POOL_ENDPOINTS_MAX));
    held = Math.max(held, <f64>exactBytes(row % POOL_ENDPOINTS_MAX));
  }
  return (held * <f64>chainTextBytes(chain)) / wholeBytes < sent * BELIEVED_PART;
}

function outcomeOf(stream: usize): u32 {
  const api = load<u32>(stream, S_API);
  if (api != API_CHAT && api != API_COMPLETIONS) return RENDER_API;
  // The pool had no programs when the body began.
  if (renderOf(streamPrompt(stream)) == 0) return RENDER_CHANGED;
  const isWhole = !hasFlag(stream, F_EARLY);
  return renderOutcome(renderRecord(stream), streamModelPtr(stream), streamModelBytes(stream), isWhole);
}

/** Bytes of the rendered prompt, as far as it was read. */
export function renderedBytes(): u32 {
  return <u32>wholeBytes;
}

/** The part of it that an engine could have cached: its whole cells. */
export function renderedPart(): f64 {
  return wholeBytes == 0 ? 0 : keyedBytes / wholeBytes;
}

/**
 * Tokens of the rendered prompt, of which there are `bytes` in all: those that the engine with the longest match counts,
 * and the rest, at least one token, at `bytesPerToken`.
 */
export function renderedTokens(bytes: f64, bytesPerToken: f64): f64 {
  let held: f64 = 0;
  let depth: f64 = 0;
  for (let i: u32 = 0; i < candidateCount(); i++) {
    const slot = candidateRow(i) % POOL_ENDPOINTS_MAX;
    held = Math.max(held, exactHeldTokens(slot));
    depth = Math.max(depth, <f64>exactBytes(slot));
  }
  return held + Math.max((bytes - depth) / bytesPerToken, 1);
}

let keysMatched: u32 = 0;

/** Keys of the stream's chain that the engine of the last exactMatch() has cached or is about to. */
export function exactKeys(): u32 {
  return keysMatched;
}

/**
 * Tokens of the prompt, of `promptTokens`, that the engine at `row` has cached, or is about to as it computes them right
 * now; never all of them, as engines compute the last one anew. Of the chain's text `bytesPerToken` make a token.
 */
export function exactMatch(stream: usize, row: u32, promptTokens: f64, bytesPerToken: f64): f64 {
  const chain = streamChain(stream);
  const held = heldKeys(chain, <f64>exactBytes(row % POOL_ENDPOINTS_MAX));
  keysMatched = inFlightKeys(chain, load<u64>(stream, S_KEY_ROOT), row, held);
  let matched = exactTokens(row % POOL_ENDPOINTS_MAX);
  if (keysMatched > held) {
    matched = Math.max(matched, <f64>chainDepthBytes(chain, keysMatched - 1) / bytesPerToken);
  }
  return Math.max(Math.min(matched, promptTokens - 1), 0);
}

// Keys of the chain, which is of the contents alone, that stand for no more than the first `depth` bytes of the rendered
// text. The literals are taken to be spread evenly over it.
function heldKeys(chain: usize, depth: f64): u32 {
  if (depth == 0) return 0;
  const bytes = (depth * <f64>chainTextBytes(chain)) / wholeBytes;
  let from: u32 = 0;
  let to = chainKeyCount(chain);
  while (from < to) {
    const middle = (from + to) >> 1;
    if (<f64>chainDepthBytes(chain, middle) <= bytes) from = middle + 1;
    else to = middle;
  }
  return from;
}

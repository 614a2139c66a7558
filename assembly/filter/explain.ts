// Tells a client that asked why its request went where it did: the response header x-epp-explain.
//
//   choice=10.0.0.2:8000 reason=cheapest model=0.82 missPrice=0.031 prompt=2100;
//   10.0.0.2:8000 match=2048 queued=512 wait=41.5 prefill=6.1 ttft=47.6 tpot=21 cost=48.1 broken=0; …
//
// (one line; the EXPLAINED_MAX best candidates, ms and tokens; tpot is null while unknown, broken is by how much wishes
// would be; with prompt programs a match is followed by index=, exact or approximate). The text waits for the
// response's headers in one of EXPLAINS places; when all are taken the oldest goes, and its response has no header.
import { MAP_RESPONSE_HEADERS } from "../abi/constants";
import { replaceHeader } from "../abi/host";
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { COLUMN_INFLIGHT_TOKENS, COLUMN_MATCHED_TOKENS } from "../pool/rows";
import { candidateCount, candidateF64, candidateRow, totalOf } from "../schedule/candidates";
import {
  costMissPrice,
  costModelShare,
  costOf,
  costPrefillMs,
  costTpotMs,
  costWaitMs,
} from "../schedule/latency-cost";
import {
  CHOSEN_CHEAPEST,
  CHOSEN_HASH,
  CHOSEN_MATCH,
  CHOSEN_NONE_MEETS,
  CHOSEN_ONLY,
  latencyReason,
} from "../schedule/latency-picker";
import { brokenMs } from "../schedule/broken-wishes";
import { requestPromptTokens } from "../schedule/request";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { writeBegin, writeBytes, writeF64, writeLength, writeLiteral, writeText } from "../text/text";
import { H_EXPLAIN } from "./names";
import { indexName, mayRender } from "./rendered";
import { F_EXPLAIN, S_CONTEXT, clearFlag, hasFlag } from "./streams";

/** Requests of one worker whose explanations wait for their responses. */
const EXPLAINS: u32 = 64;
/** Bytes of one explanation; what does not fit is cut. */
const EXPLAIN_BYTES: u32 = 2048;
/** Candidates that one explanation tells of. */
const EXPLAINED_MAX: u32 = 8;

//   ┌ place, 2,064 bytes: 0 u32 context (0 = free)  4 u32 bytes  16 text ┐
const PLACE_BYTES: usize = 2064;
const AT_TEXT: usize = 16;
const places: usize = memory.data(64 * 2064, 16);
const told: usize = memory.data(256);
let next: u32 = 0;

/** Puts down why `row` was chosen, for a stream that asked. Right after schedule(), by `isLatency` the latency picker. */
export function explain(stream: usize, row: u32, isLatency: bool): void {
  if (!hasFlag(stream, F_EXPLAIN)) return;
  const place = places + <usize>next * PLACE_BYTES;
  next = (next + 1) % EXPLAINS;
  store<u32>(place, load<u32>(stream, S_CONTEXT));
  writeBegin(place + AT_TEXT, EXPLAIN_BYTES);
  writeLiteral("choice=");
  writeBytes(rowAddressPtr(row), rowAddressLen(row));
  writeReason(isLatency);
  if (isLatency) {
    figure(" model=", costModelShare());
    figure(" missPrice=", costMissPrice());
  }
  figure(" prompt=", requestPromptTokens());
  memory.fill(told, 0, 256);
  for (let i: u32 = 0, count = min(candidateCount(), EXPLAINED_MAX); i < count; i++) {
    writeCandidate(nextBest(), isLatency);
  }
  store<u32>(place, writeLength(), 4);
}

/** Sends it with the response, and frees its place. */
export function explainRespond(stream: usize): void {
  if (!hasFlag(stream, F_EXPLAIN)) return;
  clearFlag(stream, F_EXPLAIN);
  const context = load<u32>(stream, S_CONTEXT);
  for (let i: u32 = 0; i < EXPLAINS; i++) {
    const place = places + <usize>i * PLACE_BYTES;
    if (load<u32>(place) != context) continue;
    store<u32>(place, 0);
    replaceHeader(MAP_RESPONSE_HEADERS, H_EXPLAIN, place + AT_TEXT, load<u32>(place, 4));
    return;
  }
}

// The candidate of the highest total among those not told yet.
function nextBest(): u32 {
  let best: u32 = 0;
  let most: f64 = NaN;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    if (load<u8>(told + i) != 0 || (most == most && totalOf(i) <= most)) continue;
    best = i;
    most = totalOf(i);
  }
  store<u8>(told + best, 1);
  return best;
}

function writeReason(isLatency: bool): void {
  writeLiteral(" reason=");
  if (!isLatency) return writeLiteral("score");
  switch (latencyReason()) {
    case CHOSEN_ONLY:
      return writeLiteral("only");
    case CHOSEN_CHEAPEST:
      return writeLiteral("cheapest");
    case CHOSEN_MATCH:
      return writeLiteral("match");
    case CHOSEN_HASH:
      return writeLiteral("hash");
    case CHOSEN_NONE_MEETS:
      return writeLiteral("none-meets");
  }
}

function writeCandidate(index: u32, isLatency: bool): void {
  const row = candidateRow(index);
  writeLiteral("; ");
  writeBytes(rowAddressPtr(row), rowAddressLen(row));
  figure(" match=", candidateF64(COLUMN_MATCHED_TOKENS, index));
  if (mayRender(row / POOL_ENDPOINTS_MAX)) {
    writeLiteral(" index=");
    writeText(indexName(row));
  }
  figure(" queued=", candidateF64(COLUMN_INFLIGHT_TOKENS, index));
  if (!isLatency) return figure(" score=", totalOf(index));
  figure(" wait=", costWaitMs(index));
  figure(" prefill=", costPrefillMs(index));
  figure(" ttft=", costWaitMs(index) + costPrefillMs(index));
  figure(" tpot=", costTpotMs(index));
  figure(" cost=", costOf(index));
  figure(" broken=", brokenMs(index, row / POOL_ENDPOINTS_MAX));
}

function figure(name: string, value: f64): void {
  writeLiteral(name);
  writeF64(value);
}

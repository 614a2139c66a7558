// What runs beside decode for a request: an endpoint that computes the prompt, endpoints that encode its images; and
// the headers by which the pods' routing sidecars are told.
//
// Source of names and meanings: llm-d-router pkg/epp/framework/plugins/scheduling/profilehandler/disagg, pkg/sidecar
// @ ebab6879. The decode endpoint itself is never its own prefill endpoint: that would only add a transfer.
import { MAP_REQUEST_HEADERS } from "../abi/constants";
import { replaceHeader } from "../abi/host";
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { poolIsMeasured, prefillBaseMs, prefillTokenMs, ratesOf } from "../pool/rates";
import { COLUMN_ROLES, COLUMN_UNCACHED_TOKENS, rowF64, rowU32 } from "../pool/rows";
import { transferTokenMs } from "../pool/transfer";
import {
  API_ANTHROPIC_MESSAGES,
  API_CHAT,
  API_COMPLETIONS,
  API_RESPONSES,
  API_SGLANG_GENERATE,
  API_VLLM_GENERATE,
} from "../prompt/api";
import { promptAudios, promptImages, promptVideos } from "../prompt/record";
import { candidateCount, candidateRow } from "../schedule/candidates";
import { costAfter, isPriced, isWorthIt } from "../schedule/disaggregate";
import {
  PAIRS_OFF,
  PAIR_NONE,
  isLittleMovable,
  pairHasPrompt,
  pairPrompt,
  pairPromptNext,
  pairsBegin,
  pairsMode,
  pairsOff,
  pairsTakePrompt,
  pairsWhole,
} from "../schedule/pairs";
import { PLUGIN_LATENCY_PICKER } from "../schedule/plugin-types";
import { requestPromptTokens } from "../schedule/request";
import { resultRow } from "../schedule/pickers";
import { poolNoteMovable } from "../pool/means";
import { RESULTS_MAX, planPicker } from "../schedule/plan";
import { schedule } from "../schedule/schedule";
import { configPlan } from "../schema/settings";
import {
  configDataParallel,
  configEncodePlan,
  configMinGainMs,
  configNonCachedTokens,
  configPromptTokens,
  configPrefillDecider,
  configPrefillPlan,
  configPrimaryPort,
  configProtocol,
  configStageMode,
  configTransferTokenMs,
} from "../schema/stage-settings";
import { MODE_INLINE, PROTOCOL_SGLANG } from "../schema/stages-layout";
import { RUNS_ENCODE, RUNS_PREFILL, wantedStages } from "../schema/wanted-stages";
import { writeBegin, writeByte, writeBytes, writeLength, writeU64 } from "../text/text";
import { ROLE_DECODE, ROLE_PREFILL } from "../wire/snapshot";
import { gatherCandidates } from "./candidates";
import {
  COUNT_DISAGGREGATED,
  COUNT_DISAGG_COSTLIER,
  COUNT_DISAGG_NO_PREFILL,
  COUNT_DISAGG_UNFIT,
  countUp,
} from "./counters";
import { meterStages } from "./disaggregation-metrics";
import { NO_ROW, legBegin, legRow, legUncached } from "./legs";
import { H_DATA_PARALLEL, H_ENCODERS, H_PREFILLER } from "./names";
import {
  F_DISAGGREGATED,
  F_EARLY,
  F_HAS_PROMPT,
  F_INLINE,
  S_API,
  S_PROMPT_TOKENS,
  hasFlag,
  setFlag,
  streamPrompt,
} from "./streams";

const text: usize = memory.data(2048);
const encoders: usize = memory.data(16 * 2, 2);
let encoderCount: u32 = 0;

/**
 * Whether requests of this API can be computed in two places: their engines take the parameters for it, and use them for
 * one generation, as not in the Responses API, where each call of a tool is one more. In mode headers it is the APIs that
 * llm-d's sidecar splits (llm-d-router pkg/sidecar/proxy/proxy.go, createRoutes).
 */
export function apiIsSplit(api: u32, config: u32): bool {
  if (api == API_CHAT || api == API_COMPLETIONS) return true;
  if (configStageMode(config) != MODE_INLINE) {
    return api == API_RESPONSES || api == API_ANTHROPIC_MESSAGES || api == API_VLLM_GENERATE;
  }
  return api == (configProtocol(config) == PROTOCOL_SGLANG ? API_SGLANG_GENERATE : API_ANTHROPIC_MESSAGES);
}

/**
 * Chooses what runs beside decode at `decodeRow`; the stream's flags and leg say it. Right after the decode profile
 * was scheduled, as that profile's candidates still stand. Returns RUNS_* bits.
 */
export function chooseStages(
  stream: usize,
  pool: u32,
  config: u32,
  model: u64,
  decodeRow: u32,
  now: f64,
): u32 {
  encoderCount = 0;
  const prefill = configPrefillPlan(config);
  const encode = configEncodePlan(config);
  if (prefill == 0 && encode == 0) return 0;
  let runs: u32 = 0;
  if (hasFlag(stream, F_HAS_PROMPT)) {
    const promptTokens = <f64>load<u32>(stream, S_PROMPT_TOKENS);
    const lacking = Math.min(Math.max(rowF64(COLUMN_UNCACHED_TOKENS, decodeRow), 0), promptTokens);
    const wanted = wantedStages(config, promptTokens, lacking, isMultimodal(stream));
    const wantsPrefill = (wanted & RUNS_PREFILL) != 0 && isFit(stream, config);
    if (wantsPrefill && choosePrefill(stream, pool, config, model, decodeRow, lacking, now))
      runs |= RUNS_PREFILL;
    if (prefill != 0) noteMovable(stream, pool, wantsPrefill, lacking);
    pairsOff();
    if ((wanted & RUNS_ENCODE) != 0 && chooseEncoders(encode, pool, model, now)) runs |= RUNS_ENCODE;
  }
  meterStages(pool, runs);
  return runs;
}

function isMultimodal(stream: usize): bool {
  const prompt = streamPrompt(stream);
  return promptImages(prompt) + promptAudios(prompt) + promptVideos(prompt) > 0;
}

function chooseEncoders(plan: usize, pool: u32, model: u64, now: f64): bool {
  if (!gatherCandidates(pool, model, now)) return false;
  encoderCount = min(schedule(plan, pool), RESULTS_MAX);
  for (let i: u32 = 0; i < encoderCount; i++) store<u16>(encoders + ((<usize>i) << 1), <u16>resultRow(i));
  return encoderCount > 0;
}

// A call needs all of the body, and an API whose engines take its parameters.
function isFit(stream: usize, config: u32): bool {
  if (canSplit(stream, config)) return true;
  countUp(COUNT_DISAGG_UNFIT);
  return false;
}

function canSplit(stream: usize, config: u32): bool {
  const isCut = configStageMode(config) == MODE_INLINE && hasFlag(stream, F_EARLY);
  return !isCut && apiIsSplit(load<u32>(stream, S_API), config);
}

// How much of the request's prefill could have been elsewhere: by that answers gather (schedule/pairs.ts).
function noteMovable(stream: usize, pool: u32, isWanted: bool, lacking: f64): void {
  const isElsewhere = hasFlag(stream, F_DISAGGREGATED);
  poolNoteMovable(pool, isElsewhere ? <f64>legUncached(stream) : isWanted ? lacking : 0);
}

/**
 * Before the decode profile is scheduled: where prompts are computed and answered is chosen as one, if the decider has a
 * threshold, both profiles choose by predicted latency, and prefill was measured. Where endpoints do both, prices begin
 * with a guess of how fast it is: answers that are scattered before it is known stay so for as long as they run. The
 * prompt was measured and the candidates are gathered, here and afterwards.
 */
export function preparePairs(stream: usize, pool: u32, config: u32, model: u64, now: f64): void {
  pairsOff();
  if (stream == 0 || !hasFlag(stream, F_HAS_PROMPT) || !hasPairs(pool, config)) return;
  const tokens = requestPromptTokens();
  const nonCached = configNonCachedTokens(config);
  const canGo = nonCached > 0 && tokens >= nonCached && tokens >= configPromptTokens(config);
  if (!canGo) {
    ratesOf(candidateRow(0), now);
    if (isLittleMovable(pool, prefillTokenMs())) return;
  }
  pairsBegin();
  if (canGo && canSplit(stream, config)) {
    const plan = configPrefillPlan(config);
    if (schedule(plan, pool) > 0) pairsTakePrompt(resultRow(0));
    gatherCandidates(pool, model, now);
  }
  const transferMs = transferTokenMs(pool, configTransferTokenMs(config));
  pairsWhole(nonCached, transferMs, configMinGainMs(config));
}

function hasPairs(pool: u32, config: u32): bool {
  const prefill = configPrefillPlan(config);
  if (prefill == 0 || planPicker(prefill) != PLUGIN_LATENCY_PICKER) return false;
  if (planPicker(configPlan(config)) != PLUGIN_LATENCY_PICKER) return false;
  return isPriced(configPrefillDecider(config), poolIsMeasured(pool) || anyDoesBoth());
}

function anyDoesBoth(): bool {
  const both = ROLE_DECODE | ROLE_PREFILL;
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) {
    if ((rowU32(COLUMN_ROLES, candidateRow(i)) & both) == both) return true;
  }
  return false;
}

function choosePrefill(
  stream: usize,
  pool: u32,
  config: u32,
  model: u64,
  decodeRow: u32,
  lacking: f64,
  now: f64,
): bool {
  if (pairsMode() != PAIRS_OFF) return takePair(stream, config, decodeRow, lacking);
  const plan = configPrefillPlan(config);
  const priced = isPriced(configPrefillDecider(config), poolIsMeasured(pool));
  const stay = priced ? costAfter(configPlan(config), pool, decodeRow) : 0;
  const found = gatherCandidates(pool, model, now) ? schedule(plan, pool) : 0;
  const row = nextRow(found, decodeRow, NO_ROW);
  if (row == NO_ROW) {
    countUp(COUNT_DISAGG_NO_PREFILL);
    return false;
  }
  const transferMs = configTransferTokenMs(config);
  if (priced) {
    const go = costAfter(plan, pool, row);
    ratesOf(decodeRow, now);
    const transfer = transferTokenMs(pool, transferMs) * lacking;
    if (!isWorthIt(stay, go, transfer, prefillBaseMs(), configMinGainMs(config))) {
      countUp(COUNT_DISAGG_COSTLIER);
      return false;
    }
  }
  beginLeg(stream, config, row, nextRow(found, decodeRow, row), lacking);
  return true;
}

function takePair(stream: usize, config: u32, decodeRow: u32, lacking: f64): bool {
  const row = pairPrompt(decodeRow);
  if (row == PAIR_NONE) {
    countUp(pairHasPrompt(decodeRow) ? COUNT_DISAGG_COSTLIER : COUNT_DISAGG_NO_PREFILL);
    return false;
  }
  beginLeg(stream, config, row, pairPromptNext(decodeRow), lacking);
  return true;
}

function beginLeg(stream: usize, config: u32, row: u32, other: u32, lacking: f64): void {
  legBegin(stream, row, other, <u32>lacking, configTransferTokenMs(config));
  setFlag(stream, F_DISAGGREGATED);
  if (configStageMode(config) == MODE_INLINE) setFlag(stream, F_INLINE);
  countUp(COUNT_DISAGGREGATED);
}

// The best of the `found` results that is neither of the two rows.
function nextRow(found: u32, one: u32, other: u32): u32 {
  for (let i: u32 = 0; i < found; i++) {
    const row = resultRow(i);
    if (row != one && row != other) return row;
  }
  return NO_ROW;
}

/** Writes the headers of the stages that run; clients' copies were removed at the headers. `stream` 0: none runs. */
export function writeStages(stream: usize, config: u32, decodeRow: u32): void {
  if (stream != 0 && hasFlag(stream, F_DISAGGREGATED) && !hasFlag(stream, F_INLINE)) {
    const row = legRow(stream);
    replaceHeader(MAP_REQUEST_HEADERS, H_PREFILLER, rowAddressPtr(row), rowAddressLen(row));
  }
  if (stream != 0 && encoderCount > 0) writeEncoders();
  writeRank(decodeRow, config);
}

/** Names the rank that a pod's first one is to have the request decoded by, where pods have ranks. */
export function writeRank(decodeRow: u32, config: u32): void {
  if (!configDataParallel(config)) return;
  replaceHeader(MAP_REQUEST_HEADERS, H_DATA_PARALLEL, rowAddressPtr(decodeRow), rowAddressLen(decodeRow));
}

function writeEncoders(): void {
  writeBegin(text, 2048);
  for (let i: u32 = 0; i < encoderCount; i++) {
    const row = <u32>load<u16>(encoders + ((<usize>i) << 1));
    if (i > 0) writeByte(44);
    writeBytes(rowAddressPtr(row), rowAddressLen(row));
  }
  replaceHeader(MAP_REQUEST_HEADERS, H_ENCODERS, text, writeLength());
}

/** Writes where Envoy finds the row: its address, of a data-parallel rank that of its pod's first one. */
export function writeHost(row: u32, config: u32): void {
  if (!configDataParallel(config)) return writeBytes(rowAddressPtr(row), rowAddressLen(row));
  writeBytes(rowAddressPtr(row), hostBytes(row));
  writeByte(58);
  writeU64(configPrimaryPort(config));
}

const host: usize = memory.data(128);

/** Whether Envoy knows the row by this address. */
export function hasHost(row: u32, config: u32, ptr: usize, bytes: u32): bool {
  writeBegin(host, 128);
  writeHost(row, config);
  return writeLength() == bytes && memory.compare(host, ptr, bytes) == 0;
}

/** Bytes of "ip" or "[ipv6]" in a row's "ip:port". */
export function hostBytes(row: u32): u32 {
  const ptr = rowAddressPtr(row);
  let bytes = rowAddressLen(row);
  while (bytes > 0 && load<u8>(ptr + bytes - 1) != 58) bytes--;
  return bytes > 0 ? bytes - 1 : rowAddressLen(row);
}

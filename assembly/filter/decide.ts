// The decision for one stream: candidates, the schedule, the headers that say it.
import { MAP_REQUEST_HEADERS, STATUS_OK } from "../abi/constants";
import { header, nowNs, setFilterState, valueBytes, valuePtr } from "../abi/host";
import {
  writeBegin,
  writeBytes,
  writeF64,
  writeJsonInner,
  writeLength,
  writeLiteral,
  writeText,
  writeU64,
} from "../text/text";
import { POOLS_MAX, POOL_ENDPOINTS_MAX } from "../wire/limits";
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { NO_POOL, poolHasSnapshot, poolName, poolNameBytes } from "../pool/table";
import { hashBytes, mixPair } from "../text/hash";
import { promptLoraHash, promptMaxTokens } from "../prompt/record";
import {
  requestReset,
  requestSetHeader,
  requestSetLora,
  requestSetMaxTokens,
  requestSetModel,
  requestSetSlos,
} from "../schedule/request";
import { objectiveTpotMs, objectiveTtftMs } from "../schedule/objective-slos";
import { planPicker, planPickerInstance } from "../schedule/plan";
import { PLUGIN_LATENCY_PICKER } from "../schedule/plugin-types";
import { resultRow } from "../schedule/pickers";
import { schedule, schedulePlaced } from "../schedule/schedule";
import { configExposeDecision, configHeaderCount, configHeaderName, configPlan } from "../schema/settings";
import { COUNT_BY_LOAD, COUNT_DECISIONS, COUNT_EARLY, countUp } from "./counters";
import {
  DECIDED_BLIND,
  DECIDED_BY_LOAD,
  DECIDED_BY_PREFIX,
  DECIDED_COLD,
  decisionKindName,
  meterDecision,
  meterDecisionTime,
  meterHitPercent,
} from "./metrics";
import { S_DECISION } from "./names";
import {
  F_DISAGGREGATED,
  F_EARLY,
  F_HAS_PROMPT,
  F_IF_AVAILABLE,
  F_REWRITTEN,
  S_OBJECTIVE_HASH,
  S_POOL,
  S_PRIORITY,
  S_PROMPT_TOKENS,
  S_TPOT_SLO,
  S_TTFT_SLO,
  S_UNCACHED,
  destinationRow,
  hasFlag,
  streamPrompt,
} from "./streams";
import { publish, sync } from "./worker";
import { commit } from "./commit";
import { pickedRemember, pickedRow, pickedTake, pickedWrite } from "./destinations";
import { streamModelBytes, streamModelPtr } from "./rewrite";
import { gatherCandidates, heldKeys, measurePrompt } from "./candidates";
import { indexName, mayRender } from "./rendered";
import { RUNS_PREFILL } from "../schema/wanted-stages";
import { decisionName } from "./disaggregation-metrics";
import { explain } from "./explain";
import { LEG_LACKING, legOf, legRow } from "./legs";
import { chooseStages, preparePairs, writeStages } from "./stages";

// Outcomes of decide().
export const DECIDED: u32 = 0;
/** The pool has no ready endpoint. */
export const NO_ENDPOINTS: u32 = 1;
/** Ready endpoints there are, but the configuration's filters let none through. */
export const NONE_ELIGIBLE: u32 = 2;
/** No pool, or no snapshot of it yet. */
export const NO_SNAPSHOT: u32 = 3;
/** The request is only to be answered where part of its prompt is cached, and it is not. */
export const NOT_CACHED: u32 = 4;

let randomState: u64 = 0x9e3779b97f4a7c15;

/** The model that the picked rows were to serve. */
let pickedModel: u64 = 0;

/** The two histograms show the first and every n-th decision: recording one costs as much as scoring 64 endpoints. */
const METERED_EVERY: u32 = 8;
let decisionsUnmetered: u32 = METERED_EVERY - 1;
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
  if (hasFlag(stream, F_IF_AVAILABLE) && !isCached(stream, resultRow(0))) return NOT_CACHED;
  explain(stream, resultRow(0), planPicker(configPlan(config)) == PLUGIN_LATENCY_PICKER);
  isMetered = ++decisionsUnmetered >= METERED_EVERY;
  if (isMetered) decisionsUnmetered = 0;
  const row = pickedRow(0);
  schedulePlaced(configPlan(config), pool, row);
  const runs = chooseStages(stream, pool, config, pickedModel, row, now);
  pickedRemember(stream);
  const kind = describe(stream, blind);
  pickedWrite(config);
  writeStages(stream, config, row);
  commit(stream, pool, now);
  publish(now);
  countUp(COUNT_DECISIONS);
  if (hasFlag(stream, F_EARLY)) countUp(COUNT_EARLY);
  meterDecision(pool, kind);
  if (configExposeDecision(config)) exposeDecision(stream, pool, kind, runs);
  if (isMetered) meterHit(stream, pool);
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
  pickedWrite(config);
  writeStages(0, config, pickedRow(0));
  countUp(COUNT_DECISIONS);
  meterDecision(pool, DECIDED_BLIND);
  return DECIDED;
}

function pick(stream: usize, pool: u32, config: u32, now: f64, entropy: u64): u32 {
  if (pool == NO_POOL || !poolHasSnapshot(pool)) return NO_SNAPSHOT;
  randomState = mixPair(randomState, entropy);
  requestReset(now, randomState);
  let model: u64 = 0;
  pickedModel = 0;
  if (stream != 0 && hasFlag(stream, F_HAS_PROMPT)) {
    const prompt = streamPrompt(stream);
    const modelBytes = streamModelBytes(stream);
    if (modelBytes > 0) {
      model = hashBytes(streamModelPtr(stream), modelBytes);
      requestSetModel(model);
    }
    requestSetLora(promptLoraHash(prompt));
  }
  pickedModel = model;
  if (stream != 0) setSlos(stream, config);
  if (!gatherCandidates(pool, model, now)) return NO_ENDPOINTS;
  measurePrompt(stream, pool, model);
  readHeaders(config);
  preparePairs(stream, pool, config, model, now);
  return pickedTake(schedule(configPlan(config), pool)) > 0 ? DECIDED : NONE_ELIGIBLE;
}

// The request's own wishes, else those that the configuration has for its objective.
function setSlos(stream: usize, config: u32): void {
  const picker = planPickerInstance(configPlan(config));
  const isLatency = planPicker(configPlan(config)) == PLUGIN_LATENCY_PICKER;
  const objective = load<u64>(stream, S_OBJECTIVE_HASH);
  if (isLatency && load<f32>(stream, S_TTFT_SLO) == 0) {
    store<f32>(stream, <f32>objectiveTtftMs(picker, objective), S_TTFT_SLO);
  }
  if (isLatency && load<f32>(stream, S_TPOT_SLO) == 0) {
    store<f32>(stream, <f32>objectiveTpotMs(picker, objective), S_TPOT_SLO);
  }
  requestSetSlos(<f64>load<f32>(stream, S_TTFT_SLO), <f64>load<f32>(stream, S_TPOT_SLO));
  if (hasFlag(stream, F_HAS_PROMPT)) requestSetMaxTokens(Math.max(promptMaxTokens(streamPrompt(stream)), 0));
}

function readHeaders(config: u32): void {
  for (let i: u32 = 0; i < configHeaderCount(config); i++) {
    if (header(MAP_REQUEST_HEADERS, configHeaderName(config, i)) == STATUS_OK) {
      requestSetHeader(i, valuePtr(), valueBytes());
    }
  }
}

function isCached(stream: usize, row: u32): bool {
  return hasFlag(stream, F_HAS_PROMPT) && heldKeys(row % POOL_ENDPOINTS_MAX) > 0;
}

// Of a prompt that another endpoint computes nothing is reserved as uncached where it is decoded.
function uncachedAtDecode(stream: usize): u32 {
  return hasFlag(stream, F_DISAGGREGATED)
    ? load<u32>(legOf(stream), LEG_LACKING)
    : load<u32>(stream, S_UNCACHED);
}

function describe(stream: usize, blind: bool): u32 {
  if (blind) return DECIDED_BLIND;
  if (!hasFlag(stream, F_HAS_PROMPT)) {
    countUp(COUNT_BY_LOAD);
    return DECIDED_BY_LOAD;
  }
  return heldKeys(destinationRow(stream, 0) % POOL_ENDPOINTS_MAX) > 0 ? DECIDED_BY_PREFIX : DECIDED_COLD;
}

function meterHit(stream: usize, pool: u32): void {
  const promptTokens = load<u32>(stream, S_PROMPT_TOKENS);
  if (promptTokens == 0) return;
  meterHitPercent(pool, ((promptTokens - uncachedAtDecode(stream)) * 100) / promptTokens);
}

const state: usize = memory.data(2048);

// One line for access logs: pool, endpoint, kind, prompt and matched tokens.
function exposeDecision(stream: usize, pool: u32, kind: u32, runs: u32): void {
  const row = destinationRow(stream, 0);
  const promptTokens = load<u32>(stream, S_PROMPT_TOKENS);
  writeBegin(state, 2048);
  writeLiteral("pool=");
  if (pool < <u32>POOLS_MAX) writeBytes(poolName(pool), poolNameBytes(pool));
  writeLiteral(" endpoint=");
  writeBytes(rowAddressPtr(row), rowAddressLen(row));
  writeLiteral(" kind=");
  writeText(decisionKindName(kind));
  writeLiteral(" prompt_tokens=");
  writeU64(promptTokens);
  writeLiteral(" matched_tokens=");
  writeU64(promptTokens - min(promptTokens, uncachedAtDecode(stream)));
  if (mayRender(pool) && hasFlag(stream, F_HAS_PROMPT)) exposeIndex(row);
  exposeStages(stream, runs);
  exposePolicy(stream);
  setFilterState(S_DECISION, state, writeLength());
}

// Which index the match is of, where there may be two.
function exposeIndex(row: u32): void {
  writeLiteral(" index=");
  writeText(indexName(row));
}

// What runs elsewhere, where anything does.
function exposeStages(stream: usize, runs: u32): void {
  if (runs == 0) return;
  writeLiteral(" stages=");
  writeText(decisionName(runs));
  if ((runs & RUNS_PREFILL) == 0) return;
  writeLiteral(" prefill=");
  writeBytes(rowAddressPtr(legRow(stream)), rowAddressLen(legRow(stream)));
}

// What the pool's policy made of the request, where it made anything of it.
function exposePolicy(stream: usize): void {
  const priority = load<i32>(stream, S_PRIORITY);
  if (priority != 0) {
    writeLiteral(" priority=");
    writeF64(priority);
  }
  if (!hasFlag(stream, F_REWRITTEN)) return;
  writeLiteral(" model=");
  writeJsonInner(streamModelPtr(stream), streamModelBytes(stream));
}

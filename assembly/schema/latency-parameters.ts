// Parameters of epp-wasm-latency-picker, their defaults and ranges.
//
// | parameter | default | range | meaning |
// |---|---|---|---|
// | sloTtftMs | 0 | 0 … 3600000 ms | wish for the time to the first token of requests that name none; 0 = no matter |
// | sloTpotMs | 0 | 0 … 3600000 ms | wish for the time between tokens of requests that name none; 0 = no matter |
// | objectives | [] | ≤ 32 of { name, sloTtftMs, sloTpotMs } | the same for requests of that objective |
// | contextPrice | 6 | 0 … 100 | what a prefill costs more, times itself, where the KV cache is all taken |
// | tieShare | 0.1 | 0 … 1 | costs that differ by less than this share of the own prefill are equal |
// | maxNumOfEndpoints | 1 | whole numbers | as in llm-d's pickers; never fewer than `destinations` |
import { treeCount, treeFirst, treeNext, treeTextLen, treeTextPtr } from "../json/tree";
import { CONTEXT_PRICE } from "../schedule/latency-cost";
import { TIE_SHARE_DEFAULT } from "../schedule/latency-picker";
import { OBJECTIVE_BYTES, objectiveSet } from "../schedule/objective-slos";
import {
  INSTANCE_AT_A,
  INSTANCE_AT_B,
  INSTANCE_AT_C,
  INSTANCE_AT_COUNT,
  INSTANCE_AT_LIST,
} from "../schedule/plan";
import { hashBytes } from "../text/hash";
import { isRefused, pathBack, pathElement, pathMark, pathMember } from "./errors";
import {
  arrayField,
  numberField,
  objectBegin,
  objectEnd,
  refuseField,
  textField,
  wholeField,
} from "./fields";
import { slotAlloc } from "./slots";

/** Objectives that one picker knows wishes of; a document with more is refused. */
export const OBJECTIVES_MAX: u32 = 32;
const SLO_MAX_MS: f64 = 3600000;
const SLO_EXPECTED = "a number of ms, 0 to 3600000";

/** Gives an instance all defaults. */
export function latencyDefaults(instance: usize): void {
  store<f64>(instance, 1, INSTANCE_AT_A);
  store<f64>(instance, CONTEXT_PRICE, INSTANCE_AT_B);
  store<f64>(instance, TIE_SHARE_DEFAULT, INSTANCE_AT_C);
}

/** Reads the members of the object in hand; objectEnd() is the caller's. */
export function latencyParameters(slot: usize, instance: usize): void {
  latencyDefaults(instance);
  const endpoints = wholeField("maxNumOfEndpoints", 1, -9007199254740991, 9007199254740991, "a whole number");
  if (endpoints > 0) store<f64>(instance, endpoints, INSTANCE_AT_A);
  const price = numberField("contextPrice", CONTEXT_PRICE, 0, 100, "a number, 0 to 100");
  store<f64>(instance, price, INSTANCE_AT_B);
  store<f64>(instance, numberField("tieShare", TIE_SHARE_DEFAULT, 0, 1, "a share, 0 to 1"), INSTANCE_AT_C);
  const ttft = numberField("sloTtftMs", 0, 0, SLO_MAX_MS, SLO_EXPECTED);
  const tpot = numberField("sloTpotMs", 0, 0, SLO_MAX_MS, SLO_EXPECTED);
  const objectives = arrayField("objectives");
  const count = treeCount(objectives);
  if (count > OBJECTIVES_MAX) refuseField("objectives", objectives, "at most 32 objectives");
  if (isRefused()) return;
  const list = slotAlloc(slot, (count + 1) * <u32>OBJECTIVE_BYTES);
  if (list == 0) {
    refuseField("objectives", objectives, "a configuration whose texts fit into 16384 bytes");
    return;
  }
  store<u32>(instance, <u32>list, INSTANCE_AT_LIST);
  store<u32>(instance, count + 1, INSTANCE_AT_COUNT);
  objectiveSet(list, 0, ttft, tpot);
  const mark = pathMark();
  let objective = treeFirst(objectives);
  for (let i: u32 = 0; objective >= 0 && !isRefused(); i++) {
    pathMember("objectives");
    pathElement(i);
    readObjective(objective, list + <usize>(i + 1) * OBJECTIVE_BYTES, ttft, tpot);
    pathBack(mark);
    objective = treeNext(objective);
  }
}

// What an objective does not name is as for all requests.
function readObjective(node: i32, at: usize, ttft: f64, tpot: f64): void {
  objectBegin(node);
  const name = textField("name");
  if (name < 0 && !isRefused()) refuseField("name", name, "an objective's name");
  const ownTtft = numberField("sloTtftMs", ttft, 0, SLO_MAX_MS, SLO_EXPECTED);
  const ownTpot = numberField("sloTpotMs", tpot, 0, SLO_MAX_MS, SLO_EXPECTED);
  if (objectEnd()) objectiveSet(at, hashBytes(treeTextPtr(name), treeTextLen(name)), ownTtft, ownTpot);
}

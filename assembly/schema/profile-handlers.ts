// Profile handlers and deciders: which profiles of the document run for a request, in which order, and who decides.
//
//   single-profile-handler, data-parallel-profile-handler   one profile
//   disagg-profile-handler   decode, prefill and encode; nested or, deprecated, flat parameters, never both
//   pd-profile-handler       its deprecated form: decode and prefill
// Source: llm-d-router pkg/epp/framework/plugins/scheduling/profilehandler/{disagg,dataparallel} @ ebab6879.
import { NO_NODE, treeFind, treeTextIs, treeTextLen, treeTextPtr } from "../json/tree";
import { INSTANCE_AT_A, INSTANCE_AT_B, instanceType } from "../schedule/plan";
import {
  PLUGIN_ALWAYS_MULTIMODAL_DECIDER,
  PLUGIN_ALWAYS_PD_DECIDER,
  PLUGIN_PREFIX_PD_DECIDER,
} from "../schedule/plugin-types";
import { pathBack, pathElement, pathMark, pathMember, refuse } from "./errors";
import { objectBegin, objectEnd, objectField, refuseField, textField, wholeField } from "./fields";
import {
  PLUGIN_DATA_PARALLEL_HANDLER,
  PLUGIN_DISAGG_HANDLER,
  PLUGIN_PD_HANDLER,
  PLUGIN_SINGLE_PROFILE_HANDLER,
} from "./plugin-table";
import { slotStages } from "./slots";
import {
  STAGES_DATA_PARALLEL,
  STAGES_DECIDER,
  STAGES_ENCODE,
  STAGES_NON_CACHED,
  STAGES_PREFILL,
  STAGES_PREFILL_FIRST,
  STAGES_PRIMARY_PORT,
  STAGES_PROMPT,
} from "./stages-layout";

/** Which plan of the slot a profile is compiled into. */
export const STAGE_DECODE: u32 = 0;
export const STAGE_PREFILL: u32 = 1;
export const STAGE_ENCODE: u32 = 2;
/** No stage runs the profile. */
export const STAGE_NONE: u32 = 3;

/** The port that the first rank of a data-parallel pod listens on, unless told otherwise. */
const PRIMARY_PORT_DEFAULT: f64 = 8000;

// The handler of the document in hand; nodes are good as long as its tree is.
let handler: u32 = 0;
let handlerPlace: u32 = 0;
let decodeName: i32 = NO_NODE;
let prefillName: i32 = NO_NODE;
let encodeName: i32 = NO_NODE;
let prefillDecider: i32 = NO_NODE;
let encodeDecider: i32 = NO_NODE;
// The fields that name the deciders in the handler's form at hand.
let prefillField: string = "";
let encodeField: string = "";

/** Forgets the handler: a new document begins. */
export function handlersReset(): void {
  handler = 0;
  decodeName = NO_NODE;
  prefillName = NO_NODE;
  encodeName = NO_NODE;
  prefillDecider = NO_NODE;
  encodeDecider = NO_NODE;
}

/** Whether the document declares a handler that runs several profiles. */
export function runsStages(): bool {
  return handler == PLUGIN_DISAGG_HANDLER || handler == PLUGIN_PD_HANDLER;
}

/** Whether it declares one that runs one. */
export function runsOneProfile(): bool {
  return handler == PLUGIN_SINGLE_PROFILE_HANDLER || handler == PLUGIN_DATA_PARALLEL_HANDLER;
}

/** Reads the parameters `node` of the handler of type `type`, the `place`-th plugin of the document. False: refused. */
export function handlerParameters(node: i32, slot: usize, type: u32, place: u32): bool {
  handlersReset();
  handler = type;
  handlerPlace = place;
  objectBegin(node);
  if (type == PLUGIN_DATA_PARALLEL_HANDLER) {
    const port = wholeField("primaryPort", PRIMARY_PORT_DEFAULT, 0, 65535, "a port, 0 to 65535");
    setPrimaryPort(slot, port == 0 ? PRIMARY_PORT_DEFAULT : port);
  } else if (type == PLUGIN_PD_HANDLER) readPd(slot);
  else if (type == PLUGIN_DISAGG_HANDLER) readDisagg(node, slot);
  return objectEnd();
}

function setPrimaryPort(slot: usize, port: f64): void {
  store<u32>(slotStages(slot), <u32>port, STAGES_PRIMARY_PORT);
  store<u8>(slotStages(slot), port > 0 ? 1 : 0, STAGES_DATA_PARALLEL);
}

// Its decider is prefix-based-pd-decider where none is named.
function readPd(slot: usize): void {
  decodeName = textField("decodeProfile");
  prefillName = textField("prefillProfile");
  prefillField = "deciderPluginName";
  prefillDecider = textField(prefillField);
  textField("prefixPluginType");
  textField("prefixPluginName");
  setPrimaryPort(slot, wholeField("primaryPort", 0, 0, 65535, "a port, 0 to 65535"));
}

function readDisagg(node: i32, slot: usize): void {
  const isNested = treeFind(node, "profiles") >= 0 || treeFind(node, "deciders") >= 0;
  if (isNested) readNested();
  else readFlat();
  const order = textField("stageOrder");
  const isFirst = treeTextIs(order, "prefill-first") || treeTextIs(order, "PrefillFirst");
  if (order >= 0 && !isFirst && !treeTextIs(order, "decode-first") && !treeTextIs(order, "DecodeFirst")) {
    refuseField("stageOrder", order, '"decode-first" or "prefill-first"');
  }
  if (isFirst && prefillDecider >= 0) {
    refuseField("stageOrder", order, '"decode-first" where a prefill decider is named');
  }
  store<u8>(slotStages(slot), isFirst ? 1 : 0, STAGES_PREFILL_FIRST);
}

function readNested(): void {
  const mark = pathMark();
  const profiles = objectField("profiles");
  const deciders = objectField("deciders");
  pathMember("profiles");
  objectBegin(profiles);
  decodeName = textField("decode");
  prefillName = textField("prefill");
  encodeName = textField("encode");
  objectEnd();
  pathBack(mark);
  pathMember("deciders");
  objectBegin(deciders);
  prefillField = "deciders.prefill";
  encodeField = "deciders.encode";
  prefillDecider = textField("prefill");
  encodeDecider = textField("encode");
  objectEnd();
  pathBack(mark);
}

function readFlat(): void {
  decodeName = textField("decodeProfile");
  prefillName = textField("prefillProfile");
  encodeName = textField("encodeProfile");
  prefillField = "prefillDeciderPluginName";
  encodeField = "encodeDeciderPluginName";
  prefillDecider = textField(prefillField);
  const old = textField("deciderPluginName");
  if (old >= 0) {
    prefillField = "deciderPluginName";
    prefillDecider = old;
  }
  encodeDecider = textField(encodeField);
}

/** Parameters of a decider, read into its instance. False: refused. */
export function deciderParameters(node: i32, instance: usize): bool {
  objectBegin(node);
  if (instanceType(instance) == PLUGIN_PREFIX_PD_DECIDER) {
    const whole = "a whole number of tokens ≥ 0";
    store<f64>(instance, wholeField("nonCachedTokens", 0, 0, 9007199254740991, whole), INSTANCE_AT_A);
    store<f64>(instance, wholeField("promptTokens", 0, 0, 9007199254740991, whole), INSTANCE_AT_B);
    textField("prefixMatchInfoProducerName");
  }
  return objectEnd();
}

/** The decider that the handler names for a stage; NO_NODE: none. */
export function deciderName(stage: u32): i32 {
  return stage == STAGE_PREFILL ? prefillDecider : stage == STAGE_ENCODE ? encodeDecider : NO_NODE;
}

/** Whether no decider was named and the handler then has one of its own: prefix-based-pd-decider. */
export function hasImpliedDecider(): bool {
  return handler == PLUGIN_PD_HANDLER && prefillDecider < 0;
}

/** Goes down to where the handler names the decider of `stage`, for an error about it. */
export function pathDecider(stage: u32): void {
  pathMember("plugins");
  pathElement(handlerPlace);
  pathMember("parameters");
  pathMember(stage == STAGE_PREFILL ? prefillField : encodeField);
}

/** Makes a stage run by the decider `instance` (0: none; then only prefill-first runs). False: refused, at `node`. */
export function stageDecider(slot: usize, stage: u32, instance: usize, node: i32): bool {
  const stages = slotStages(slot);
  const type = instance == 0 ? 0 : instanceType(instance);
  if (stage == STAGE_ENCODE) {
    if (type != PLUGIN_ALWAYS_MULTIMODAL_DECIDER) return refuse(node, "an always-disagg-multimodal-decider");
    store<u8>(stages, 1, STAGES_ENCODE);
    return true;
  }
  if (type != PLUGIN_PREFIX_PD_DECIDER && type != PLUGIN_ALWAYS_PD_DECIDER) {
    return refuse(node, "a prefix-based-pd-decider or an always-disagg-pd-decider");
  }
  store<u8>(stages, 1, STAGES_PREFILL);
  store<u32>(stages, type, STAGES_DECIDER);
  store<f64>(stages, load<f64>(instance, INSTANCE_AT_A), STAGES_NON_CACHED);
  store<f64>(stages, load<f64>(instance, INSTANCE_AT_B), STAGES_PROMPT);
  return true;
}

/** Which stage runs the profile whose name is the string `node`. */
export function stageOfProfile(node: i32): u32 {
  if (!runsStages()) return STAGE_DECODE;
  if (isNamed(node, decodeName, "decode")) return STAGE_DECODE;
  if (isNamed(node, prefillName, "prefill")) return STAGE_PREFILL;
  return handler == PLUGIN_DISAGG_HANDLER && isNamed(node, encodeName, "encode") ? STAGE_ENCODE : STAGE_NONE;
}

function isNamed(node: i32, given: i32, otherwise: string): bool {
  if (given < 0) return treeTextIs(node, otherwise);
  const bytes = treeTextLen(given);
  return treeTextLen(node) == bytes && memory.compare(treeTextPtr(node), treeTextPtr(given), bytes) == 0;
}

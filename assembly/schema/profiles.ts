// schedulingProfiles: from references to a compiled plan, with the defaults that llm-d's loader injects.
//
//   no profiles → one, "default", of all filters, scorers and pickers declared, in their order
//   a scorer without a weight → 1;  a profile without a picker → the first declared, else max-score-picker
//   several profiles without a handler, or with one that runs one → refused
//   no profiles with a handler of several → each stage that runs has all plugins and the filter of its role
// Source: llm-d-router pkg/epp/config/loader/{defaults,validation,configloader}.go @ ebab6879.
import {
  KIND_NUMBER,
  treeCount,
  treeFind,
  treeFirst,
  treeKind,
  treeNext,
  treeNumber,
  treeTextLen,
  treeTextPtr,
} from "../json/tree";
import {
  INSTANCE_AT_A,
  INSTANCE_AT_MODE,
  instanceType,
  planAddFilter,
  planAddScorer,
  planPicker,
  planReset,
  planScorers,
  planSetPicker,
  planSetPickerInstance,
} from "../schedule/plan";
import {
  PLUGIN_CONTEXT_LENGTH_AWARE,
  PLUGIN_LATENCY_PICKER,
  PLUGIN_MAX_SCORE_PICKER,
  PLUGIN_ROLE_FILTER,
  isFilter,
  isPicker,
  isScorer,
} from "../schedule/plugin-types";
import { ROLE_DECODE, ROLE_ENCODE, ROLE_PREFILL } from "../wire/snapshot";
import {
  isRefused,
  noticeBegin,
  noticeEnd,
  pathBack,
  pathElement,
  pathMark,
  pathMember,
  refuse,
  refuseFor,
  say,
  sayBytes,
} from "./errors";
import { arrayField, field, objectBegin, objectEnd, refuseField, textField } from "./fields";
import { SETTING_DESTINATIONS } from "./gateway-parameters";
import { latencyDefaults } from "./latency-parameters";
import {
  NO_PLUGIN,
  pluginByName,
  pluginByRole,
  pluginCount,
  pluginInstance,
  pluginRole,
} from "./plugin-list";
import { ROLE_DECIDER } from "./plugin-table";
import {
  STAGE_DECODE,
  STAGE_ENCODE,
  STAGE_NONE,
  STAGE_PREFILL,
  deciderName,
  hasImpliedDecider,
  pathDecider,
  runsOneProfile,
  runsStages,
  stageDecider,
  stageOfProfile,
} from "./profile-handlers";
import { slotInstance, slotPlan, slotSettings, slotStagePlan, slotStages } from "./slots";
import {
  MODE_INLINE,
  STAGES_ENCODE,
  STAGES_MODE,
  STAGES_PREFILL,
  STAGES_PREFILL_FIRST,
} from "./stages-layout";

/** Weight of a scorer whose reference names none. */
const WEIGHT_DEFAULT: f64 = 1;
/** Weights beyond would drown every other score. */
const WEIGHT_MAX: f64 = 1000000;
/** Prefill endpoints that a decision finds: one to ask, and another for when that fails. */
const PREFILLS_NAMED: u32 = 2;
const NO_ROOM = "at most 64 plugins, with the filters and pickers that the stages get by themselves";

// The plan in hand, and the picker that its profile names.
let plan: usize = 0;
let picker: usize = 0;

/** Compiles the profiles into the slot's plans. `list`: schedulingProfiles, or NO_NODE. False: refused. */
export function profilesRead(list: i32, slot: usize): bool {
  if (!stagesRead(slot)) return false;
  if (treeCount(list) == 0) {
    allPlugins(slot, STAGE_DECODE, list);
    if (load<u8>(slotStages(slot), STAGES_PREFILL) != 0) allPlugins(slot, STAGE_PREFILL, list);
    if (load<u8>(slotStages(slot), STAGES_ENCODE) != 0) allPlugins(slot, STAGE_ENCODE, list);
    return !isRefused();
  }
  const mark = pathMark();
  pathMember("schedulingProfiles");
  readProfiles(list, slot);
  if (!isRefused()) checkStages(list, slot);
  pathBack(mark);
  return !isRefused();
}

// Which stages run: those that the handler has a decider for, and prefill where it comes first.
function stagesRead(slot: usize): bool {
  for (let stage = STAGE_PREFILL; stage <= STAGE_ENCODE; stage++) {
    const node = deciderName(stage);
    const isImplied = stage == STAGE_PREFILL && hasImpliedDecider();
    const plugin = isImplied ? pluginByRole(ROLE_DECIDER) : pluginByName(node);
    // The decider that pd-profile-handler has by itself wants no prefill until its document declares it with a threshold.
    if (node < 0 && (!isImplied || plugin == NO_PLUGIN)) continue;
    const mark = pathMark();
    pathDecider(stage);
    if (plugin == NO_PLUGIN || pluginRole(plugin) != ROLE_DECIDER)
      refuse(node, "the name of a declared decider");
    else stageDecider(slot, stage, pluginInstance(plugin), node);
    pathBack(mark);
    if (isRefused()) return false;
  }
  return checkMode(slot);
}

// The filter does not call encoders: only the pods' sidecars do.
function checkMode(slot: usize): bool {
  const stages = slotStages(slot);
  if (load<u8>(stages, STAGES_ENCODE) == 0 || <u32>load<u8>(stages, STAGES_MODE) != MODE_INLINE) return true;
  const mark = pathMark();
  pathDecider(STAGE_ENCODE);
  refuseFor(
    deciderName(STAGE_ENCODE),
    'the encode stage needs epp-wasm-disaggregation with "mode": "headers"',
  );
  pathBack(mark);
  return false;
}

// llm-d names one endpoint unless told otherwise; of decode endpoints we always name fallbacks too, as many as
// `destinations`, and of prefill endpoints one that is asked when the first one fails.
function setPicker(slot: usize, stage: u32, instance: usize): void {
  const type = instance == 0 ? PLUGIN_MAX_SCORE_PICKER : instanceType(instance);
  const wanted = <u32>min<f64>(instance == 0 ? 1 : load<f64>(instance, INSTANCE_AT_A), 16);
  let least: u32 = 1;
  if (stage == STAGE_DECODE) least = load<u32>(slotSettings(slot), SETTING_DESTINATIONS);
  else if (stage == STAGE_PREFILL) least = PREFILLS_NAMED;
  planSetPicker(plan, type, max(least, wanted));
  planSetPickerInstance(plan, instance);
}

function firstPicker(): usize {
  for (let i: u32 = 0; i < pluginCount(); i++) {
    const instance = pluginInstance(i);
    if (instance != 0 && isPicker(instanceType(instance))) return instance;
  }
  return 0;
}

// Without profiles each stage has all plugins, and where there are several stages the filter of its own role.
function allPlugins(slot: usize, stage: u32, list: i32): void {
  beginPlan(slot, stage);
  for (let i: u32 = 0; i < pluginCount() && !isRefused(); i++) {
    const instance = pluginInstance(i);
    if (instance == 0 || (runsStages() && instanceType(instance) == PLUGIN_ROLE_FILTER)) continue;
    addPlugin(instance, WEIGHT_DEFAULT, list);
  }
  if (runsStages() && !isRefused()) addRoleFilter(slot, stage, list);
  if (isRefused()) return;
  if (runsStages() && planScorers(plan) == 0 && firstPicker() == 0) picker = ownLatencyPicker(slot, list);
  endPlan(slot, stage, list);
}

function addRoleFilter(slot: usize, stage: u32, list: i32): void {
  const filter = slotInstance(slot, PLUGIN_ROLE_FILTER);
  if (filter == 0) {
    refuse(list, NO_ROOM);
    return;
  }
  store<u8>(filter, <u8>roleOf(stage), INSTANCE_AT_MODE);
  addPlugin(filter, WEIGHT_DEFAULT, list);
}

function roleOf(stage: u32): u32 {
  if (stage == STAGE_DECODE) return ROLE_DECODE;
  return stage == STAGE_PREFILL ? ROLE_PREFILL : ROLE_ENCODE;
}

function ownLatencyPicker(slot: usize, list: i32): usize {
  const instance = slotInstance(slot, PLUGIN_LATENCY_PICKER);
  if (instance == 0) refuse(list, NO_ROOM);
  else latencyDefaults(instance);
  return instance;
}

function beginPlan(slot: usize, stage: u32): void {
  plan = slotStagePlan(slot, stage);
  planReset(plan, PLUGIN_MAX_SCORE_PICKER, 1);
  picker = 0;
}

function endPlan(slot: usize, stage: u32, list: i32): void {
  if (picker == 0) picker = firstPicker();
  setPicker(slot, stage, picker);
  if (picker == 0 && planScorers(plan) == 0) noticeChance();
  if (planPicker(plan) != PLUGIN_LATENCY_PICKER || planScorers(plan) == 0) return;
  refuseFor(list, "epp-wasm-latency-picker predicts instead of adding scores: its profile takes no scorer");
}

// As in llm-d, where all endpoints then score the same; hardly what anybody wants who names a filter.
function noticeChance(): void {
  noticeBegin();
  say("no scorer and no picker: any endpoint that the filters leave is picked, by chance; ");
  say("epp-wasm-latency-picker picks by predicted latency");
  noticeEnd();
}

function readProfiles(list: i32, slot: usize): void {
  const mark = pathMark();
  let profile = treeFirst(list);
  for (let i: u32 = 0; profile >= 0 && !isRefused(); i++) {
    pathElement(i);
    readProfile(profile, list, slot, i);
    pathBack(mark);
    profile = treeNext(profile);
  }
  if (isRefused() || treeCount(list) == 1 || runsStages()) return;
  refuseFor(
    list,
    runsOneProfile()
      ? "single-profile-handler and data-parallel-profile-handler run one profile only"
      : "several profiles need a profile handler: disagg-profile-handler runs decode, prefill and encode",
  );
}

function readProfile(profile: i32, list: i32, slot: usize, index: u32): void {
  objectBegin(profile);
  const name = textField("name");
  const plugins = arrayField("plugins");
  if (name < 0 && !isRefused()) refuseField("name", field("name"), "a profile's name");
  if (!isRefused() && isNameTaken(name, list, index)) {
    refuseField("name", name, "a name that no other profile has");
  }
  if (!objectEnd()) return;
  const stage = stageOfProfile(name);
  // A further profile of a handler of one is only checked: its document is refused anyway, for having one.
  const isRead = stage != STAGE_NONE && (index == 0 || runsStages());
  if (isRead) beginPlan(slot, stage);
  readReferences(plugins, !isRead);
  if (isRead && !isRefused()) endPlan(slot, stage, profile);
  if (stage != STAGE_NONE || isRefused()) return;
  noticeBegin();
  sayBytes(treeTextPtr(name), treeTextLen(name));
  say(": no stage of the profile handler runs this profile");
  noticeEnd();
}

// A stage without its profile would end requests, or never run, in llm-d; here that is said at the start.
function checkStages(list: i32, slot: usize): void {
  if (!runsStages()) return;
  const stages = slotStages(slot);
  if (planPicker(slotPlan(slot)) == 0) {
    refuseFor(list, "none is the decode profile, which the profile handler always runs");
    return;
  }
  const hasPrefill = planPicker(slotStagePlan(slot, STAGE_PREFILL)) != 0;
  if (load<u8>(stages, STAGES_PREFILL) != 0 && !hasPrefill) {
    refuseFor(list, "none is the prefill profile, for which a decider is named");
  } else if (load<u8>(stages, STAGES_ENCODE) != 0 && planPicker(slotStagePlan(slot, STAGE_ENCODE)) == 0) {
    refuseFor(list, "none is the encode profile, for which a decider is named");
  } else if (load<u8>(stages, STAGES_PREFILL_FIRST) != 0 && hasPrefill) {
    store<u8>(stages, 1, STAGES_PREFILL);
  }
}

function readReferences(list: i32, checkOnly: bool): void {
  const mark = pathMark();
  let reference = treeFirst(list);
  for (let i: u32 = 0; reference >= 0 && !isRefused(); i++) {
    pathMember("plugins");
    pathElement(i);
    objectBegin(reference);
    const plugin = referenceField("pluginRef");
    const weight = field("weight");
    if (weight >= 0 && !(Math.abs(treeNumber(weight)) <= WEIGHT_MAX)) {
      refuseField("weight", weight, "a number, -1000000 to 1000000");
    }
    if (objectEnd() && !checkOnly) {
      const instance = pluginInstance(plugin);
      const value = treeKind(weight) == KIND_NUMBER ? treeNumber(weight) : WEIGHT_DEFAULT;
      if (instance != 0) addPlugin(instance, value, reference);
    }
    pathBack(mark);
    reference = treeNext(reference);
  }
}

/** The plugin that a reference field of the object in hand names; refused where there is none. */
export function referenceField(name: string): u32 {
  const node = textField(name);
  if (isRefused()) return 0;
  const plugin = node < 0 ? NO_PLUGIN : pluginByName(node);
  if (plugin == NO_PLUGIN) refuseField(name, node, "the name of a declared plugin");
  return plugin;
}

function addPlugin(instance: usize, weight: f64, node: i32): void {
  const type = instanceType(instance);
  if (isPicker(type)) {
    if (picker != 0) refuseFor(node, "a second picker; a profile has one");
    picker = instance;
    return;
  }
  const filters =
    isFilter(type) || (type == PLUGIN_CONTEXT_LENGTH_AWARE && load<u8>(instance, INSTANCE_AT_MODE) != 0);
  if (filters && !planAddFilter(plan, instance)) refuse(node, "at most 16 filters in a profile");
  if (isScorer(type) && !planAddScorer(plan, instance, weight))
    refuse(node, "at most 16 scorers in a profile");
}

// Whether one of the profiles before the `index`-th has this name.
function isNameTaken(name: i32, list: i32, index: u32): bool {
  let profile = treeFirst(list);
  for (let i: u32 = 0; i < index; i++) {
    if (sameText(treeFind(profile, "name"), name)) return true;
    profile = treeNext(profile);
  }
  return false;
}

function sameText(a: i32, b: i32): bool {
  const bytes = treeTextLen(a);
  return bytes == treeTextLen(b) && memory.compare(treeTextPtr(a), treeTextPtr(b), bytes) == 0;
}

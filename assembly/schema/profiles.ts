// schedulingProfiles: from references to a compiled plan, with the defaults that llm-d's loader injects.
//
//   no profiles → one, "default", of all filters, scorers and pickers declared, in their order
//   a scorer without a weight → 1;  a profile without a picker → the first declared, else max-score-picker
//   several profiles without a handler, or with single-profile-handler → refused
// Source: llm-d-router pkg/epp/config/loader/{defaults,validation,configloader}.go @ ebab6879.
import {
  KIND_NUMBER,
  NO_NODE,
  treeCount,
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
  isFilter,
  isPicker,
  isScorer,
} from "../schedule/plugin-types";
import { isRefused, pathBack, pathElement, pathMark, pathMember, refuse, refuseFor } from "./errors";
import { arrayField, field, objectBegin, objectEnd, refuseField, textField } from "./fields";
import { SETTING_DESTINATIONS } from "./gateway-parameters";
import { NO_PLUGIN, hasProfileHandler, pluginByName, pluginCount, pluginInstance } from "./plugin-list";
import { slotPlan, slotSettings } from "./slots";

/** Weight of a scorer whose reference names none. */
const WEIGHT_DEFAULT: f64 = 1;
/** Weights beyond would drown every other score. */
const WEIGHT_MAX: f64 = 1000000;

let picker: usize = 0;

/** Compiles the profile into the slot's plan. `list`: schedulingProfiles, or NO_NODE. False: refused. */
export function profilesRead(list: i32, slot: usize): bool {
  const plan = slotPlan(slot);
  planReset(plan, PLUGIN_MAX_SCORE_PICKER, 1);
  picker = 0;
  const count = treeCount(list);
  if (count == 0) allPlugins(plan, list);
  else {
    const mark = pathMark();
    pathMember("schedulingProfiles");
    readProfiles(list, plan);
    pathBack(mark);
  }
  if (isRefused()) return false;
  if (picker == 0) picker = firstPicker();
  setPicker(plan, slot, picker);
  if (planPicker(plan) != PLUGIN_LATENCY_PICKER || planScorers(plan) == 0) return true;
  const mark = pathMark();
  pathMember("schedulingProfiles");
  refuseFor(list, "epp-wasm-latency-picker predicts instead of adding scores: its profile takes no scorer");
  pathBack(mark);
  return false;
}

// llm-d names one endpoint unless told otherwise; we always name fallbacks too, as many as `destinations`.
function setPicker(plan: usize, slot: usize, instance: usize): void {
  const destinations = load<u32>(slotSettings(slot), SETTING_DESTINATIONS);
  const type = instance == 0 ? PLUGIN_MAX_SCORE_PICKER : instanceType(instance);
  const wanted = instance == 0 ? 1 : load<f64>(instance, INSTANCE_AT_A);
  planSetPicker(plan, type, max<u32>(destinations, <u32>min<f64>(wanted, 16)));
  planSetPickerInstance(plan, instance);
}

function firstPicker(): usize {
  for (let i: u32 = 0; i < pluginCount(); i++) {
    const instance = pluginInstance(i);
    if (instance != 0 && isPicker(instanceType(instance))) return instance;
  }
  return 0;
}

function allPlugins(plan: usize, list: i32): void {
  for (let i: u32 = 0; i < pluginCount() && !isRefused(); i++) {
    const instance = pluginInstance(i);
    if (instance != 0) addPlugin(plan, instance, WEIGHT_DEFAULT, list);
  }
}

function readProfiles(list: i32, plan: usize): void {
  const mark = pathMark();
  let first = NO_NODE;
  let profile = treeFirst(list);
  for (let i: u32 = 0; profile >= 0 && !isRefused(); i++) {
    pathElement(i);
    objectBegin(profile);
    const name = textField("name");
    const plugins = arrayField("plugins");
    if (name < 0 && !isRefused()) refuseField("name", field("name"), "a profile's name");
    if (i > 0 && !isRefused() && sameText(name, first))
      refuseField("name", name, "a name that no other profile has");
    if (objectEnd()) readReferences(plugins, plan, i > 0);
    if (i == 0) first = name;
    pathBack(mark);
    profile = treeNext(profile);
  }
  if (isRefused() || treeCount(list) == 1) return;
  refuseFor(
    list,
    hasProfileHandler()
      ? "single-profile-handler runs one profile only"
      : "several profiles need a profile handler; the supported one, single-profile-handler, runs one",
  );
}

// A further profile is only checked: its document is refused anyway, for having one.
function readReferences(list: i32, plan: usize, checkOnly: bool): void {
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
      if (instance != 0) addPlugin(plan, instance, value, reference);
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

function addPlugin(plan: usize, instance: usize, weight: f64, node: i32): void {
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

function sameText(a: i32, b: i32): bool {
  const bytes = treeTextLen(a);
  return bytes == treeTextLen(b) && memory.compare(treeTextPtr(a), treeTextPtr(b), bytes) == 0;
}

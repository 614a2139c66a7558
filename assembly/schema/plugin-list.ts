// The plugins of the document in hand: each read, looked up, its parameters checked; then found by name.
import { KIND_OBJECT, treeFind, treeFirst, treeKind, treeNext, treeTextLen, treeTextPtr } from "../json/tree";
import { INSTANCE_AT_NAME, INSTANCE_AT_NAME_BYTES } from "../schedule/plan";
import { acceptedParameters } from "./accepted-parameters";
import {
  isRefused,
  noticeBegin,
  noticeEnd,
  pathBack,
  pathElement,
  pathMark,
  pathMember,
  refuse,
  refuseBegin,
  refuseEnd,
  refuseFor,
  say,
  sayBytes,
} from "./errors";
import { field, objectBegin, objectEnd, textField } from "./fields";
import { disaggregationParameters } from "./disaggregation-parameters";
import { gatewayParameters } from "./gateway-parameters";
import {
  CLASS_ACCEPTED,
  CLASS_IMPLEMENTED,
  CLASS_UNSUPPORTED,
  PLUGIN_DISAGGREGATION,
  PLUGIN_GATEWAY,
  ROLE_DECIDER,
  ROLE_PROFILE_HANDLER,
  ROLE_SCHEDULING,
  pluginCheckFound,
  pluginLookUp,
  pluginNoteFound,
  pluginNumberFound,
  pluginRoleFound,
  pluginVariantFound,
} from "./plugin-table";
import { deciderParameters, handlerParameters, handlersReset } from "./profile-handlers";
import { schedulingParameters } from "./scheduling-parameters";
import { PLUGINS_MAX, slotInstance, slotText } from "./slots";

//   ┌ plugin, 16 bytes: 0 u32 name, 4 u32 bytes  8 u32 ROLE_*  12 u32 instance or 0 ┐
const PLUGIN_BYTES: usize = 16;
const plugins: usize = memory.data(64 * 16, 8);
let count: u32 = 0;
let handlers: u32 = 0;
let gateways: u32 = 0;
let disaggregations: u32 = 0;

/** "The document declares no plugin of that name." */
export const NO_PLUGIN: u32 = 0xffffffff;

export function pluginCount(): u32 {
  return count;
}

/** ROLE_* of a plugin. */
export function pluginRole(plugin: u32): u32 {
  return load<u32>(plugins + <usize>plugin * PLUGIN_BYTES, 8);
}

/** The instance of a scheduling plugin; 0 for all others. */
export function pluginInstance(plugin: u32): usize {
  return <usize>load<u32>(plugins + <usize>plugin * PLUGIN_BYTES, 12);
}

/** The plugin that the string `node` names, or NO_PLUGIN. */
export function pluginByName(node: i32): u32 {
  return findName(treeTextPtr(node), treeTextLen(node));
}

/** The first plugin of that ROLE_*, or NO_PLUGIN. */
export function pluginByRole(role: u32): u32 {
  for (let i: u32 = 0; i < count; i++) if (pluginRole(i) == role) return i;
  return NO_PLUGIN;
}

/** Whether any filter, scorer or picker is declared. */
export function hasSchedulingPlugin(): bool {
  for (let i: u32 = 0; i < count; i++) if (pluginRole(i) == ROLE_SCHEDULING) return true;
  return false;
}

/** Reads the array `list` (NO_NODE: none) into the slot's instances. False: refused. */
export function pluginsRead(list: i32, slot: usize): bool {
  count = 0;
  handlers = 0;
  gateways = 0;
  disaggregations = 0;
  handlersReset();
  const mark = pathMark();
  let element = treeFirst(list);
  for (let i: u32 = 0; element >= 0; i++) {
    pathMember("plugins");
    pathElement(i);
    const ok = readPlugin(element, slot);
    pathBack(mark);
    if (!ok) return false;
    element = treeNext(element);
  }
  return !isRefused();
}

function readPlugin(node: i32, slot: usize): bool {
  if (treeKind(node) != KIND_OBJECT) return refuse(node, "an object with type, name and parameters");
  if (count >= PLUGINS_MAX) return refuse(node, "at most 64 plugins");
  objectBegin(node);
  const type = textField("type");
  const given = textField("name");
  const parameters = field("parameters");
  if (!objectEnd()) return false;
  const mark = pathMark();
  if (type < 0) {
    pathMember("type");
    refuse(treeFind(node, "type"), "a plugin type");
    pathBack(mark);
    return false;
  }
  const name = given >= 0 ? given : type;
  if (pluginByName(name) != NO_PLUGIN) {
    pathMember("name");
    refuse(name, "a name that no other plugin has");
    pathBack(mark);
    return false;
  }
  if (!checkClass(type)) return false;
  const at = plugins + <usize>count * PLUGIN_BYTES;
  store<u32>(at, <u32>treeTextPtr(name));
  store<u32>(at, treeTextLen(name), 4);
  store<u32>(at, pluginRoleFound(), 8);
  store<u32>(at, 0, 12);
  count++;
  pathMember("parameters");
  const ok = readParameters(parameters, slot, at, name);
  pathBack(mark);
  return ok;
}

// Whether the type may be used; a notice where it has no effect.
function checkClass(type: i32): bool {
  const pluginClass = pluginLookUp(type);
  if (pluginClass == CLASS_IMPLEMENTED) return true;
  if (pluginClass == CLASS_ACCEPTED) {
    noticeBegin();
    sayBytes(treeTextPtr(type), treeTextLen(type));
    say(": no effect in the filter, ");
    say(pluginNoteFound());
    noticeEnd();
    return true;
  }
  const mark = pathMark();
  pathMember("type");
  if (pluginClass == CLASS_UNSUPPORTED) {
    if (refuseBegin(type)) {
      say(" — known in llm-d and not supported; the nearest that is: ");
      say(pluginNoteFound());
      refuseEnd();
    }
  } else {
    refuseFor(type, "unknown plugin type");
  }
  pathBack(mark);
  return false;
}

function readParameters(node: i32, slot: usize, at: usize, name: i32): bool {
  const number = pluginNumberFound();
  if (number == PLUGIN_GATEWAY) {
    if (++gateways > 1) return refuseFor(node, "a second epp-wasm-gateway; one is allowed");
    return gatewayParameters(node, slot);
  }
  if (number == PLUGIN_DISAGGREGATION) {
    if (++disaggregations > 1) return refuseFor(node, "a second epp-wasm-disaggregation; one is allowed");
    return disaggregationParameters(node, slot);
  }
  if (pluginRoleFound() == ROLE_PROFILE_HANDLER) {
    if (++handlers > 1) return refuseFor(node, "a second profile handler; one is allowed");
    return handlerParameters(node, slot, number, count - 1);
  }
  if (number == 0) return acceptedParameters(node, pluginCheckFound());
  const instance = slotInstance(slot, number);
  const text = slotText(slot, treeTextPtr(name), treeTextLen(name));
  if (instance == 0 || text == 0) return refuse(node, "a configuration whose texts fit into 16384 bytes");
  store<u32>(instance, <u32>text, INSTANCE_AT_NAME);
  store<u32>(instance, treeTextLen(name), INSTANCE_AT_NAME_BYTES);
  store<u32>(at, <u32>instance, 12);
  if (pluginRoleFound() == ROLE_DECIDER) return deciderParameters(node, instance);
  return schedulingParameters(node, slot, instance, pluginVariantFound());
}

/** Whether the document says how prompts are computed elsewhere. */
export function hasDisaggregation(): bool {
  return disaggregations > 0;
}

function findName(ptr: usize, bytes: u32): u32 {
  for (let i: u32 = 0; i < count; i++) {
    const at = plugins + <usize>i * PLUGIN_BYTES;
    if (load<u32>(at, 4) == bytes && memory.compare(<usize>load<u32>(at), ptr, bytes) == 0) return i;
  }
  return NO_PLUGIN;
}

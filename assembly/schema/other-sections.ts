// The sections of the document that steer something other than scheduling: checked, so mistakes are told.
//
// dataLayer is the sidecar's; requestHandler, parser, saturationDetector and flowControl choose among what
// the filter does by itself or, while flow control is off, among what nobody asks for. References must hold.
import {
  KIND_NUMBER,
  KIND_STRING,
  NO_NODE,
  treeFirst,
  treeKind,
  treeNext,
  treeTextIs,
  treeTextLen,
  treeTextPtr,
} from "../json/tree";
import { isRefused, pathBack, pathElement, pathMark, pathMember, refuse, refuseFor } from "./errors";
import {
  arrayField,
  boolField,
  durationField,
  field,
  objectBegin,
  objectEnd,
  objectField,
  refuseField,
  textField,
  wholeField,
} from "./fields";
import {
  ROLE_DATA_SOURCE,
  ROLE_DISCOVERY,
  ROLE_FAIRNESS_POLICY,
  ROLE_ORDERING_POLICY,
  ROLE_PARSER,
  ROLE_SATURATION_DETECTOR,
  ROLE_USAGE_LIMIT_POLICY,
  pluginLookUp,
  pluginRoleFound,
  CLASS_ACCEPTED,
} from "./plugin-table";
import { NO_PLUGIN, pluginByName, pluginRole } from "./plugin-list";

const PRIORITY_MAX: f64 = 2147483647;
/** Any role will do. */
const ROLE_ANY: u32 = 0;

/** featureGates: "name" or "name=bool". Flow control cannot be turned on. */
export function featureGatesRead(list: i32): void {
  const mark = pathMark();
  let gate = treeFirst(list);
  for (let i: u32 = 0; gate >= 0 && !isRefused(); i++) {
    pathMember("featureGates");
    pathElement(i);
    checkGate(gate);
    pathBack(mark);
    gate = treeNext(gate);
  }
}

function checkGate(node: i32): void {
  if (treeKind(node) != KIND_STRING) {
    refuse(node, "a string");
    return;
  }
  const isFlowControl = gateIs(node, "flowControl");
  if (!isFlowControl && !gateIs(node, "haPopulateNonLeaderDatastore")) {
    refuse(node, "flowControl or haPopulateNonLeaderDatastore");
    return;
  }
  const on = gateValue(node);
  if (on < 0) refuse(node, "a gate with =true or =false, or alone");
  else if (on > 0 && isFlowControl) {
    refuseFor(
      node,
      "flow control is known in llm-d and not supported; the nearest that is: flowControl=false",
    );
  }
}

// "name" or "name=…".
function gateIs(node: i32, name: string): bool {
  const ptr = treeTextPtr(node);
  const bytes = treeTextLen(node);
  const count = <u32>name.length;
  if (bytes < count || (bytes > count && load<u8>(ptr + count) != 61)) return false;
  for (let i: u32 = 0; i < count; i++) {
    if (<u32>load<u8>(ptr + i) != <u32>load<u16>(changetype<usize>(name) + ((<usize>i) << 1))) return false;
  }
  return true;
}

// 1 on, 0 off, -1 neither; Go's strconv.ParseBool after lower-casing.
function gateValue(node: i32): i32 {
  const ptr = treeTextPtr(node);
  let at: u32 = 0;
  const bytes = treeTextLen(node);
  while (at < bytes && load<u8>(ptr + at) != 61) at++;
  if (at == bytes) return 1;
  const from = ptr + at + 1;
  const count = bytes - at - 1;
  if (wordIs(from, count, "true") || wordIs(from, count, "t") || wordIs(from, count, "1")) return 1;
  return wordIs(from, count, "false") || wordIs(from, count, "f") || wordIs(from, count, "0") ? 0 : -1;
}

function wordIs(ptr: usize, bytes: u32, word: string): bool {
  if (bytes != <u32>word.length) return false;
  for (let i: u32 = 0; i < bytes; i++) {
    const char = <u32>load<u8>(ptr + i);
    const lower = char >= 65 && char <= 90 ? char + 32 : char;
    if (lower != <u32>load<u16>(changetype<usize>(word) + ((<usize>i) << 1))) return false;
  }
  return true;
}

/** dataLayer. */
export function dataLayerRead(node: i32): void {
  const mark = pathMark();
  pathMember("dataLayer");
  objectBegin(node);
  boolField("injectDefaults", true);
  const sources = arrayField("sources");
  const discovery = objectField("discovery");
  objectEnd();
  if (discovery >= 0) referenceObject(discovery, "discovery", ROLE_DISCOVERY, "a declared discovery plugin");
  const inner = pathMark();
  let source = treeFirst(sources);
  for (let i: u32 = 0; source >= 0 && !isRefused(); i++) {
    pathMember("sources");
    pathElement(i);
    objectBegin(source);
    checkReference("pluginRef", ROLE_DATA_SOURCE, "a declared data source");
    const extractors = arrayField("extractors");
    objectEnd();
    references(extractors, "extractors", ROLE_ANY, "a declared extractor");
    pathBack(inner);
    source = treeNext(source);
  }
  pathBack(mark);
}

/** requestHandler and the deprecated parser. */
export function parsersRead(handler: i32, parser: i32): void {
  if (parser >= 0) referenceObject(parser, "parser", ROLE_PARSER, "a declared parser");
  if (handler < 0 || isRefused()) return;
  const mark = pathMark();
  pathMember("requestHandler");
  objectBegin(handler);
  const parsers = arrayField("parsers");
  objectEnd();
  references(parsers, "parsers", ROLE_PARSER, "a declared parser");
  pathBack(mark);
}

/** saturationDetector, at the top (deprecated) or in flowControl. */
export function saturationRead(node: i32): void {
  if (node < 0 || isRefused()) return;
  const mark = pathMark();
  pathMember("saturationDetector");
  objectBegin(node);
  const name = textField("pluginRef");
  if (name >= 0) checkRole("pluginRef", name, ROLE_SATURATION_DETECTOR, "a declared saturation detector");
  objectEnd();
  pathBack(mark);
}

/** flowControl: without its gate it has no effect. */
export function flowControlRead(node: i32): void {
  if (node < 0 || isRefused()) return;
  const mark = pathMark();
  pathMember("flowControl");
  objectBegin(node);
  quantityField("maxBytes");
  quantityField("maxRequests");
  durationField("defaultRequestTTL");
  durationField("noEndpointRequestTTL");
  boolField("enableEviction", false);
  const usage = textField("usageLimitPolicyPluginRef");
  if (usage >= 0)
    checkRole("usageLimitPolicyPluginRef", usage, ROLE_USAGE_LIMIT_POLICY, "a declared usage-limit policy");
  const detector = objectField("saturationDetector");
  const fallback = objectField("defaultPriorityBand");
  const bands = arrayField("priorityBands");
  objectEnd();
  saturationRead(detector);
  const inner = pathMark();
  pathMember("defaultPriorityBand");
  if (fallback >= 0) readBand(fallback);
  pathBack(inner);
  let band = treeFirst(bands);
  for (let i: u32 = 0; band >= 0 && !isRefused(); i++) {
    pathMember("priorityBands");
    pathElement(i);
    readBand(band);
    pathBack(inner);
    band = treeNext(band);
  }
  pathBack(mark);
}

function readBand(node: i32): void {
  objectBegin(node);
  wholeField("priority", 0, -PRIORITY_MAX, PRIORITY_MAX, "a whole number");
  quantityField("maxBytes");
  quantityField("maxRequests");
  const fairness = textField("fairnessPolicyRef");
  if (fairness >= 0)
    checkRole("fairnessPolicyRef", fairness, ROLE_FAIRNESS_POLICY, "a declared fairness policy");
  const ordering = textField("orderingPolicyRef");
  if (ordering >= 0)
    checkRole("orderingPolicyRef", ordering, ROLE_ORDERING_POLICY, "a declared ordering policy");
  objectEnd();
}

// A Kubernetes quantity: a number, or digits with an optional fraction and a suffix.
function quantityField(name: string): void {
  const node = field(name);
  if (node < 0 || treeKind(node) == KIND_NUMBER) return;
  if (treeKind(node) != KIND_STRING || !isQuantity(treeTextPtr(node), treeTextLen(node))) {
    refuseField(name, node, 'a quantity, as "1Gi" or 5000');
  }
}

function isQuantity(ptr: usize, bytes: u32): bool {
  let at: u32 = 0;
  let points: u32 = 0;
  while (at < bytes && (<u32>load<u8>(ptr + at) - 48 <= 9 || load<u8>(ptr + at) == 46)) {
    if (load<u8>(ptr + at) == 46) points++;
    at++;
  }
  if (at == points || points > 1) return false;
  const suffix = ptr + at;
  const left = bytes - at;
  if (left == 0) return true;
  const isBinary = left == 2 && load<u8>(suffix + 1) == 105;
  if (left > 1 && !isBinary) return false;
  const unit = load<u8>(suffix);
  const isLarge = unit == 77 || unit == 71 || unit == 84 || unit == 80 || unit == 69;
  if (isBinary) return isLarge || unit == 75;
  return isLarge || unit == 107 || unit == 109 || unit == 117 || unit == 110;
}

// [{pluginRef}, …] under the path.
function references(list: i32, name: string, role: u32, expected: string): void {
  const mark = pathMark();
  let element = treeFirst(list);
  for (let i: u32 = 0; element >= 0 && !isRefused(); i++) {
    pathMember(name);
    pathElement(i);
    objectBegin(element);
    checkReference("pluginRef", role, expected);
    objectEnd();
    pathBack(mark);
    element = treeNext(element);
  }
}

function referenceObject(node: i32, name: string, role: u32, expected: string): void {
  const mark = pathMark();
  pathMember(name);
  objectBegin(node);
  checkReference("pluginRef", role, expected);
  objectEnd();
  pathBack(mark);
}

// The field of the object in hand must name a plugin of that role.
function checkReference(name: string, role: u32, expected: string): void {
  const node = textField(name);
  if (isRefused()) return;
  if (node < 0) refuseField(name, NO_NODE, expected);
  else checkRole(name, node, role, expected);
}

// llm-d declares the default policies, detector and parsers itself, under the names of their types.
function checkRole(name: string, node: i32, role: u32, expected: string): void {
  const plugin = pluginByName(node);
  if (plugin != NO_PLUGIN) {
    if (role != ROLE_ANY && pluginRole(plugin) != role) refuseField(name, node, expected);
    return;
  }
  const isDefault = isDefaultName(node) && pluginLookUp(node) == CLASS_ACCEPTED && pluginRoleFound() == role;
  if (!isDefault) refuseField(name, node, expected);
}

function isDefaultName(node: i32): bool {
  return (
    treeTextIs(node, "openai-parser") ||
    treeTextIs(node, "anthropic-parser") ||
    treeTextIs(node, "vllmhttp-parser") ||
    treeTextIs(node, "passthrough-parser") ||
    treeTextIs(node, "utilization-detector") ||
    treeTextIs(node, "global-strict-fairness-policy") ||
    treeTextIs(node, "fcfs-ordering-policy") ||
    treeTextIs(node, "static-usage-limit-policy")
  );
}

// Parameters of the filters that ask for labels: a Kubernetes label selector, and by-label's older form.
//
// The rules for keys and values are Kubernetes' (apimachinery util/validation: IsQualifiedName,
// IsValidLabelValue), those for operators labels.NewRequirement's.
import {
  KIND_STRING,
  NO_NODE,
  treeCount,
  treeFirst,
  treeKeyLen,
  treeKeyPtr,
  treeKind,
  treeNext,
  treeTextIs,
  treeTextLen,
  treeTextPtr,
} from "../json/tree";
import {
  OPERATOR_DOES_NOT_EXIST,
  OPERATOR_EXISTS,
  OPERATOR_IN,
  OPERATOR_IN_OR_ABSENT,
  OPERATOR_NOT_IN,
  REQUIREMENT_BYTES,
  requirementSet,
} from "../schedule/label-selector-filter";
import { INSTANCE_AT_COUNT, INSTANCE_AT_LIST } from "../schedule/plan";
import { isRefused, pathBack, pathElement, pathKey, pathMark, pathMember, refuse } from "./errors";
import {
  arrayField,
  boolField,
  field,
  objectBegin,
  objectEnd,
  objectField,
  refuseField,
  textField,
} from "./fields";
import { slotAlloc, slotText } from "./slots";

const NO_ROOM = "a configuration whose texts fit into 16384 bytes";
const NO_OPERATOR: u32 = 0xffffffff;

/** label-selector-filter and by-label-selector: matchLabels and matchExpressions, all of which must hold. */
export function selectorParameters(node: i32, slot: usize, instance: usize): bool {
  objectBegin(node);
  const labels = objectField("matchLabels");
  const expressions = arrayField("matchExpressions");
  if (!objectEnd()) return false;
  const count = treeCount(labels) + treeCount(expressions);
  const list = slotAlloc(slot, count * <u32>REQUIREMENT_BYTES);
  if (list == 0) return refuse(node, NO_ROOM);
  store<u32>(instance, <u32>list, INSTANCE_AT_LIST);
  store<u32>(instance, count, INSTANCE_AT_COUNT);
  const after = readMatchLabels(labels, slot, list);
  return !isRefused() && readMatchExpressions(expressions, slot, after);
}

/** by-label: the label has one of validValues; allowsNoLabel lets endpoints without it pass. */
export function byLabelParameters(node: i32, slot: usize, instance: usize): bool {
  objectBegin(node);
  const label = textField("label");
  const values = arrayField("validValues");
  const allowsNone = boolField("allowsNoLabel", false);
  if (label < 0 && !isRefused()) refuseField("label", NO_NODE, "a label's name");
  if (!allowsNone && treeCount(values) == 0 && !isRefused()) {
    refuseField("validValues", values, "at least one value, or allowsNoLabel");
  }
  if (!objectEnd()) return false;
  const list = slotAlloc(slot, <u32>REQUIREMENT_BYTES);
  const key = slotText(slot, treeTextPtr(label), treeTextLen(label));
  if (list == 0 || key == 0) return refuse(node, NO_ROOM);
  const mark = pathMark();
  pathMember("validValues");
  const refs = readValues(values, slot, false);
  pathBack(mark);
  const op = allowsNone ? OPERATOR_IN_OR_ABSENT : OPERATOR_IN;
  requirementSet(list, op, key, treeTextLen(label), refs, treeCount(values));
  store<u32>(instance, <u32>list, INSTANCE_AT_LIST);
  store<u32>(instance, 1, INSTANCE_AT_COUNT);
  return !isRefused();
}

// Each member is a requirement label = value. Returns where the next requirement goes.
function readMatchLabels(labels: i32, slot: usize, at: usize): usize {
  const mark = pathMark();
  let member = treeFirst(labels);
  while (member >= 0 && !isRefused()) {
    pathMember("matchLabels");
    pathKey(treeKeyPtr(member), treeKeyLen(member));
    if (!isLabelKey(treeKeyPtr(member), treeKeyLen(member)))
      refuse(member, "a label's name before this value");
    const key = slotText(slot, treeKeyPtr(member), treeKeyLen(member));
    const refs = slotAlloc(slot, 8);
    if (key == 0 || refs == 0) refuse(member, NO_ROOM);
    else if (putValue(member, slot, refs, true)) {
      requirementSet(at, OPERATOR_IN, key, treeKeyLen(member), refs, 1);
      at += REQUIREMENT_BYTES;
    }
    pathBack(mark);
    member = treeNext(member);
  }
  return at;
}

function readMatchExpressions(expressions: i32, slot: usize, at: usize): bool {
  const mark = pathMark();
  let element = treeFirst(expressions);
  for (let i: u32 = 0; element >= 0 && !isRefused(); i++) {
    pathMember("matchExpressions");
    pathElement(i);
    readExpression(element, slot, at);
    pathBack(mark);
    at += REQUIREMENT_BYTES;
    element = treeNext(element);
  }
  return !isRefused();
}

function readExpression(node: i32, slot: usize, at: usize): void {
  objectBegin(node);
  const key = textField("key");
  const op = operatorField();
  const values = arrayField("values");
  if (!isRefused() && !isLabelKey(treeTextPtr(key), treeTextLen(key)))
    refuseField("key", key, "a label's name");
  if (!isRefused()) checkCount(op, values);
  if (!objectEnd()) return;
  const text = slotText(slot, treeTextPtr(key), treeTextLen(key));
  if (text == 0) {
    refuse(node, NO_ROOM);
    return;
  }
  const mark = pathMark();
  pathMember("values");
  const refs = readValues(values, slot, true);
  pathBack(mark);
  requirementSet(at, op, text, treeTextLen(key), refs, treeCount(values));
}

function operatorField(): u32 {
  const node = field("operator");
  if (treeTextIs(node, "In")) return OPERATOR_IN;
  if (treeTextIs(node, "NotIn")) return OPERATOR_NOT_IN;
  if (treeTextIs(node, "Exists")) return OPERATOR_EXISTS;
  if (treeTextIs(node, "DoesNotExist")) return OPERATOR_DOES_NOT_EXIST;
  refuseField("operator", node, "In, NotIn, Exists or DoesNotExist");
  return NO_OPERATOR;
}

function checkCount(op: u32, values: i32): void {
  const count = treeCount(values);
  const needsValues = op == OPERATOR_IN || op == OPERATOR_NOT_IN;
  if (needsValues && count == 0) refuseField("values", values, "at least one value for In and NotIn");
  if (!needsValues && count > 0) refuseField("values", values, "no values for Exists and DoesNotExist");
}

// References to copies of an array's strings; the path stands at the array.
function readValues(values: i32, slot: usize, checked: bool): usize {
  const refs = slotAlloc(slot, treeCount(values) * 8);
  if (refs == 0) {
    refuse(values, NO_ROOM);
    return 0;
  }
  const mark = pathMark();
  let element = treeFirst(values);
  for (let i: u32 = 0; element >= 0 && !isRefused(); i++) {
    pathElement(i);
    putValue(element, slot, refs + ((<usize>i) << 3), checked);
    pathBack(mark);
    element = treeNext(element);
  }
  return refs;
}

function putValue(node: i32, slot: usize, ref: usize, checked: bool): bool {
  const ptr = treeTextPtr(node);
  const bytes = treeTextLen(node);
  if (treeKind(node) != KIND_STRING) return refuse(node, "a string");
  if (checked && !isLabelValue(ptr, bytes))
    return refuse(node, "a label's value: at most 63 of A-Z a-z 0-9 - _ .");
  const text = slotText(slot, ptr, bytes);
  if (text == 0) return refuse(node, NO_ROOM);
  store<u32>(ref, <u32>text);
  store<u32>(ref, bytes, 4);
  return true;
}

// [prefix/]name: a DNS subdomain of at most 253 bytes, and 1–63 bytes as in a value.
function isLabelKey(ptr: usize, bytes: u32): bool {
  let slash = bytes;
  for (let i: u32 = 0; i < bytes; i++) {
    if (load<u8>(ptr + i) != 47) continue;
    if (slash != bytes) return false;
    slash = i;
  }
  if (slash == bytes) return bytes > 0 && isLabelValue(ptr, bytes);
  const name = bytes - slash - 1;
  return (
    slash > 0 && slash <= 253 && name > 0 && isSubdomain(ptr, slash) && isLabelValue(ptr + slash + 1, name)
  );
}

function isLabelValue(ptr: usize, bytes: u32): bool {
  if (bytes == 0) return true;
  if (bytes > 63 || !isAlphanumeric(load<u8>(ptr)) || !isAlphanumeric(load<u8>(ptr + bytes - 1)))
    return false;
  for (let i: u32 = 1; i + 1 < bytes; i++) {
    const char = load<u8>(ptr + i);
    if (!isAlphanumeric(char) && char != 45 && char != 46 && char != 95) return false;
  }
  return true;
}

function isSubdomain(ptr: usize, bytes: u32): bool {
  let before: u8 = 46;
  for (let i: u32 = 0; i <= bytes; i++) {
    const char = i < bytes ? load<u8>(ptr + i) : 46;
    const isInner = (char >= 97 && char <= 122) || (char >= 48 && char <= 57);
    if (!isInner && char != 45 && char != 46) return false;
    if (!isInner && before == 46 && (char == 45 || char == 46)) return false;
    if (char == 46 && before == 45) return false;
    before = char;
  }
  return true;
}

function isAlphanumeric(char: u8): bool {
  return (char >= 97 && char <= 122) || (char >= 65 && char <= 90) || (char >= 48 && char <= 57);
}

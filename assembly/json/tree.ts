// A whole small JSON document as a table of nodes: configuration, read once, looked up by name.
//
// One document at a time: the next treeParse overwrites the table. The text handed in is not needed
// afterwards. Of members with the same name the last one counts and the others are taken out of the object,
// as Python's json.loads does; treeDuplicateCount and treeDuplicateNode tell.
import { hashBytes } from "../text/hash";
import {
  EVENT_ARRAY_END,
  EVENT_ARRAY_START,
  EVENT_FALSE,
  EVENT_KEY,
  EVENT_KEY_PIECE,
  EVENT_NULL,
  EVENT_NUMBER,
  EVENT_OBJECT_END,
  EVENT_OBJECT_START,
  EVENT_STRING,
  EVENT_STRING_PIECE,
  EVENT_TRUE,
  JSON_OK,
  SINK_GO,
  SINK_STOP,
} from "./events";
import { scannerErrorCode, scannerErrorOffset } from "./fault";
import { scannerEnd, scannerFeed, scannerReset } from "./scanner";
import { parseNumber } from "./parse-number";

/** Bytes of a document; a longer one is refused with TREE_TOO_LONG. */
export const TREE_BYTES_MAX: u32 = 65536;
/** Values of a document; one with more is refused with TREE_TOO_MANY_NODES. */
export const TREE_NODES_MAX: u32 = 4096;

/** treeParse: the document has more than TREE_BYTES_MAX bytes. Other faults are JSON_* codes. */
export const TREE_TOO_LONG: u32 = 64;
/** treeParse: the document has more than TREE_NODES_MAX values. */
export const TREE_TOO_MANY_NODES: u32 = 65;

/** No such node. */
export const NO_NODE: i32 = -1;

// Kinds of node. treeKind(NO_NODE) is KIND_NONE.
export const KIND_NONE: u32 = 0;
export const KIND_OBJECT: u32 = 1;
export const KIND_ARRAY: u32 = 2;
export const KIND_STRING: u32 = 3;
export const KIND_NUMBER: u32 = 4;
export const KIND_TRUE: u32 = 5;
export const KIND_FALSE: u32 = 6;
export const KIND_NULL: u32 = 7;

//   ┌ node, 40 bytes ──────────────────────────────────────────────────────────────────────┐
//   │ 0 u64 key hash   8 u32 key   12 u32 key bytes   16 u32 text   20 u32 text bytes      │
//   │ 24 i32 first child   28 i32 last child   32 i32 next sibling   36 u16 children 38 u8 │
//   └──────────────────────────────────────────────────────────────────────────────────────┘
const AT_KEY_HASH: usize = 0;
const AT_KEY: usize = 8;
const AT_KEY_BYTES: usize = 12;
const AT_TEXT: usize = 16;
const AT_TEXT_BYTES: usize = 20;
const AT_FIRST: usize = 24;
const AT_LAST: usize = 28;
const AT_NEXT: usize = 32;
const AT_CHILDREN: usize = 36;
const AT_KIND: usize = 38;
const NODE_BYTES: usize = 40;

const nodes: usize = memory.data(4096 * 40, 16);
// Unescaping never lengthens a text (a \u escape of 6 bytes gives at most 3), so the document's size is enough.
const texts: usize = memory.data(65536, 16);
const parents: usize = memory.data(65 * 4, 4);
const scanner: usize = memory.data(128, 16);
let nodeCount: u32 = 0;
let textsUsed: u32 = 0;
let depth: u32 = 0;
let pieceStart: u32 = 0;
let keyStart: u32 = 0;
let keyBytes: u32 = 0;
let duplicateCount: u32 = 0;
let duplicateNode: i32 = NO_NODE;
let errorCode: u32 = JSON_OK;
let errorOffset: u32 = 0;

/** Reads the document of `len` bytes at `ptr`. Returns JSON_OK, a JSON_* code or a TREE_* code. */
export function treeParse(ptr: usize, len: u32): u32 {
  nodeCount = 0;
  textsUsed = 0;
  depth = 0;
  pieceStart = 0;
  keyBytes = 0;
  duplicateCount = 0;
  duplicateNode = NO_NODE;
  errorCode = JSON_OK;
  errorOffset = 0;
  if (len > TREE_BYTES_MAX) {
    errorCode = TREE_TOO_LONG;
    errorOffset = TREE_BYTES_MAX;
    return errorCode;
  }
  scannerReset(scanner);
  if (scannerFeed(scanner, ptr, len, onEvent, 0) == JSON_OK) scannerEnd(scanner, onEvent, 0);
  if (scannerErrorCode(scanner) != JSON_OK) {
    // TREE_TOO_MANY_NODES was noted by the sink before it stopped the scanner.
    if (errorCode == JSON_OK) errorCode = scannerErrorCode(scanner);
    errorOffset = <u32>scannerErrorOffset(scanner);
  }
  if (errorCode != JSON_OK) nodeCount = 0;
  return errorCode;
}

/** The document's value; NO_NODE after a fault. */
export function treeRoot(): i32 {
  return nodeCount == 0 ? NO_NODE : 0;
}

/** A node's KIND_*; KIND_NONE for NO_NODE. */
export function treeKind(node: i32): u32 {
  return node < 0 ? KIND_NONE : <u32>load<u8>(at(node), AT_KIND);
}

/** First element or member; NO_NODE if there is none. */
export function treeFirst(node: i32): i32 {
  return node < 0 ? NO_NODE : load<i32>(at(node), AT_FIRST);
}

/** Next element or member of the same parent; NO_NODE behind the last. */
export function treeNext(node: i32): i32 {
  return node < 0 ? NO_NODE : load<i32>(at(node), AT_NEXT);
}

/** Number of elements or members. */
export function treeCount(node: i32): u32 {
  return node < 0 ? 0 : <u32>load<u16>(at(node), AT_CHILDREN);
}

/** Unescaped name of a member (in the table, valid until the next treeParse). */
export function treeKeyPtr(node: i32): usize {
  return node < 0 ? 0 : <usize>load<u32>(at(node), AT_KEY);
}

export function treeKeyLen(node: i32): u32 {
  return node < 0 ? 0 : load<u32>(at(node), AT_KEY_BYTES);
}

/** Unescaped text of a string, or the text of a number (valid until the next treeParse). */
export function treeTextPtr(node: i32): usize {
  return node < 0 ? 0 : <usize>load<u32>(at(node), AT_TEXT);
}

export function treeTextLen(node: i32): u32 {
  return node < 0 ? 0 : load<u32>(at(node), AT_TEXT_BYTES);
}

/** Value of a number; NaN for every other kind and for a number of more than NUMBER_BYTES_MAX bytes. */
export function treeNumber(node: i32): f64 {
  if (treeKind(node) != KIND_NUMBER) return NaN;
  return parseNumber(treeTextPtr(node), treeTextLen(node));
}

/** The member of the object `node` with the ASCII name `key`; NO_NODE if there is none, or no object. */
export function treeFind(node: i32, key: string): i32 {
  if (treeKind(node) != KIND_OBJECT) return NO_NODE;
  let child = treeFirst(node);
  // At most TREE_NODES_MAX members.
  while (child >= 0) {
    if (equalsLiteral(treeKeyPtr(child), treeKeyLen(child), key)) return child;
    child = treeNext(child);
  }
  return NO_NODE;
}

/** Whether the text of a string node is the ASCII literal. */
export function treeTextIs(node: i32, literal: string): bool {
  return treeKind(node) == KIND_STRING && equalsLiteral(treeTextPtr(node), treeTextLen(node), literal);
}

/** Whether a member's name is the ASCII literal. */
export function treeKeyIs(node: i32, literal: string): bool {
  return node >= 0 && equalsLiteral(treeKeyPtr(node), treeKeyLen(node), literal);
}

/** Members that were taken out because a later one has the same name. */
export function treeDuplicateCount(): u32 {
  return duplicateCount;
}

/** The last member that replaced one of the same name; NO_NODE if there is none. */
export function treeDuplicateNode(): i32 {
  return duplicateNode;
}

/** What treeParse returned. */
export function treeErrorCode(): u32 {
  return errorCode;
}

/** Offset in the document of the fault. */
export function treeErrorOffset(): u32 {
  return errorOffset;
}

// A literal's UTF-16 code units stand in static memory: comparing them allocates nothing.
function equalsLiteral(ptr: usize, len: u32, literal: string): bool {
  if (len != <u32>literal.length) return false;
  const units = changetype<usize>(literal);
  for (let i: u32 = 0; i < len; i++) {
    if (<u32>load<u8>(ptr + i) != <u32>load<u16>(units + ((<usize>i) << 1))) return false;
  }
  return true;
}

function at(node: i32): usize {
  return nodes + <usize>node * NODE_BYTES;
}

function onEvent(_context: usize, event: u32, ptr: usize, len: u32): u32 {
  if (event == EVENT_KEY_PIECE || event == EVENT_STRING_PIECE) {
    append(ptr, len);
    return SINK_GO;
  }
  if (event == EVENT_OBJECT_END || event == EVENT_ARRAY_END) {
    depth--;
    return SINK_GO;
  }
  if (event == EVENT_KEY || event == EVENT_STRING || event == EVENT_NUMBER) append(ptr, len);
  if (event == EVENT_KEY) {
    keyStart = pieceStart;
    keyBytes = textsUsed - pieceStart;
    pieceStart = textsUsed;
    return SINK_GO;
  }
  if (nodeCount >= TREE_NODES_MAX) {
    errorCode = TREE_TOO_MANY_NODES;
    return SINK_STOP;
  }
  addNode(event);
  return SINK_GO;
}

function append(ptr: usize, len: u32): void {
  memory.copy(texts + textsUsed, ptr, len);
  textsUsed += len;
}

function kindOf(event: u32): u32 {
  switch (event) {
    case EVENT_OBJECT_START:
      return KIND_OBJECT;
    case EVENT_ARRAY_START:
      return KIND_ARRAY;
    case EVENT_STRING:
      return KIND_STRING;
    case EVENT_TRUE:
      return KIND_TRUE;
    case EVENT_FALSE:
      return KIND_FALSE;
    case EVENT_NULL:
      return KIND_NULL;
    default:
      return KIND_NUMBER;
  }
}

function addNode(event: u32): void {
  const index = <i32>nodeCount;
  nodeCount++;
  const node = at(index);
  memory.fill(node, 0, NODE_BYTES);
  const kind = kindOf(event);
  store<u8>(node, <u8>kind, AT_KIND);
  store<u32>(node, <u32>(texts + pieceStart), AT_TEXT);
  store<u32>(node, textsUsed - pieceStart, AT_TEXT_BYTES);
  pieceStart = textsUsed;
  store<i32>(node, NO_NODE, AT_FIRST);
  store<i32>(node, NO_NODE, AT_LAST);
  store<i32>(node, NO_NODE, AT_NEXT);
  if (depth > 0) addChild(load<i32>(parents + ((<usize>depth) << 2)), index);
  if (kind == KIND_OBJECT || kind == KIND_ARRAY) {
    depth++;
    store<i32>(parents + ((<usize>depth) << 2), index);
  }
}

function addChild(parent: i32, index: i32): void {
  const above = at(parent);
  const node = at(index);
  if (load<u8>(above, AT_KIND) == <u8>KIND_OBJECT) {
    store<u32>(node, <u32>(texts + keyStart), AT_KEY);
    store<u32>(node, keyBytes, AT_KEY_BYTES);
    store<u64>(node, hashBytes(texts + keyStart, keyBytes), AT_KEY_HASH);
    removeSameKey(above, node, index);
  }
  const last = load<i32>(above, AT_LAST);
  if (last < 0) store<i32>(above, index, AT_FIRST);
  else store<i32>(at(last), index, AT_NEXT);
  store<i32>(above, index, AT_LAST);
  store<u16>(above, load<u16>(above, AT_CHILDREN) + 1, AT_CHILDREN);
}

// Names are unique but for a new one, so at most one goes. Bounded by TREE_NODES_MAX members.
function removeSameKey(above: usize, node: usize, index: i32): void {
  const hash = load<u64>(node, AT_KEY_HASH);
  let before = NO_NODE;
  let child = load<i32>(above, AT_FIRST);
  while (child >= 0) {
    const next = load<i32>(at(child), AT_NEXT);
    if (load<u64>(at(child), AT_KEY_HASH) == hash && sameKey(at(child), node)) {
      if (before < 0) store<i32>(above, next, AT_FIRST);
      else store<i32>(at(before), next, AT_NEXT);
      if (next < 0) store<i32>(above, before, AT_LAST);
      store<u16>(above, load<u16>(above, AT_CHILDREN) - 1, AT_CHILDREN);
      duplicateCount++;
      duplicateNode = index;
      return;
    }
    before = child;
    child = next;
  }
}

function sameKey(left: usize, right: usize): bool {
  const bytes = load<u32>(left, AT_KEY_BYTES);
  return (
    bytes == load<u32>(right, AT_KEY_BYTES) &&
    memory.compare(<usize>load<u32>(left, AT_KEY), <usize>load<u32>(right, AT_KEY), bytes) == 0
  );
}

// The bodies of a disaggregated call, edited as text: numbers, escapes and all else stay as the client wrote them.
//
//   NIXL prefill leg: {"kv_transfer_params":{"do_remote_decode":true,…},"stream":false,"max_tokens":1, + the members
//     but stream, stream_options, max_tokens, max_completion_tokens, min_tokens, return_token_ids and
//     kv_transfer_params, all of a name
//   NIXL decode leg: {"kv_transfer_params":<as the prefill endpoint answered>, + all members
//   SGLang, both legs: {"bootstrap_host":…,"bootstrap_port":…,"bootstrap_room":…, + all members
// Source: vLLM docs/features/nixl_connector, examples/…/disagg_proxy_server; SGLang python/sglang/srt/disaggregation.
// The body is whole and was accepted by the scanner. Edits are made in place; what is put before the members needs
// PREFILL_ROOM bytes in front of the body.
import {
  memberEnd,
  memberIs,
  memberStart,
  memberValue,
  membersBegin,
  membersKnow,
  membersClosed,
  membersNext,
  membersOpen,
} from "../json/members";
import { isWholeJson } from "../json/whole";
import {
  ascii,
  textBytes,
  writeBegin,
  writeByte,
  writeBytes,
  writeJsonInner,
  writeLength,
  writeLiteral,
} from "../text/text";
import { writeText, writeU64 } from "../text/text";

/** Bytes in front of the body that an edit may write over. */
export const PREFILL_ROOM: u32 = 512;

const PARAMS = ascii("kv_transfer_params");
const PARAMS_PREFIX = ascii('{"kv_transfer_params":');
const STREAM = ascii("stream");
const STREAM_OPTIONS = ascii("stream_options");
const MAX_TOKENS = ascii("max_tokens");
const MAX_COMPLETION = ascii("max_completion_tokens");
const MIN_TOKENS = ascii("min_tokens");
/** The decode leg answers with the prompt's tokens; here they would only make the answer longer than is read. */
const TOKEN_IDS = ascii("return_token_ids");
const PREFILL_MEMBERS = ascii(
  '{"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null},"stream":false,"max_tokens":1,',
);
const COMPLETION_MEMBER = ascii('"max_completion_tokens":1,');

// What needs the prompt's own computation at the endpoint that answers, or more than one sequence.
const PROMPT_LOGPROBS = ascii("prompt_logprobs");
const ECHO = ascii("echo");
const BEAM_SEARCH = ascii("use_beam_search");
const BEST_OF = ascii("best_of");
const ANSWERS = ascii("n");

let editedPtr: usize = 0;
let editedBytes: u32 = 0;

/** The edited body, prefillBytes() long. */
export function prefillPtr(): usize {
  return editedPtr;
}
export function prefillBytes(): u32 {
  return editedBytes;
}

/**
 * Whether the members ask for nothing that a computation elsewhere would take away. The prompt's list is known to stand
 * from offset `listFrom` to `listTo`; 0: it is not known.
 */
export function canBeSplit(ptr: usize, bytes: u32, listFrom: u32 = 0, listTo: u32 = 0): bool {
  if (!membersBegin(ptr, bytes)) return false;
  membersKnow(listFrom, listTo);
  while (membersNext()) {
    if (memberIs(PROMPT_LOGPROBS) && !isOff()) return false;
    if ((memberIs(ECHO) || memberIs(BEAM_SEARCH)) && !isOff()) return false;
    if ((memberIs(BEST_OF) || memberIs(ANSWERS)) && !isOff() && !isOne()) return false;
  }
  return membersClosed();
}

// null or false.
function isOff(): bool {
  const first = <u32>load<u8>(memberValue());
  return first == 0x6e || first == 0x66;
}

function isOne(): bool {
  return memberEnd() - memberValue() == 1 && load<u8>(memberValue()) == 0x31;
}

/** Makes the body at `ptr` that of a NIXL prefill leg, in place; false when it is no whole object. The list as above. */
export function editPrefill(ptr: usize, bytes: u32, listFrom: u32 = 0, listTo: u32 = 0): bool {
  if (!membersBegin(ptr, bytes)) return false;
  membersKnow(listFrom, listTo);
  const kept = ptr + membersOpen();
  let to = kept;
  let hasCompletion = false;
  while (membersNext()) {
    const isCompletion = memberIs(MAX_COMPLETION);
    if (isCompletion) hasCompletion = true;
    if (isCompletion || isReplaced()) continue;
    if (to > kept) store<u8>(to++, 0x2c);
    const length = memberEnd() - memberStart();
    if (to != memberStart()) memory.copy(to, memberStart(), length);
    to += length;
  }
  if (!membersClosed()) return false;
  store<u8>(to++, 0x7d);
  let before = textBytes(PREFILL_MEMBERS);
  if (hasCompletion) before += textBytes(COMPLETION_MEMBER);
  editedPtr = kept - before;
  writeBegin(editedPtr, before);
  writeText(PREFILL_MEMBERS);
  if (hasCompletion) writeText(COMPLETION_MEMBER);
  // Nothing is behind the last comma.
  if (to == kept + 1) memory.copy(editedPtr + 1, editedPtr, before - 1);
  if (to == kept + 1) editedPtr++;
  editedBytes = <u32>(to - editedPtr);
  return true;
}

function isReplaced(): bool {
  return (
    memberIs(STREAM) ||
    memberIs(STREAM_OPTIONS) ||
    memberIs(MAX_TOKENS) ||
    memberIs(MIN_TOKENS) ||
    memberIs(TOKEN_IDS) ||
    memberIs(PARAMS)
  );
}

// What findParams found of a prefill endpoint's answer.
/** No whole JSON object, or a member that is no object. */
export const PARAMS_BAD: u32 = 0;
/** An object: paramsPtr(). */
export const PARAMS_FOUND: u32 = 1;
/** null: the endpoint has nothing to hand over, as for a prompt of less than a block. */
export const PARAMS_NONE: u32 = 2;
/** There is no such member. */
export const PARAMS_MISSING: u32 = 3;

let paramsAt: usize = 0;
let paramsBytes: u32 = 0;

/**
 * Finds kv_transfer_params of a prefill endpoint's answer. Found, what a decode body gets in place of its opening brace
 * is put together around it, in the answer's own bytes: paramsPtr(), paramsPrefixBytes() long.
 */
export function findParams(ptr: usize, bytes: u32): u32 {
  if (!membersBegin(ptr, bytes)) return PARAMS_BAD;
  let from: usize = 0;
  let to: usize = 0;
  while (membersNext()) {
    if (!memberIs(PARAMS)) continue;
    from = memberValue();
    to = memberEnd();
  }
  if (!membersClosed()) return PARAMS_BAD;
  if (from == 0) return PARAMS_MISSING;
  if (load<u8>(from) == 0x6e) return PARAMS_NONE;
  if (load<u8>(from) != 0x7b || !isWholeJson(from, <u32>(to - from))) return PARAMS_BAD;
  // In front of the value are at least a brace or comma and the name itself, and behind it a brace.
  paramsAt = from - textBytes(PARAMS_PREFIX);
  memory.copy(paramsAt, PARAMS_PREFIX, textBytes(PARAMS_PREFIX));
  store<u8>(to, 0x2c);
  paramsBytes = <u32>(to + 1 - paramsAt);
  return PARAMS_FOUND;
}

export function paramsPtr(): usize {
  return paramsAt;
}
export function paramsPrefixBytes(): u32 {
  return paramsBytes;
}

/** Offset behind the opening brace of a body. */
export function bodyOpen(ptr: usize, bytes: u32): u32 {
  return membersBegin(ptr, bytes) ? membersOpen() : 0;
}

/**
 * Puts SGLang's meeting place into the body at `ptr`, in front of its members; `host` without a port. The edited body
 * begins with what the decode leg gets in place of its opening brace, bootstrapPrefixBytes() long. False: no object.
 */
export function editBootstrap(
  ptr: usize,
  bytes: u32,
  host: usize,
  hostBytes: u32,
  port: u32,
  room: u64,
): bool {
  if (!membersBegin(ptr, bytes)) return false;
  const open = membersOpen();
  writeBegin(bootstrap, PREFILL_ROOM);
  writeLiteral('{"bootstrap_host":"');
  writeJsonInner(host, hostBytes);
  writeLiteral('","bootstrap_port":');
  writeU64(port);
  writeLiteral(',"bootstrap_room":');
  writeU64(room);
  writeByte(0x2c);
  prefixBytes = writeLength();
  editedPtr = ptr + open - prefixBytes;
  writeBegin(editedPtr, prefixBytes);
  writeBytes(bootstrap, prefixBytes);
  editedBytes = bytes - open + prefixBytes;
  return true;
}

const bootstrap: usize = memory.data(512);
let prefixBytes: u32 = 0;

export function bootstrapPrefixBytes(): u32 {
  return prefixBytes;
}

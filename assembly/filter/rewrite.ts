// The model that a request is sent on with: its pool's policy or a trusted header names it, its body is made to say it.
//
// In a pool with rewrite rules a body is held until it ends, or until `rewriteBytesMax`. A model that did not come by
// then stays as it is, and that is counted.
import { BUFFER_REQUEST_BODY, MAP_REQUEST_HEADERS, STATUS_OK } from "../abi/constants";
import { buffer, nowNs, replaceHeader, valueBytes, valuePtr } from "../abi/host";
import { inboxAllocate, inboxMark, inboxReset } from "../abi/inbox";
import { setBufferStart } from "../abi/set-buffer";
import {
  objectivePriority,
  policyObjective,
  policyRule,
  policyRules,
  ruleSplits,
  ruleTarget,
  targetModelBytes,
  targetModelPtr,
} from "../pool/policy";
import { compareBytes } from "../pool/policy-check";
import { apiNeedsModel } from "../prompt/api";
import { promptConversation, promptModelBytes, promptModelPtr } from "../prompt/record";
import { restoreModelBytes, restoreModelPtr, restoreSetClient, restoreSetModel } from "../prompt/restore";
import { RESTORE_BYTES, RESTORE_NAME_BYTES_MAX } from "../prompt/restore-layout";
import {
  MODEL_ABSENT,
  MODEL_NOWHERE,
  locateModel,
  spliceFrom,
  spliceIntoEmpty,
  spliceTo,
} from "../prompt/splice";
import { configTrustsModelHeader } from "../schema/settings";
import { hashBytes } from "../text/hash";
import { writeBegin, writeByte, writeJsonInner, writeLength, writeLiteral, writeU64 } from "../text/text";
import { COUNT_REWRITES, COUNT_REWRITES_MISSED, countUp } from "./counters";
import { H_CONTENT_LENGTH } from "./names";
import {
  NOTED_FAIRNESS,
  NOTED_FAIRNESS_ALIAS,
  NOTED_MODEL,
  NOTED_MODEL_ALIAS,
  NOTED_OBJECTIVE,
  NOTED_OBJECTIVE_ALIAS,
  UNKNOWN_LENGTH,
  notedBytes,
  notedPtr,
  notedSession,
  notedValue,
} from "./request-headers";
import {
  F_HAS_PROMPT,
  F_MODEL_GIVEN,
  F_REWRITTEN,
  S_API,
  S_CONTENT_LENGTH,
  S_POOL,
  S_PRIORITY,
  S_SEEN,
  S_SESSION,
  hasFlag,
  setFlag,
  streamPrompt,
  streamSlot,
} from "./streams";

// One restore record a stream's place. Only those of streams that are rewritten are ever touched.
const records: usize = memory.data(4096 * 600, 8);

/** The restore record of a stream (prompt/restore-layout.ts). */
export function restoreRecord(stream: usize): usize {
  return records + <usize>streamSlot(stream) * RESTORE_BYTES;
}

/** Notes at the headers what the pool's policy makes of them: priority, session, and a model that a trusted header names. */
export function notePolicyHeaders(stream: usize, pool: u32, config: u32): void {
  if (notedValue(NOTED_OBJECTIVE, NOTED_OBJECTIVE_ALIAS)) {
    const objective = policyObjective(pool, notedPtr(), notedBytes());
    if (objective != 0) store<i32>(stream, objectivePriority(objective), S_PRIORITY);
  }
  if (policyRules(pool) > 0 && (notedSession() || notedValue(NOTED_FAIRNESS, NOTED_FAIRNESS_ALIAS))) {
    store<u64>(stream, hashBytes(notedPtr(), notedBytes()), S_SESSION);
  }
  if (!configTrustsModelHeader(config) || !notedValue(NOTED_MODEL, NOTED_MODEL_ALIAS)) return;
  if (notedBytes() > RESTORE_NAME_BYTES_MAX) return;
  restoreSetModel(restoreRecord(stream), notedPtr(), notedBytes());
  setFlag(stream, F_MODEL_GIVEN);
}

/** Whether this stream's model may have to be exchanged, so that its body is held. */
export function wantsRewrite(stream: usize): bool {
  return hasFlag(stream, F_MODEL_GIVEN) || policyRules(load<u32>(stream, S_POOL)) > 0;
}

/** Whether a request that names no model gets one. */
export function givesModel(stream: usize): bool {
  return hasFlag(stream, F_MODEL_GIVEN) || policyRule(load<u32>(stream, S_POOL), 0, 0) != 0;
}

/** A request of such a stream, or of such a pool, goes on unread. */
export function noteUnread(pool: u32, isGiven: bool): void {
  if (isGiven || policyRules(pool) > 0) countUp(COUNT_REWRITES_MISSED);
}

/**
 * Exchanges the model in the body that is held, if a rule of the pool's policy is for it, else if a trusted header
 * names another. `isWhole`: all of the body was read. To be called before the decision, which goes by the new name.
 */
export function rewriteModel(stream: usize, isWhole: bool): void {
  if (!hasFlag(stream, F_HAS_PROMPT) || !wantsRewrite(stream)) return;
  const prompt = streamPrompt(stream);
  const client = promptModelPtr(prompt);
  const clientBytes = promptModelBytes(prompt);
  if (clientBytes == 0 && !isWhole) return countUp(COUNT_REWRITES_MISSED);
  if (clientBytes == 0 && !apiNeedsModel(load<u32>(stream, S_API))) return;
  const record = restoreRecord(stream);
  if (!chooseModel(stream, record, client, clientBytes)) return;
  const model = restoreModelPtr(record);
  if (compareBytes(model, restoreModelBytes(record), client, clientBytes) == 0) return;
  const mark = inboxMark();
  const isDone = exchange(stream, model, restoreModelBytes(record));
  inboxReset(mark);
  if (!isDone) return countUp(COUNT_REWRITES_MISSED);
  restoreSetClient(record, client, clientBytes);
  setFlag(stream, F_REWRITTEN);
  countUp(COUNT_REWRITES);
}

// Puts the name to be asked for into the record. A rule goes before the header, as in llm-d.
function chooseModel(stream: usize, record: usize, client: usize, clientBytes: u32): bool {
  const pool = load<u32>(stream, S_POOL);
  const rule = policyRule(pool, client, clientBytes);
  if (rule == 0) return hasFlag(stream, F_MODEL_GIVEN);
  const target = ruleTarget(pool, rule, ruleSplits(rule) ? splitKey(stream) : 0);
  restoreSetModel(record, targetModelPtr(pool, target), targetModelBytes(target));
  return true;
}

// A session's turns go to one target: by the session's or tenant's id, else by what all its turns begin with.
function splitKey(stream: usize): u64 {
  const session = load<u64>(stream, S_SESSION);
  if (session != 0) return session;
  const conversation = promptConversation(streamPrompt(stream));
  return conversation != 0 ? conversation : nowNs();
}

/** Room for `"model":"…",` with every byte of the name escaped. */
const VALUE_BYTES: u32 = 1552;
const lengthText: usize = memory.data(24);

// The host can only take bytes off the buffer's beginning and put others there, so all up to the value's end is.
function exchange(stream: usize, model: usize, modelBytes: u32): bool {
  const seen = load<u32>(stream, S_SEEN);
  if (buffer(BUFFER_REQUEST_BODY, 0, seen) != STATUS_OK || valueBytes() != seen) return false;
  const body = valuePtr();
  const found = locateModel(body, seen);
  // The next place in the inbox lies behind the body's: together they hold what is written over its end.
  if (found == MODEL_NOWHERE || inboxAllocate(VALUE_BYTES) == 0) return false;
  const from = spliceFrom();
  const to = spliceTo();
  writeBegin(body + from, VALUE_BYTES);
  if (found == MODEL_ABSENT) writeLiteral('"model":');
  writeByte(34);
  writeJsonInner(model, modelBytes);
  writeByte(34);
  if (found == MODEL_ABSENT && !spliceIntoEmpty()) writeByte(44);
  const written = writeLength();
  if (setBufferStart(BUFFER_REQUEST_BODY, to, body, from + written) != STATUS_OK) return false;
  const length = load<u32>(stream, S_CONTENT_LENGTH);
  if (length == UNKNOWN_LENGTH || written == to - from) return true;
  writeBegin(lengthText, 24);
  writeU64(<u64>length + <u64>written - <u64>(to - from));
  replaceHeader(MAP_REQUEST_HEADERS, H_CONTENT_LENGTH, lengthText, writeLength());
  return true;
}

/** The name of the model that the request is sent on with, as UTF-8; streamModelBytes() 0 = none is known. */
export function streamModelPtr(stream: usize): usize {
  return hasFlag(stream, F_REWRITTEN)
    ? restoreModelPtr(restoreRecord(stream))
    : promptModelPtr(streamPrompt(stream));
}
export function streamModelBytes(stream: usize): u32 {
  return hasFlag(stream, F_REWRITTEN)
    ? restoreModelBytes(restoreRecord(stream))
    : promptModelBytes(streamPrompt(stream));
}

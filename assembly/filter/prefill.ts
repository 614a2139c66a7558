// Prefill called by the filter ("mode": "inline"): the request waits while another endpoint computes its prompt.
//
//   NIXL:   body held → call (do_remote_decode, max_tokens 1) → its kv_transfer_params put into the held body → decode
//   SGLang: body held → call and decode at once, both with the same bootstrap room; the call's answer is thrown away
//
// What fails before the decode endpoint was asked is never seen by the client: one other prefill endpoint, then the
// prompt is computed where it is decoded. A body with KV parameters is good for one use, by one host.
import {
  ACTION_CONTINUE,
  ACTION_PAUSE,
  MAP_REQUEST_HEADERS,
  STATUS_OK,
  STREAM_REQUEST,
} from "../abi/constants";
import {
  continueStream,
  removeHeader,
  replaceHeader,
  setEffectiveContext,
  setFilterState,
} from "../abi/host";
import { callNumber } from "../abi/http-call";
import { inboxMark, inboxReset } from "../abi/inbox";
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { configExposeDecision } from "../schema/settings";
import { isSetAside } from "../pool/health";
import { paramsPrefixBytes, paramsPtr } from "../prompt/prefill-edit";
import { promptCount, promptIsOne } from "../prompt/record";
import { configDecodeRetries, configPrefillTimeoutMs, configProtocol } from "../schema/stage-settings";
import { PROTOCOL_SGLANG } from "../schema/stages-layout";
import {
  textBytes,
  writeBegin,
  writeBytes,
  writeLength,
  writeLiteral,
  writeText,
  writeU64,
} from "../text/text";
import { endBothLegs } from "./both-legs";
import { becomeDecodeOnly, decodeBegins } from "./commit";
import { COUNT_DISAGG_UNFIT, COUNT_PREFILL_FALLBACKS, COUNT_PREFILL_ORPHANS, countUp } from "./counters";
import { leaveOutPrefiller, writeRetries } from "./destinations";
import {
  FAILED_CALL,
  FAILED_REFUSED,
  FAILED_TIMEOUT,
  failureName,
  meterPrefillFailure,
  meterPrefillLeg,
} from "./disaggregation-metrics";
import {
  LEG_ATTEMPTS,
  LEG_BODY_OPEN,
  LEG_OTHER_ROW,
  LEG_TOKEN,
  NO_ROW,
  forgetLeg,
  legMoveToOther,
  legOtherIsSame,
  legOf,
  noteLeg,
  reserveLeg,
} from "./legs";
import { H_HEDGE, H_RETRY_ON, S_PREFILL, V_FALSE, V_RETRY_UNSENT } from "./names";
import {
  CALLS_MAX,
  callAdd,
  callContext,
  callEnd,
  callFind,
  callLost,
  callOfRoot,
  callOrphan,
  callPool,
  callRoot,
  callRow,
  callStartedMs,
  callsOut,
} from "./prefill-calls";
import { CALL_DONE, CALL_NOTHING, isSglang, judgeCall, readReply } from "./prefill-reply";
import { nextUnique, putInFront, readBody, sendNixl, sendSglang } from "./prefill-request";
import { redirectDecode } from "./redirect";
import { rootConfig } from "./roots";
import {
  F_DISAGGREGATED,
  F_SPLICED,
  PHASE_DECIDED,
  PHASE_PREFILLING,
  S_ROOT,
  S_TTFT_SLO,
  hasFlag,
  phaseOf,
  setFlag,
  setPhase,
  streamFind,
  streamPrompt,
} from "./streams";
import { nowMs, publish } from "./worker";

/** Prefill endpoints that are asked for one request. */
const ATTEMPTS_MAX: u32 = 2;
/** A prefill that is later than its request's TTFT wish by this factor is given up. */
const WISH_FACTOR: f64 = 4;
/** But not sooner than this, ms. */
const WISH_LEAST_MS: f64 = 1000;

/** The decision for the stream, whose body is held, says prefill by a call: makes it. Returns what the phase returns. */
export function beginPrefill(stream: usize, config: u32): u32 {
  const now = nowMs();
  const mark = inboxMark();
  const isFit =
    callsOut() < CALLS_MAX && promptCount(streamPrompt(stream)) == 1 && promptIsOne(streamPrompt(stream));
  if (!isFit || !readBody(stream)) {
    inboxReset(mark);
    countUp(COUNT_DISAGG_UNFIT);
    decodeHere(stream, now);
    return ACTION_CONTINUE;
  }
  const isSent =
    configProtocol(config) == PROTOCOL_SGLANG
      ? bothLegs(stream, config, now)
      : prefillLeg(stream, config, now);
  inboxReset(mark);
  if (isSent && phaseOf(stream) == PHASE_PREFILLING) return ACTION_PAUSE;
  if (!isSent) {
    countUp(COUNT_PREFILL_FALLBACKS);
    decodeHere(stream, now);
  }
  publish(now);
  return ACTION_CONTINUE;
}

// The prompt is computed where it is decoded: of the decision only the decode endpoints stay.
function decodeHere(stream: usize, now: f64): void {
  forgetLeg(stream);
  becomeDecodeOnly(stream, now);
  setPhase(stream, PHASE_DECIDED);
}

function timeoutOf(stream: usize, config: u32): f64 {
  const configured = <f64>configPrefillTimeoutMs(config);
  const wish = <f64>load<f32>(stream, S_TTFT_SLO);
  return wish > 0 ? Math.min(configured, Math.max(wish * WISH_FACTOR, WISH_LEAST_MS)) : configured;
}

// The body was read. False: no call could be made.
function prefillLeg(stream: usize, config: u32, now: f64): bool {
  const timeout = timeoutOf(stream, config);
  const number = sendNixl(stream, config, <u32>timeout);
  if (!noteSent(stream, number, timeout, now)) return false;
  setPhase(stream, PHASE_PREFILLING);
  return true;
}

function noteSent(stream: usize, number: u32, timeoutMs: f64, now: f64): bool {
  const leg = legOf(stream);
  store<u32>(leg, load<u32>(leg, LEG_ATTEMPTS) + 1, LEG_ATTEMPTS);
  store<u32>(leg, number, LEG_TOKEN);
  if (number == 0) {
    meterPrefillFailure(FAILED_CALL);
    return false;
  }
  reserveLeg(stream, true, now);
  callAdd(number, stream, load<u32>(stream, S_ROOT), timeoutMs, now);
  return true;
}

function bothLegs(stream: usize, config: u32, now: f64): bool {
  const timeout = timeoutOf(stream, config);
  // SGLang's rooms are signed 64-bit numbers.
  const number = sendSglang(stream, config, <u32>timeout, nextUnique() >> 1);
  if (!noteSent(stream, number, timeout, now)) return false;
  goToDecode(stream, config, now);
  return true;
}

// The held body has the other leg's parameters in it.
function goToDecode(stream: usize, config: u32, now: f64): void {
  setFlag(stream, F_SPLICED);
  setPhase(stream, PHASE_DECIDED);
  decodeBegins(stream, now);
  if (configDecodeRetries(config)) {
    replaceHeader(MAP_REQUEST_HEADERS, H_RETRY_ON, V_RETRY_UNSENT, textBytes(V_RETRY_UNSENT));
    writeRetries(leaveOutPrefiller(stream, config) - 1);
    // A hedged request goes out again while the first one runs, whatever it is retried on.
    replaceHeader(MAP_REQUEST_HEADERS, H_HEDGE, V_FALSE, textBytes(V_FALSE));
    return;
  }
  // A route's own conditions are added to the header's: only none at all is none.
  removeHeader(MAP_REQUEST_HEADERS, H_RETRY_ON);
  writeRetries(0);
}

/** The reply to a call, on the root context `root`, with a body of `bytes` bytes. */
export function prefillReplied(root: u32, token: u32, bytes: u32): void {
  const call = callFind(callNumber(token));
  if (call == 0) return;
  const now = nowMs();
  settle(call, root, readReply(call, bytes, now), now);
  publish(now);
}

/** From the tick, on the root context `root`: replies that do not come any more. */
export function prefillsLost(root: u32, now: f64): void {
  // At most one a tick: there is none as long as the host keeps its word.
  const call = callLost(now);
  if (call != 0) settle(call, root, FAILED_TIMEOUT, now);
}

/** The root goes, and with it the host's memory of its calls. */
export function prefillsOfRootEnd(index: u32): void {
  while (true) {
    const call = callOfRoot(index);
    if (call == 0) return;
    callEnd(call, false, nowMs());
  }
}

/** The stream goes while it waits for its call: the call stays, with what it reserved. */
export function abandonPrefill(stream: usize): void {
  if (!hasFlag(stream, F_DISAGGREGATED)) return;
  const number = load<u32>(legOf(stream), LEG_TOKEN);
  if (number != 0) callOrphan(number);
}

// Ends the call, and goes on with its stream if that still waits.
function settle(call: usize, root: u32, outcome: u32, now: f64): void {
  const config = rootConfig(callRoot(call));
  const context = callContext(call);
  const number = load<u32>(call);
  const row = callRow(call);
  const startedMs = callStartedMs(call);
  const isDone = outcome >= CALL_DONE;
  if (isDone) meterPrefillLeg(callPool(call), <u64>(now - callStartedMs(call)));
  else meterPrefillFailure(outcome);
  judgeCall(call, config, outcome, now);
  const wasSglang = isSglang(call);
  callEnd(call, isDone, now);
  const stream = context == 0 ? 0 : streamFind(context);
  if (stream == 0 || !hasFlag(stream, F_DISAGGREGATED) || load<u32>(legOf(stream), LEG_TOKEN) != number) {
    countUp(COUNT_PREFILL_ORPHANS);
    return;
  }
  store<u32>(legOf(stream), 0, LEG_TOKEN);
  if (wasSglang && isDone) return;
  if (!wasSglang && phaseOf(stream) != PHASE_PREFILLING) return;
  if (setEffectiveContext(context) != STATUS_OK) return;
  if (configExposeDecision(config)) exposePrefill(row, outcome, now - startedMs);
  if (wasSglang) endBothLegs(stream, outcome);
  else if (goOn(stream, config, outcome, now)) continueStream(STREAM_REQUEST);
  setEffectiveContext(root);
}

const state: usize = memory.data(192);

// One line for access logs: the endpoint asked last, what became of it, and the ms that took.
function exposePrefill(row: u32, outcome: u32, ms: f64): void {
  writeBegin(state, 192);
  writeLiteral("endpoint=");
  writeBytes(rowAddressPtr(row), rowAddressLen(row));
  writeLiteral(" outcome=");
  if (outcome < CALL_DONE) writeText(failureName(outcome));
  else writeLiteral(outcome == CALL_DONE ? "done" : "nothing");
  writeLiteral(" ms=");
  writeU64(<u64>Math.max(ms, 0));
  setFilterState(S_PREFILL, state, writeLength());
}

// Whether the stream can go on now; else another call is out for it.
function goOn(stream: usize, config: u32, outcome: u32, now: f64): bool {
  if (outcome == CALL_DONE && redirectDecode(stream, config, now) && splice(stream)) {
    goToDecode(stream, config, now);
    return true;
  }
  if (outcome < CALL_DONE) forgetLeg(stream);
  if (outcome < CALL_DONE && outcome != FAILED_REFUSED && tryOther(stream, config, now)) return false;
  if (outcome != CALL_NOTHING) countUp(COUNT_PREFILL_FALLBACKS);
  // Where there was nothing to hand over the prompt was computed there all the same.
  becomeDecodeOnly(stream, now);
  setPhase(stream, PHASE_DECIDED);
  return true;
}

function splice(stream: usize): bool {
  return putInFront(stream, load<u32>(legOf(stream), LEG_BODY_OPEN), paramsPtr(), paramsPrefixBytes());
}

function tryOther(stream: usize, config: u32, now: f64): bool {
  const leg = legOf(stream);
  const other = load<u32>(leg, LEG_OTHER_ROW);
  if (other == NO_ROW || load<u32>(leg, LEG_ATTEMPTS) >= ATTEMPTS_MAX) return false;
  if (!legOtherIsSame(stream) || isSetAside(other, now) || callsOut() >= CALLS_MAX) return false;
  legMoveToOther(stream);
  const mark = inboxMark();
  const isSent = readBody(stream) && prefillLeg(stream, config, now);
  inboxReset(mark);
  if (isSent) noteLeg(stream);
  return isSent;
}

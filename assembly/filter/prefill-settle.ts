// What becomes of a call of a prefill endpoint: its stream goes on to the decode endpoint, or another call is made.
import { STATUS_OK, STREAM_REQUEST } from "../abi/constants";
import { continueStream, setEffectiveContext, setFilterState } from "../abi/host";
import { callNumber } from "../abi/http-call";
import { inboxReset } from "../abi/inbox";
import { isSetAside } from "../pool/health";
import { rowAddressLen, rowAddressPtr } from "../pool/labels";
import { paramsPrefixBytes, paramsPtr } from "../prompt/prefill-edit";
import { configExposeDecision } from "../schema/settings";
import { writeBegin, writeBytes, writeLength, writeLiteral, writeText, writeU64 } from "../text/text";
import { endBothLegs } from "./both-legs";
import { becomeDecodeOnly } from "./commit";
import { COUNT_PREFILL_FALLBACKS, COUNT_PREFILL_NOTHING, COUNT_PREFILL_ORPHANS, countUp } from "./counters";
import {
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
  legOf,
  legOtherIsSame,
  noteLeg,
} from "./legs";
import { S_PREFILL } from "./names";
import { goToDecode, prefillLeg } from "./prefill";
import {
  CALLS_MAX,
  callContext,
  callEnd,
  callFind,
  callLost,
  callOfRoot,
  callPool,
  callRoot,
  callRow,
  callStartedMs,
  callsOut,
} from "./prefill-calls";
import { CALL_DONE, CALL_NOTHING, isSglang, judgeCall, readReply } from "./prefill-reply";
import { putInFront, readBody } from "./prefill-request";
import { redirectDecode } from "./redirect";
import { rootConfig } from "./roots";
import {
  F_DISAGGREGATED,
  PHASE_DECIDED,
  PHASE_PREFILLING,
  hasFlag,
  phaseOf,
  setPhase,
  streamFind,
} from "./streams";
import { nowMs, publish } from "./worker";

/** Prefill endpoints that are asked for one request. */
const ATTEMPTS_MAX: u32 = 2;

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
  countUp(outcome == CALL_NOTHING ? COUNT_PREFILL_NOTHING : COUNT_PREFILL_FALLBACKS);
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
  // The body takes most of the inbox; of the reply nothing is needed any more.
  inboxReset();
  const isSent = readBody(stream) && prefillLeg(stream, config, now);
  if (isSent) noteLeg(stream);
  return isSent;
}

// Prefill called by the filter ("mode": "inline"): the request waits while another endpoint computes its prompt.
//
//   NIXL:   body held → call (do_remote_decode, max_tokens 1) → its kv_transfer_params put into the held body → decode
//   SGLang: body held → call and decode at once, both with the same bootstrap room; the call's answer is thrown away
//
// What fails before the decode endpoint was asked is never seen by the client: one other prefill endpoint, then the
// prompt is computed where it is decoded. A body with KV parameters is good for one use, by one host.
import { ACTION_CONTINUE, ACTION_PAUSE, MAP_REQUEST_HEADERS } from "../abi/constants";
import { removeHeader, replaceHeader } from "../abi/host";
import { inboxMark, inboxReset } from "../abi/inbox";
import { promptCount, promptIsOne } from "../prompt/record";
import { configDecodeRetries, configPrefillTimeoutMs, configProtocol } from "../schema/stage-settings";
import { PROTOCOL_SGLANG } from "../schema/stages-layout";
import { textBytes } from "../text/text";
import { becomeDecodeOnly, decodeBegins } from "./commit";
import { COUNT_DISAGG_UNFIT, COUNT_PREFILL_FALLBACKS, countUp } from "./counters";
import { leaveOutPrefiller, writeRetries } from "./destinations";
import { FAILED_CALL, meterPrefillFailure } from "./disaggregation-metrics";
import { LEG_ATTEMPTS, LEG_AT_ONCE, LEG_TOKEN, forgetLeg, legOf, reserveLeg } from "./legs";
import { H_HEDGE, H_RETRY_ON, V_FALSE, V_RETRY_UNSENT } from "./names";
import { CALLS_MAX, callAdd, callOrphan, callsOut } from "./prefill-calls";
import { nextUnique, readBody, sendNixl, sendSglang } from "./prefill-request";
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
  streamPrompt,
} from "./streams";
import { nowMs, publish } from "./worker";

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

/** Calls the stream's prefill endpoint; its body was read. False: no call could be made. */
export function prefillLeg(stream: usize, config: u32, now: f64): bool {
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
  store<u8>(legOf(stream), 1, LEG_AT_ONCE);
  goToDecode(stream, config, now);
  return true;
}

/** The held body has the other leg's parameters in it: it goes to the decode endpoint, and nowhere twice. */
export function goToDecode(stream: usize, config: u32, now: f64): void {
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

/** The stream goes while it waits for its call: the call stays, with what it reserved. */
export function abandonPrefill(stream: usize): void {
  if (!hasFlag(stream, F_DISAGGREGATED)) return;
  const number = load<u32>(legOf(stream), LEG_TOKEN);
  if (number != 0) callOrphan(number);
}

// Answers that the filter gives itself: one table of reasons, statuses and texts, in the shape of the API asked.
//
// Statuses and the reason header are llm-d's (llm-d-router pkg/common/error, pkg/epp/handlers/response.go);
// the body is OpenAI's error object, or Anthropic's on its API, where llm-d answers text/plain.
import { sendLocalResponse } from "../abi/host";
import { replyHeader, replyHeadersBegin, replyHeadersBytes, replyHeadersEnd } from "../abi/headers";
import {
  ascii,
  textBytes,
  writeBegin,
  writeJsonInner,
  writeLength,
  writeLiteral,
  writeText,
  writeU64,
} from "../text/text";
import { API_ANTHROPIC_COUNT_TOKENS, API_ANTHROPIC_MESSAGES } from "../prompt/api";
import { COUNT_ERRORS, countUp } from "./counters";
import { meterError } from "./metrics";
import { H_CONTENT_TYPE, H_DROPPED_REASON, H_POLICY_ID, H_PROMPTS_ID, V_JSON } from "./names";

export const REFUSED_NO_ENDPOINTS: u32 = 0;
export const REFUSED_NO_SNAPSHOT: u32 = 1;
export const REFUSED_BAD_BODY: u32 = 2;
export const REFUSED_TOO_LARGE: u32 = 3;
export const REFUSED_SATURATED: u32 = 4;
export const REFUSED_NOT_CACHED: u32 = 5;
/** The decode endpoint failed after it had the body, which must not go out twice. */
export const REFUSED_DECODE_FAILED: u32 = 6;
/** The prefill endpoint failed while the decode endpoint waits for it. */
export const REFUSED_PREFILL_FAILED: u32 = 7;
const REASONS: u32 = 8;

//   ┌ reason: u32 status, then Texts: metric label, x-llm-d-request-dropped-reason (0 = none), OpenAI type, Anthropic type ┐
const REASON_BYTES: usize = 20;
const reasons: usize = memory.data(8 * 20, 4);
function reason(
  index: u32,
  status: u32,
  label: string,
  dropped: string,
  openai: string,
  anthropic: string,
): void {
  const at = reasons + <usize>index * REASON_BYTES;
  store<u32>(at, status);
  store<u32>(at, <u32>ascii(label), 4);
  store<u32>(at, dropped.length == 0 ? 0 : <u32>ascii(dropped), 8);
  store<u32>(at, <u32>ascii(openai), 12);
  store<u32>(at, <u32>ascii(anthropic), 16);
}
reason(
  REFUSED_NO_ENDPOINTS,
  503,
  "no_endpoints",
  "rejected-no-endpoints",
  "ServiceUnavailableError",
  "overloaded_error",
);
reason(
  REFUSED_NO_SNAPSHOT,
  503,
  "no_snapshot",
  "rejected-no-endpoints",
  "ServiceUnavailableError",
  "overloaded_error",
);
reason(REFUSED_BAD_BODY, 400, "bad_body", "", "BadRequestError", "invalid_request_error");
reason(REFUSED_TOO_LARGE, 413, "too_large", "", "BadRequestError", "request_too_large");
reason(REFUSED_SATURATED, 429, "saturated", "rejected-saturated", "RateLimitError", "rate_limit_error");
reason(REFUSED_NOT_CACHED, 412, "not_cached", "", "PreconditionFailedError", "invalid_request_error");
reason(REFUSED_DECODE_FAILED, 503, "decode_failed", "", "ServiceUnavailableError", "overloaded_error");
reason(REFUSED_PREFILL_FAILED, 503, "prefill_failed", "", "ServiceUnavailableError", "overloaded_error");

const T_DETAILS = ascii("epp_refused");
const BODY_BYTES: u32 = 1024;
const body: usize = memory.data(1024);

/** Writes the body of a refusal; its length, it stands at refusalPtr(). `message` is plain text, cut at 400 bytes. */
export function refusalWrite(index: u32, api: u32, message: usize, messageBytes: u32): u32 {
  const at = reasons + <usize>min(index, REASONS - 1) * REASON_BYTES;
  const isAnthropic = api == API_ANTHROPIC_MESSAGES || api == API_ANTHROPIC_COUNT_TOKENS;
  writeBegin(body, BODY_BYTES);
  if (isAnthropic) {
    writeLiteral('{"type":"error","error":{"type":"');
    writeText(load<u32>(at, 16));
    writeLiteral('","message":"');
    writeJsonInner(message, min<u32>(messageBytes, 400));
    writeLiteral('"}}');
  } else {
    writeLiteral('{"error":{"message":"');
    writeJsonInner(message, min<u32>(messageBytes, 400));
    writeLiteral('","type":"');
    writeText(load<u32>(at, 12));
    writeLiteral('","param":null,"code":');
    writeU64(load<u32>(at));
    writeLiteral("}}");
  }
  return writeLength();
}
export function refusalPtr(): usize {
  return body;
}

/** Counts a refusal by its reason. */
export function countRefusal(index: u32): void {
  countUp(COUNT_ERRORS);
  meterError(index, load<u32>(reasons + <usize>index * REASON_BYTES, 4));
}

/** Refuses the request at hand. `message` is plain text; `api` chooses the body's shape. */
export function refuse(index: u32, api: u32, message: usize, messageBytes: u32): void {
  const at = reasons + <usize>min(index, REASONS - 1) * REASON_BYTES;
  const bytes = refusalWrite(index, api, message, messageBytes);
  replyHeadersBegin();
  replyHeader(H_CONTENT_TYPE, textBytes(H_CONTENT_TYPE), V_JSON, textBytes(V_JSON));
  const dropped = load<u32>(at, 8);
  if (dropped != 0) replyHeader(H_DROPPED_REASON, textBytes(H_DROPPED_REASON), dropped, textBytes(dropped));
  const pairs = replyHeadersEnd();
  countRefusal(index);
  sendLocalResponse(load<u32>(at), T_DETAILS, body, bytes, pairs, replyHeadersBytes());
}

/** Refuses with a fixed text. */
export function refuseText(index: u32, api: u32, message: usize): void {
  refuse(index, api, message, textBytes(message));
}

/** Refuses with an endpoint's own words, counted as `index`; `type` 0: nothing tells the body's type. */
export function passOn(index: u32, status: u32, ptr: usize, bytes: u32, type: usize, typeBytes: u32): void {
  replyHeadersBegin();
  if (type != 0) replyHeader(H_CONTENT_TYPE, textBytes(H_CONTENT_TYPE), type, typeBytes);
  const pairs = replyHeadersEnd();
  countRefusal(index);
  sendLocalResponse(status, T_DETAILS, ptr, bytes, pairs, replyHeadersBytes());
}

/** Answers a control request: a JSON body that the caller has written. */
export function replyJson(status: u32, json: usize, bytes: u32): void {
  replyHeadersBegin();
  replyHeader(H_CONTENT_TYPE, textBytes(H_CONTENT_TYPE), V_JSON, textBytes(V_JSON));
  const pairs = replyHeadersEnd();
  sendLocalResponse(status, T_CONTROL, json, bytes, pairs, replyHeadersBytes());
}

const idTexts: usize = memory.data(2 * 24);

/** Answers a push that was taken, with the ids of the pool's policy and prompt programs in force, 0 = none. */
export function replyTaken(policyId: u64, promptProgramsId: u64): void {
  replyHeadersBegin();
  replyId(H_POLICY_ID, policyId, idTexts);
  replyId(H_PROMPTS_ID, promptProgramsId, idTexts + 24);
  const pairs = replyHeadersEnd();
  sendLocalResponse(204, T_CONTROL, body, 0, pairs, replyHeadersBytes());
}

/** Answers a control request that has nothing to tell. */
export function replyDone(): void {
  replyHeadersBegin();
  const pairs = replyHeadersEnd();
  sendLocalResponse(204, T_CONTROL, body, 0, pairs, replyHeadersBytes());
}
const T_CONTROL = ascii("epp_control");

// Headers are kept by address until the list is encoded: each id has its own text.
function replyId(header: usize, id: u64, text: usize): void {
  writeBegin(text, 24);
  writeU64(id);
  replyHeader(header, textBytes(header), text, writeLength());
}

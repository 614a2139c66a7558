// What a prefill endpoint's reply to a call of ours is: parameters to hand over, nothing, or a failure of some kind.
import { BUFFER_CALL_BODY, MAP_CALL_HEADERS, STATUS_OK } from "../abi/constants";
import { buffer, header, valueBytes, valuePtr } from "../abi/host";
import { markBusy, markChanged } from "../flow/reservations";
import { noteServerError, noteSuccess } from "../pool/health";
import { API_ANTHROPIC_MESSAGES } from "../prompt/api";
import { PARAMS_FOUND, PARAMS_MISSING, PARAMS_NONE, findParams } from "../prompt/prefill-edit";
import { configRetryBackoffMaxMs, configRetryBackoffMinMs } from "../schema/settings";
import { configProtocol } from "../schema/stage-settings";
import { PROTOCOL_SGLANG } from "../schema/stages-layout";
import { ascii, textStarts } from "../text/text";
import {
  FAILED_CONNECT,
  FAILED_MALFORMED,
  FAILED_REFUSED,
  FAILED_STATUS,
  FAILED_TIMEOUT,
  FAILED_TOO_LARGE,
} from "./disaggregation-metrics";
import { H_CONTENT_TYPE, H_STATUS } from "./names";
import { callApi, callIsSame, callRoot, callRow, callStartedMs, callTimeoutMs } from "./prefill-calls";
import { rootConfig } from "./roots";
import { setHostAside } from "./set-aside";

/** Bytes of a reply that are read: parameters for about 80,000 blocks. A longer one is a failure. */
const REPLY_BYTES_MAX: u32 = 524288;
/** Share of its timeout after which a 504 is the host's own word for it: clocks and timers differ a little. */
const TIMELY: f64 = 0.9;
/** What Envoy's router answers a call whose host refused the connection or broke it (source/common/router/router.cc). */
const T_UNREACHABLE = ascii("upstream connect error or disconnect");

// What became of a call; failures are FAILED_* of the metrics.
export const CALL_DONE: u32 = 100;
/** 200, and nothing to hand over. */
export const CALL_NOTHING: u32 = 101;

let status: u32 = 0;
let bodyPtr: usize = 0;
let bodyBytes: u32 = 0;

/** Status of the reply read last; 0 = there was none. */
export function replyStatus(): u32 {
  return status;
}
/** Its body, replyBytes() long; good until the callback ends. */
export function replyPtr(): usize {
  return bodyPtr;
}
export function replyBytes(): u32 {
  return bodyBytes;
}
/** Whether the reply names its body's type: it stands at valuePtr(), valueBytes() long. */
export function replyHasType(): bool {
  return header(MAP_CALL_HEADERS, H_CONTENT_TYPE) == STATUS_OK && valueBytes() > 0;
}

/** Outcome of the reply at hand, with a body of `bytes` bytes: CALL_* or FAILED_*. Its parameters stand where findParams() says. */
export function readReply(call: usize, bytes: u32, now: f64): u32 {
  status = readStatus();
  bodyBytes = 0;
  if (status == 0) return FAILED_CONNECT;
  if (status == 504 && now - callStartedMs(call) >= callTimeoutMs(call) * TIMELY) return FAILED_TIMEOUT;
  // The decode endpoint has its own answer for the client: this one is not read.
  if (status < 300 && isSglang(call)) return CALL_DONE;
  if (bytes > REPLY_BYTES_MAX) return status < 300 ? FAILED_TOO_LARGE : FAILED_STATUS;
  if (bytes > 0 && buffer(BUFFER_CALL_BODY, 0, bytes) == STATUS_OK) {
    bodyPtr = valuePtr();
    bodyBytes = valueBytes();
  }
  if (status >= 500) return textStarts(T_UNREACHABLE, bodyPtr, bodyBytes) ? FAILED_CONNECT : FAILED_STATUS;
  if (status >= 300) return FAILED_REFUSED;
  const found = findParams(bodyPtr, bodyBytes);
  // vLLM leaves out what is null in answers of this API (entrypoints/anthropic/api_router.py).
  if (found == PARAMS_MISSING && callApi(call) == API_ANTHROPIC_MESSAGES) return CALL_NOTHING;
  if (found == PARAMS_NONE) return CALL_NOTHING;
  return found == PARAMS_FOUND ? CALL_DONE : FAILED_MALFORMED;
}

function readStatus(): u32 {
  if (header(MAP_CALL_HEADERS, H_STATUS) != STATUS_OK || valueBytes() != 3) return 0;
  const ptr = valuePtr();
  return (<u32>load<u8>(ptr) - 48) * 100 + (<u32>load<u8>(ptr, 1) - 48) * 10 + (<u32>load<u8>(ptr, 2) - 48);
}

/** Whether the call is one of two legs that go at once. */
export function isSglang(call: usize): bool {
  return configProtocol(rootConfig(callRoot(call))) == PROTOCOL_SGLANG;
}

/** Notes what the outcome says of the endpoint's health. */
export function judgeCall(call: usize, config: u32, outcome: u32, now: f64): void {
  if (!callIsSame(call)) return;
  const row = callRow(call);
  if (outcome >= CALL_DONE) return noteSuccess(row);
  if (outcome == FAILED_CONNECT) return setHostAside(row, config, now);
  if (outcome != FAILED_STATUS) return;
  const least = configRetryBackoffMinMs(config);
  if (!noteServerError(row, now, least, configRetryBackoffMaxMs(config))) return;
  markBusy(row);
  markChanged();
}

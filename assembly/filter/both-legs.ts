// SGLang: the end of a request whose prefill leg failed while the other one waits for it.
//
// The decode endpoint waits for blocks that will not come, and its body went out. A client that has no answer yet gets
// one; one whose answer began sees it end. Not so behind a first token: the blocks had come.
import { STREAM_REQUEST } from "../abi/constants";
import { closeStream, valueBytes, valuePtr } from "../abi/host";
import { ascii } from "../text/text";
import { forgetPrefix, releaseReservation } from "./commit";
import { FAILED_REFUSED } from "./disaggregation-metrics";
import { forgetLeg } from "./legs";
import { replyBytes, replyHasType, replyPtr, replyStatus } from "./prefill-reply";
import { REFUSED_PREFILL_FAILED, passOn, refuseText } from "./reply";
import { F_FIRST_DATA, F_RESPONDED, PHASE_REPLIED, S_API, hasFlag, setPhase } from "./streams";

const T_PREFILL_FAILED = ascii(
  "the endpoint that computes this prompt failed; the request may be sent again",
);

/** The prefill leg, whose reply is at hand, failed with `outcome`, FAILED_* of the metrics. */
export function endBothLegs(stream: usize, outcome: u32): void {
  if (hasFlag(stream, F_FIRST_DATA)) return;
  forgetPrefix(stream);
  forgetLeg(stream);
  if (hasFlag(stream, F_RESPONDED)) {
    closeStream(STREAM_REQUEST);
    return;
  }
  releaseReservation(stream);
  setPhase(stream, PHASE_REPLIED);
  // What is wrong with the request the endpoint itself says best.
  if (outcome == FAILED_REFUSED && replyStatus() >= 400) return passItOn();
  refuseText(REFUSED_PREFILL_FAILED, load<u32>(stream, S_API), T_PREFILL_FAILED);
}

function passItOn(): void {
  const type: usize = replyHasType() ? valuePtr() : 0;
  passOn(REFUSED_PREFILL_FAILED, replyStatus(), replyPtr(), replyBytes(), type, valueBytes());
}

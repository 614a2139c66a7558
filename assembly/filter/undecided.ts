// Requests without a decision of their own: no snapshot has come, or the table of streams is full.
//
// Where prompts are computed elsewhere their bodies are looked through all the same (guard.ts). That takes a record, and
// without one such a request is refused: it could name memory of another engine.
import { ACTION_CONTINUE, ACTION_PAUSE } from "../abi/constants";
import { configFailClosed } from "../schema/settings";
import { ascii } from "../text/text";
import { COUNT_PASSED, COUNT_STREAM_OVERFLOW, countUp } from "./counters";
import { beginGuard, mustGuard } from "./guard";
import { DECIDED_NOT, meterDecision } from "./metrics";
import { REFUSED_NO_SNAPSHOT, REFUSED_SATURATED, refuseText } from "./reply";
import { PHASE_DECIDED, S_API, S_ROOT, setPhase, streamAdd } from "./streams";

const T_NO_SNAPSHOT = ascii("no snapshot of the pool's endpoints has arrived yet");
const T_FULL = ascii("too many requests at once: no place is left to look through this one's body");

/** The request's headers, of a pool without a snapshot. Returns what the phase returns. */
export function withoutSnapshot(
  context: u32,
  root: u32,
  config: u32,
  api: u32,
  pool: u32,
  endOfStream: bool,
): u32 {
  countUp(COUNT_PASSED);
  if (configFailClosed(config)) {
    refuseText(REFUSED_NO_SNAPSHOT, api, T_NO_SNAPSHOT);
    return ACTION_PAUSE;
  }
  meterDecision(pool, DECIDED_NOT);
  if (endOfStream || !mustGuard(api, config)) return ACTION_CONTINUE;
  const stream = streamAdd(context);
  if (stream == 0) {
    countUp(COUNT_STREAM_OVERFLOW);
    return refuseUnguarded(api);
  }
  store<u32>(stream, root, S_ROOT);
  store<u32>(stream, api, S_API);
  setPhase(stream, PHASE_DECIDED);
  beginGuard(stream);
  return ACTION_CONTINUE;
}

/** A request with a body that must be looked through, and no record for it. Returns what the phase returns. */
export function refuseUnguarded(api: u32): u32 {
  refuseText(REFUSED_SATURATED, api, T_FULL);
  return ACTION_PAUSE;
}

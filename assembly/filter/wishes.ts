// What a client asks of the decision: how soon the first token and each further one should come, and to be told why.
import { hashBytes } from "../text/hash";
import { configExplain } from "../schema/settings";
import {
  NOTED_EXPLAIN,
  NOTED_OBJECTIVE,
  NOTED_OBJECTIVE_ALIAS,
  NOTED_TPOT_SLO,
  NOTED_TPOT_SLO_ALIAS,
  NOTED_TTFT_SLO,
  NOTED_TTFT_SLO_ALIAS,
  notedBytes,
  notedPtr,
  notedValue,
} from "./request-headers";
import { F_EXPLAIN, S_OBJECTIVE_HASH, S_TPOT_SLO, S_TTFT_SLO, setFlag } from "./streams";

/** Longest wish that is read; a longer one is no wish, ms. */
const SLO_MAX_MS: f64 = 3600000;
const SLO_DIGITS_MAX: u32 = 12;

/** Notes the wishes that the headers of the request at hand carry. One that is no number above 0 is none, as in llm-d. */
export function noteWishes(stream: usize, config: u32): void {
  if (notedValue(NOTED_TTFT_SLO, NOTED_TTFT_SLO_ALIAS)) store<f32>(stream, notedMs(), S_TTFT_SLO);
  if (notedValue(NOTED_TPOT_SLO, NOTED_TPOT_SLO_ALIAS)) store<f32>(stream, notedMs(), S_TPOT_SLO);
  if (notedValue(NOTED_OBJECTIVE, NOTED_OBJECTIVE_ALIAS)) {
    store<u64>(stream, hashBytes(notedPtr(), notedBytes()), S_OBJECTIVE_HASH);
  }
  if (!configExplain(config) || !notedValue(NOTED_EXPLAIN, NOTED_EXPLAIN)) return;
  if (notedBytes() == 1 && load<u8>(notedPtr()) == 49) setFlag(stream, F_EXPLAIN);
}

// A decimal number of ms, "250" or "12.5"; 0 where it is none.
function notedMs(): f32 {
  const ptr = notedPtr();
  const bytes = notedBytes();
  if (bytes > SLO_DIGITS_MAX) return 0;
  let value: f64 = 0;
  let unit: f64 = 0;
  for (let i: u32 = 0; i < bytes; i++) {
    const char = <u32>load<u8>(ptr + i);
    if (char == 46 && unit == 0 && i > 0 && i + 1 < bytes) {
      unit = 1;
      continue;
    }
    if (char - 48 > 9) return 0;
    value = value * 10 + <f64>(char - 48);
    unit *= 10;
  }
  if (unit > 0) value /= unit;
  return value <= SLO_MAX_MS ? <f32>value : 0;
}

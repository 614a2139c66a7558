// A second look at the decode endpoint: it may have left the pool or died while its prompt was computed elsewhere.
//
// A body with KV parameters goes out once, so Envoy cannot go on to the next host by itself: what is known by then is
// looked at before it goes.
import { isSetAside } from "../pool/health";
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";
import { moveTo } from "./commit";
import { keepDestination, writeDestinations } from "./destinations";
import { LEG_LACKING, legOf, legRow } from "./legs";
import { writeRank } from "./stages";
import {
  S_DESTINATIONS,
  S_KEYS_MATCHED,
  S_PREFIX_ROW,
  S_PROMPT_TOKENS,
  destinationGeneration,
  destinationRow,
} from "./streams";

/**
 * Sends the stream to the first of its destinations that is still there, if that is another than the first one. False:
 * that is who computed the prompt, and needs no parameters for it.
 */
export function redirectDecode(stream: usize, config: u32, now: f64): bool {
  const count = <u32>load<u8>(stream, S_DESTINATIONS);
  let next: u32 = 0;
  while (next < count && !isUp(stream, next, now)) next++;
  if (next == 0 || next == count) return true;
  const row = destinationRow(stream, next);
  moveTo(stream, row);
  store<u32>(stream, row, S_PREFIX_ROW);
  // Of another one's cache nothing is known.
  const isComputed = row == legRow(stream);
  store<u16>(stream, 0, S_KEYS_MATCHED);
  store<u32>(legOf(stream), isComputed ? 0 : load<u32>(stream, S_PROMPT_TOKENS), LEG_LACKING);
  let kept: u32 = 1;
  for (let i = next + 1; i < count; i++) {
    if (isUp(stream, i, now)) keepDestination(stream, kept++, i);
  }
  writeDestinations(stream, config, kept);
  writeRank(row, config);
  return !isComputed;
}

function isUp(stream: usize, index: u32, now: f64): bool {
  const row = destinationRow(stream, index);
  const isSame = rowU32(COLUMN_GENERATION, row) == destinationGeneration(stream, index);
  return isSame && !isSetAside(row, now);
}

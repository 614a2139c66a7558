// A second look at the decode endpoint: it may have left the pool or died while its prompt was computed elsewhere.
//
// A body with KV parameters goes out once, so Envoy cannot go on to the next host by itself: what is known by then is
// looked at before it goes.
import { MAP_REQUEST_HEADERS } from "../abi/constants";
import { replaceHeader } from "../abi/host";
import { isSetAside } from "../pool/health";
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";
import { writeBegin, writeByte, writeLength } from "../text/text";
import { moveTo } from "./commit";
import { LEG_LACKING, legOf, legRow } from "./legs";
import { H_DESTINATION } from "./names";
import { writeHost, writeRank } from "./stages";
import {
  S_DESTINATIONS,
  S_GENERATIONS,
  S_KEYS_MATCHED,
  S_PREFIX_ROW,
  S_PROMPT_TOKENS,
  S_ROWS,
  destinationGeneration,
  destinationRow,
} from "./streams";

const destinations: usize = memory.data(320);

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
    if (!isUp(stream, i, now)) continue;
    store<u16>(stream + S_ROWS + ((<usize>kept) << 1), <u16>destinationRow(stream, i));
    store<u16>(stream + S_GENERATIONS + ((<usize>kept) << 1), <u16>destinationGeneration(stream, i));
    kept++;
  }
  store<u8>(stream, <u8>kept, S_DESTINATIONS);
  writeDestinations(stream, config, kept);
  return !isComputed;
}

function isUp(stream: usize, index: u32, now: f64): bool {
  const row = destinationRow(stream, index);
  const isSame = rowU32(COLUMN_GENERATION, row) == destinationGeneration(stream, index);
  return isSame && !isSetAside(row, now);
}

function writeDestinations(stream: usize, config: u32, count: u32): void {
  writeBegin(destinations, 320);
  for (let i: u32 = 0; i < count; i++) {
    if (i > 0) writeByte(44);
    writeHost(destinationRow(stream, i), config);
  }
  replaceHeader(MAP_REQUEST_HEADERS, H_DESTINATION, destinations, writeLength());
  writeRank(destinationRow(stream, 0), config);
}

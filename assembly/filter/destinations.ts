// The hosts that a request may be sent to: the decision's choice and its fallbacks, as Envoy's override list names them.
//
// The endpoint that computes the prompt is no fallback for the one that answers: it would be told to fetch the prompt from
// itself, and NIXL loads no agent of its own name (src/core/nixl_agent.cpp, loadRemoteMD). Behind the list's end Envoy
// takes any host of the cluster, so a list without that endpoint also ends the retries.
// Of data-parallel ranks there is no fallback: the header names one rank, and llm-d's sidecar of another pod answers 400 to
// that (llm-d-router pkg/sidecar/proxy/data_parallel.go, dataParallelHandler).
import { MAP_REQUEST_HEADERS } from "../abi/constants";
import { replaceHeader } from "../abi/host";
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";
import { resultRow, resultsListed } from "../schedule/pickers";
import { configDataParallel } from "../schema/stage-settings";
import { textBytes, writeBegin, writeByte, writeLength } from "../text/text";
import { DESTINATIONS_MAX } from "../wire/limits";
import { NO_ROW, legRow } from "./legs";
import {
  H_DESTINATION,
  H_MAX_RETRIES,
  H_RETRY_ON,
  V_NO_RETRIES,
  V_ONE_RETRY,
  V_RETRIES,
  V_RETRY_ON,
} from "./names";
import { writeHost } from "./stages";
import {
  F_DISAGGREGATED,
  F_INLINE,
  S_DESTINATIONS,
  S_GENERATIONS,
  S_ROWS,
  destinationGeneration,
  destinationRow,
  hasFlag,
} from "./streams";

// The rows of the decision in hand, best first, and the next best, NO_ROW where there is none.
const picked: usize = memory.data(3 * 2, 2);
let pickedCount: u32 = 0;
let spare: u32 = NO_ROW;
let isBounded: bool = false;

/** Takes the first of schedule()'s `results` rows; how many. */
export function pickedTake(results: u32): u32 {
  pickedCount = min<u32>(results, DESTINATIONS_MAX);
  for (let i: u32 = 0; i < pickedCount; i++) setPicked(i, resultRow(i));
  spare = resultsListed() > pickedCount ? resultRow(pickedCount) : NO_ROW;
  isBounded = false;
  return pickedCount;
}

/** Row of the choice, index 0, or of a fallback. */
export function pickedRow(index: u32): u32 {
  return <u32>load<u16>(picked + ((<usize>index) << 1));
}

function setPicked(index: u32, row: u32): void {
  store<u16>(picked + ((<usize>index) << 1), <u16>row);
}

/** The stream's stages are chosen: takes the fallbacks that go with them, and notes them in the stream. */
export function pickedRemember(stream: usize): void {
  if (hasFlag(stream, F_DISAGGREGATED) && !hasFlag(stream, F_INLINE)) leaveOut(legRow(stream));
  store<u8>(stream, <u8>pickedCount, S_DESTINATIONS);
  for (let i: u32 = 0; i < pickedCount; i++) {
    const row = pickedRow(i);
    setDestination(stream, i, row, rowU32(COLUMN_GENERATION, row));
  }
}

// Takes `row` off the fallbacks and the spare row in. Where nobody else is left it stays: an engine may then compute
// what it cannot fetch, and nobody would answer otherwise.
function leaveOut(row: u32): void {
  let kept: u32 = 1;
  for (let i: u32 = 1; i < pickedCount; i++) {
    const one = pickedRow(i);
    if (one != row) setPicked(kept++, one);
  }
  if (kept == pickedCount) return;
  if (spare != NO_ROW) setPicked(kept++, spare);
  if (kept == 1) return;
  pickedCount = kept;
  isBounded = true;
}

const list: usize = memory.data(320);

/** Writes the list, and on what Envoy goes on to its next host. */
export function pickedWrite(config: u32): void {
  const named = namedOf(config, pickedCount);
  writeBegin(list, 320);
  for (let i: u32 = 0; i < named; i++) {
    if (i > 0) writeByte(44);
    writeHost(pickedRow(i), config);
  }
  replaceHeader(MAP_REQUEST_HEADERS, H_DESTINATION, list, writeLength());
  replaceHeader(MAP_REQUEST_HEADERS, H_RETRY_ON, V_RETRY_ON, textBytes(V_RETRY_ON));
  writeRetries(isBounded || configDataParallel(config) ? named - 1 : DESTINATIONS_MAX - 1);
}

// How many of `count` ≥ 1 destinations Envoy is told of.
function namedOf(config: u32, count: u32): u32 {
  return configDataParallel(config) ? 1 : count;
}

/** Writes how often Envoy may go on to the next host, 0 … DESTINATIONS_MAX − 1. */
export function writeRetries(count: u32): void {
  const text = count == 0 ? V_NO_RETRIES : count == 1 ? V_ONE_RETRY : V_RETRIES;
  replaceHeader(MAP_REQUEST_HEADERS, H_MAX_RETRIES, text, textBytes(text));
}

function setDestination(stream: usize, index: u32, row: u32, generation: u32): void {
  store<u16>(stream + S_ROWS + ((<usize>index) << 1), <u16>row);
  store<u16>(stream + S_GENERATIONS + ((<usize>index) << 1), <u16>generation);
}

/** Keeps the stream's `index`-th destination as its `kept`-th, kept ≤ index. */
export function keepDestination(stream: usize, kept: u32, index: u32): void {
  setDestination(stream, kept, destinationRow(stream, index), destinationGeneration(stream, index));
}

/** Writes the first `count` destinations of a stream anew: the others are none any more. */
export function writeDestinations(stream: usize, config: u32, count: u32): void {
  const named = namedOf(config, count);
  store<u8>(stream, <u8>count, S_DESTINATIONS);
  writeBegin(list, 320);
  for (let i: u32 = 0; i < named; i++) {
    if (i > 0) writeByte(44);
    writeHost(destinationRow(stream, i), config);
  }
  replaceHeader(MAP_REQUEST_HEADERS, H_DESTINATION, list, writeLength());
}

/**
 * The stream's body has the parameters of its prefill endpoint in it: that is no fallback any more. How many destinations
 * Envoy knows of then.
 */
export function leaveOutPrefiller(stream: usize, config: u32): u32 {
  const count = <u32>load<u8>(stream, S_DESTINATIONS);
  let kept: u32 = 1;
  for (let i: u32 = 1; i < count; i++) {
    if (destinationRow(stream, i) != legRow(stream)) keepDestination(stream, kept++, i);
  }
  if (kept < count) writeDestinations(stream, config, kept);
  return namedOf(config, kept);
}

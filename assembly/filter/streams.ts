// The streams of this worker: a fixed table of records, found by context id.
import { CONTROL_STREAMS_MAX, STREAMS_MAX } from "../wire/limits";
import { CHAIN_BYTES } from "../prefix/chain";
import { PROMPT_BYTES } from "../prompt/layout";
import { USAGE_BYTES } from "../prompt/usage";

// Phases of a stream.
export const PHASE_FREE: u32 = 0;
/** Headers are held; the body is being read. */
export const PHASE_READING: u32 = 1;
/** The destination is written; everything passes. */
export const PHASE_DECIDED: u32 = 2;
/** We answered the client ourselves. */
export const PHASE_REPLIED: u32 = 3;
/** A control request whose body is being read. */
export const PHASE_INGEST: u32 = 4;
/** A control request without a body to wait for. */
export const PHASE_CONTROL: u32 = 5;
/** Headers and body are held while the prefill endpoint is called. */
export const PHASE_PREFILLING: u32 = 6;

//   ┌ stream ────────────────────────────────────────────────────────────────────────────────┐
//   │ 0 u32 context   4 u32 phase   8 u32 root   12 u32 flags   16 u32 body bytes seen        │
//   │ 20 u32 pool   24 f64 started ms   32 u64 key root   40 u32 content length (~0 unknown)  │
//   │ 44 u32 api   48 u32 prompt tokens   52 u32 uncached tokens   56 u16 keys matched        │
//   │ 58 u8 destinations   60 u16 rows[3]   66 u16 generations[3]   72 u32 prefix row         │
//   │ 76 u32 text bytes   80 f64 decided ms   88 f64 prefilled by ms   96 f64 first token ms  │
//   │ 104 f32 TTFT SLO ms   108 f32 TPOT SLO ms   112 u64 hash of the objective               │
//   │ 120 f32 requests there at its first token   124 i32 priority   128 u64 session          │
//   ├ 136 chain ── prompt record ── usage record ─────────────────────────────────────────────┤
//   └────────────────────────────────────────────────────────────────────────────────────────┘
const AT_CHAIN: usize = 136;
const AT_PROMPT: usize = AT_CHAIN + CHAIN_BYTES;
const AT_USAGE: usize = AT_PROMPT + PROMPT_BYTES;
const STREAM_BYTES: usize = (AT_USAGE + USAGE_BYTES + 15) & ~15;

export const S_CONTEXT: usize = 0;
export const S_PHASE: usize = 4;
export const S_ROOT: usize = 8;
export const S_FLAGS: usize = 12;
export const S_SEEN: usize = 16;
export const S_POOL: usize = 20;
export const S_STARTED: usize = 24;
export const S_KEY_ROOT: usize = 32;
export const S_CONTENT_LENGTH: usize = 40;
export const S_API: usize = 44;
export const S_PROMPT_TOKENS: usize = 48;
export const S_UNCACHED: usize = 52;
export const S_KEYS_MATCHED: usize = 56;
export const S_DESTINATIONS: usize = 58;
export const S_ROWS: usize = 60;
export const S_GENERATIONS: usize = 66;
export const S_PREFIX_ROW: usize = 72;
export const S_TEXT_BYTES: usize = 76;
/** When the decision was made; 0 = what its first token tells is no measure of the endpoint. */
export const S_DECIDED: usize = 80;
/** When the prompt counts as computed though no first token shows it; 0 = a first token will. */
export const S_PREFILLED_BY: usize = 88;
/** 0 = none came yet, or it was no measure. */
export const S_FIRST_TOKEN: usize = 96;
/** The request's wishes; 0 = none. */
export const S_TTFT_SLO: usize = 104;
export const S_TPOT_SLO: usize = 108;
/** hashBytes of the objective's name; 0 = none. */
export const S_OBJECTIVE_HASH: usize = 112;
export const S_REQUESTS: usize = 120;
/** i32: of the request's objective; 0 = none, or none that the pool's policy knows. */
export const S_PRIORITY: usize = 124;
/** Hash of the session's or tenant's id; 0 = none given, or nothing depends on it. */
export const S_SESSION: usize = 128;

// Flags.
/** A request is reserved at rows[0] (or where it moved to). */
export const F_REQUEST_RESERVED: u32 = 1;
/** Its uncached tokens are reserved there too. */
export const F_TOKENS_RESERVED: u32 = 2;
/** The prompt's keys stand in the index for the prefix row. */
export const F_PREFIX_STORED: u32 = 4;
/** The response is scanned for usage. */
export const F_SAMPLED: u32 = 8;
/** The response is an event stream. */
export const F_EVENT_STREAM: u32 = 16;
/** The first token was seen. */
export const F_FIRST_DATA: u32 = 32;
/** Response headers were seen. */
export const F_RESPONDED: u32 = 64;
/** The body's text reached the chain (else the prompt is unknown). */
export const F_HAS_PROMPT: u32 = 128;
/** The client asked for a stream. */
export const F_STREAM: u32 = 256;
/** The request is one of an inference API. */
export const F_INFERENCE: u32 = 512;
/** Decided before the body ended. */
export const F_EARLY: u32 = 1024;
/** A trusted header names the model to be asked for; it stands in the stream's restore record. */
export const F_MODEL_GIVEN: u32 = 2048;
/** The body's model was exchanged; the names stand in the stream's restore record. */
export const F_REWRITTEN: u32 = 4096;
/** The response is read for the time between its tokens alone. */
export const F_PACED: u32 = 16384;
/** The client asked why, and is told so with the response. */
export const F_EXPLAIN: u32 = 32768;
/** The response is read to give the client's name back. */
export const F_RESTORING: u32 = 8192;
/** Another endpoint computes the prompt; the stream's leg says which (legs.ts). */
export const F_DISAGGREGATED: u32 = 1 << 16;
/** The stream holds a reservation at that endpoint. */
export const F_PREFILL_RESERVED: u32 = 1 << 17;
/** The prompt's keys stand in the index for that endpoint. */
export const F_PREFILL_NOTED: u32 = 1 << 18;
/** The body carries KV parameters that are good for one use. */
export const F_SPLICED: u32 = 1 << 19;
/** The rest of the body is read for fields that only the gateway may set. */
export const F_GUARDED: u32 = 1 << 20;
/** The client wants an answer only where part of the prompt is cached (Prefer: if-available). */
export const F_IF_AVAILABLE: u32 = 1 << 21;
/** The body of the answer is exchanged for an error of ours. */
export const F_ANSWERED: u32 = 1 << 22;
/** The filter itself calls the endpoint that computes the prompt (prefill-calls.ts). */
export const F_INLINE: u32 = 1 << 23;

// Places of requests, and behind them those of sidecars' pushes, so that neither keeps the other out.
const streams: usize = memory.data((4096 + 64) * 1424, 16);
if (STREAM_BYTES > 1424) unreachable();
const freeSlots: usize = memory.data(4096 * 2, 2);
let freeCount: u32 = 0;
let touched: u32 = 0;
let controlCount: u32 = 0;

// Context id → slot: open addressing, about twice as many places as streams, deletion by moving back.
const MAP_PLACES: u32 = 8192;
const map: usize = memory.data(8192 * 8, 8);

/** Streams that hold a record now, pushes among them. */
export function streamCount(): u32 {
  return touched - freeCount + controlCount;
}

/** Requests' records that have ever been used: an upper bound for streamAt when walking all. */
export function streamsTouched(): u32 {
  return touched;
}

export function streamAt(slot: u32): usize {
  return streams + <usize>slot * STREAM_BYTES;
}
/** Number of a record's place: below STREAMS_MAX if it is a request's, else below STREAMS_MAX + CONTROL_STREAMS_MAX. */
export function streamSlot(stream: usize): u32 {
  return <u32>((stream - streams) / STREAM_BYTES);
}
export function streamChain(stream: usize): usize {
  return stream + AT_CHAIN;
}
export function streamPrompt(stream: usize): usize {
  return stream + AT_PROMPT;
}
export function streamUsage(stream: usize): usize {
  return stream + AT_USAGE;
}

function placeOf(context: u32): u32 {
  return (context * 0x9e3779b1) >> 19;
}

/** The record of a context's stream, or 0. */
export function streamFind(context: u32): usize {
  let place = placeOf(context);
  while (true) {
    const at = map + ((<usize>place) << 3);
    const held = load<u32>(at);
    if (held == context) return streamAt(load<u32>(at, 4));
    if (held == 0) return 0;
    place = (place + 1) & (MAP_PLACES - 1);
  }
}

/** A zeroed record for a new request; 0 when all STREAMS_MAX are taken. */
export function streamAdd(context: u32): usize {
  let slot: u32;
  if (freeCount > 0) slot = <u32>load<u16>(freeSlots + ((<usize>--freeCount) << 1));
  else if (touched < <u32>STREAMS_MAX) slot = touched++;
  else return 0;
  return occupy(slot, context);
}

/** A zeroed record for a sidecar's push, in phase PHASE_INGEST; 0 when all CONTROL_STREAMS_MAX are taken. */
export function controlStreamAdd(context: u32): usize {
  if (controlCount == <u32>CONTROL_STREAMS_MAX) return 0;
  let slot: u32 = <u32>STREAMS_MAX;
  while (load<u32>(streamAt(slot), S_CONTEXT) != 0) slot++;
  controlCount++;
  const stream = occupy(slot, context);
  setPhase(stream, PHASE_INGEST);
  return stream;
}

function occupy(slot: u32, context: u32): usize {
  const stream = streamAt(slot);
  memory.fill(stream, 0, AT_PROMPT);
  store<u32>(stream, context, S_CONTEXT);
  let place = placeOf(context);
  while (load<u32>(map + ((<usize>place) << 3)) != 0) place = (place + 1) & (MAP_PLACES - 1);
  store<u32>(map + ((<usize>place) << 3), context);
  store<u32>(map + ((<usize>place) << 3), slot, 4);
  return stream;
}

/** Gives the record back. Its chain and reservations were released before. */
export function streamRemove(stream: usize): void {
  const context = load<u32>(stream, S_CONTEXT);
  let place = placeOf(context);
  while (load<u32>(map + ((<usize>place) << 3)) != context) place = (place + 1) & (MAP_PLACES - 1);
  const slot = load<u32>(map + ((<usize>place) << 3), 4);
  closeGap(place);
  store<u32>(stream, PHASE_FREE, S_PHASE);
  store<u32>(stream, 0, S_CONTEXT);
  if (slot >= <u32>STREAMS_MAX) {
    controlCount--;
    return;
  }
  store<u16>(freeSlots + ((<usize>freeCount) << 1), <u16>slot);
  freeCount++;
}

function closeGap(gap: u32): void {
  let place = gap;
  while (true) {
    place = (place + 1) & (MAP_PLACES - 1);
    const at = map + ((<usize>place) << 3);
    const context = load<u32>(at);
    if (context == 0) break;
    // An entry may move back only to a place that is not before its own first choice.
    if (((place - placeOf(context)) & (MAP_PLACES - 1)) >= ((place - gap) & (MAP_PLACES - 1))) {
      store<u64>(map + ((<usize>gap) << 3), load<u64>(at));
      gap = place;
    }
  }
  store<u64>(map + ((<usize>gap) << 3), 0);
}

// Field access, so that the phases read like sentences.
export function hasFlag(stream: usize, flag: u32): bool {
  return (load<u32>(stream, S_FLAGS) & flag) != 0;
}
export function setFlag(stream: usize, flag: u32): void {
  store<u32>(stream, load<u32>(stream, S_FLAGS) | flag, S_FLAGS);
}
export function clearFlag(stream: usize, flag: u32): void {
  store<u32>(stream, load<u32>(stream, S_FLAGS) & ~flag, S_FLAGS);
}
export function phaseOf(stream: usize): u32 {
  return load<u32>(stream, S_PHASE);
}
export function setPhase(stream: usize, phase: u32): void {
  store<u32>(stream, phase, S_PHASE);
}
/** Row of the `index`-th destination, and the generation it had at the decision. */
export function destinationRow(stream: usize, index: u32): u32 {
  return <u32>load<u16>(stream + S_ROWS + ((<usize>index) << 1));
}
export function destinationGeneration(stream: usize, index: u32): u32 {
  return <u32>load<u16>(stream + S_GENERATIONS + ((<usize>index) << 1));
}

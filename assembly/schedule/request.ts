// What the scheduler knows of the request being decided: one static record, filled before schedule().

/** Request headers that plugins of one configuration can read; a configuration that needs more is refused. */
export const REQUEST_HEADERS_MAX: u32 = 8;

//   ┌ request, 168 bytes ────────────────────────────────────────────────────────────────┐
//   │ 0 u64 model hash   8 u64 LoRA hash   16 u64 random state                            │
//   │ 24 f64 prompt tokens   32 f64 matchable tokens   40 f64 context tokens   48 f64 now │
//   │ 56 u64 zero   64 u8 cold   65 u8 session bound   66 u8 bound present                │
//   │ 72 { u32 ptr, u32 bytes }[8] headers   136 u64 tie key   144 f64 TTFT SLO ms        │
//   │ 152 f64 TPOT SLO ms   160 f64 most tokens of the answer                              │
//   └─────────────────────────────────────────────────────────────────────────────────────┘
const record: usize = memory.data(168, 8);
const AT_LORA: usize = 8;
const AT_RANDOM: usize = 16;
const AT_PROMPT_TOKENS: usize = 24;
const AT_MATCHABLE_TOKENS: usize = 32;
const AT_CONTEXT_TOKENS: usize = 40;
const AT_NOW: usize = 48;
const AT_COLD: usize = 64;
const AT_SESSION_PRESENT: usize = 65;
const AT_HEADERS: usize = 72;
const AT_TIE_KEY: usize = 136;
const AT_TTFT_SLO: usize = 144;
const AT_TPOT_SLO: usize = 152;
const AT_MAX_TOKENS: usize = 160;

const RANDOM_SEED: u64 = 0x9e3779b97f4a7c15;

/** Empties the record. `nowMs`: the decision's time, own clock. `random`: any value; 0 is replaced. */
export function requestReset(nowMs: f64, random: u64): void {
  memory.fill(record, 0, 168);
  store<f64>(record, nowMs, AT_NOW);
  store<u64>(record, random == 0 ? RANDOM_SEED : random, AT_RANDOM);
}

/** hashBytes() of the name of the model. */
export function requestSetModel(hash: u64): void {
  store<u64>(record, hash);
}

/** hashBytes() of the LoRA adapter's name where it is not the model's own name; 0 = none. */
export function requestSetLora(hash: u64): void {
  store<u64>(record, hash, AT_LORA);
}

/**
 * Sizes in tokens, estimates ≥ 0. `prompt`: the whole prompt. `matchable`: what a cache could hold of it,
 * whole blocks only, so that a full hit has a ratio of 1. `context`: what is compared with context-length
 * ranges, the prompt where nothing better is known.
 */
export function requestSetTokens(prompt: f64, matchable: f64, context: f64): void {
  store<f64>(record, prompt, AT_PROMPT_TOKENS);
  store<f64>(record, matchable, AT_MATCHABLE_TOKENS);
  store<f64>(record, context, AT_CONTEXT_TOKENS);
}

/** Value of the header that the configuration lists at `index`; stays readable until schedulePlaced(). */
export function requestSetHeader(index: u32, ptr: usize, bytes: u32): void {
  if (index >= REQUEST_HEADERS_MAX) return;
  store<u32>(record + ((<usize>index) << 3), <u32>ptr, AT_HEADERS);
  store<u32>(record + ((<usize>index) << 3), bytes, AT_HEADERS + 4);
}

/** Key of the first part of the prompt that no candidate holds: all gateways know it alike. 0 = there is none. */
export function requestSetTieKey(key: u64): void {
  store<u64>(record, key, AT_TIE_KEY);
}

/** The longest that the first token, and each further one, should take, ms; 0 = no matter. */
export function requestSetSlos(ttftMs: f64, tpotMs: f64): void {
  store<f64>(record, ttftMs, AT_TTFT_SLO);
  store<f64>(record, tpotMs, AT_TPOT_SLO);
}

/** Most tokens that the answer may have; 0 = the request does not say. */
export function requestSetMaxTokens(tokens: f64): void {
  store<f64>(record, tokens, AT_MAX_TOKENS);
}

export function requestMaxTokens(): f64 {
  return load<f64>(record, AT_MAX_TOKENS);
}

export function requestTieKey(): u64 {
  return load<u64>(record, AT_TIE_KEY);
}

export function requestTtftSloMs(): f64 {
  return load<f64>(record, AT_TTFT_SLO);
}

export function requestTpotSloMs(): f64 {
  return load<f64>(record, AT_TPOT_SLO);
}

/** The adapter asked for: the LoRA hash, else the model's, as an adapter is asked for by model name. */
export function requestAdapterHash(): u64 {
  const lora = load<u64>(record, AT_LORA);
  return lora != 0 ? lora : load<u64>(record);
}

export function requestPromptTokens(): f64 {
  return load<f64>(record, AT_PROMPT_TOKENS);
}

export function requestMatchableTokens(): f64 {
  return load<f64>(record, AT_MATCHABLE_TOKENS);
}

export function requestContextTokens(): f64 {
  return load<f64>(record, AT_CONTEXT_TOKENS);
}

export function requestNowMs(): f64 {
  return load<f64>(record, AT_NOW);
}

/** Pointer to a noted header's value; requestHeaderLen 0 = not sent or empty. */
export function requestHeaderPtr(index: u32): usize {
  return index < REQUEST_HEADERS_MAX ? <usize>load<u32>(record + ((<usize>index) << 3), AT_HEADERS) : 0;
}

export function requestHeaderLen(index: u32): u32 {
  return index < REQUEST_HEADERS_MAX ? load<u32>(record + ((<usize>index) << 3), AT_HEADERS + 4) : 0;
}

/** Whether no candidate holds any of the prompt; set while scoring, for schedulePlaced(). */
export function requestCold(): bool {
  return load<u8>(record, AT_COLD) != 0;
}

export function requestSetCold(cold: bool): void {
  store<u8>(record, cold ? 1 : 0, AT_COLD);
}

/** Whether the session's endpoint was a candidate; set while scoring, for schedulePlaced(). */
export function requestSessionPresent(): bool {
  return load<u8>(record, AT_SESSION_PRESENT) != 0;
}

export function requestSetSessionPresent(present: bool): void {
  store<u8>(record, present ? 1 : 0, AT_SESSION_PRESENT);
}

/** Next random number, all 64 bits (xorshift64*, Vigna 2016). */
export function requestRandom(): u64 {
  let state = load<u64>(record, AT_RANDOM);
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  store<u64>(record, state, AT_RANDOM);
  return state * 0x2545f4914f6cdd1d;
}

/** Next random number in (0, 1). */
export function requestRandomUnit(): f64 {
  return (<f64>(requestRandom() >> 12) + 0.5) / 4503599627370496;
}

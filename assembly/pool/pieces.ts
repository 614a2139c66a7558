// One piece of an endpoint's prefill work: what it had computed for all workers while it was busy, and in what time.
//
// A piece is all prompts, of all workers, whose first tokens came while the endpoint was busy without a pause, up to
// PIECE_TOKENS, and the time that took. An engine computes several prompts in one step, and parts of the next ones:
// what one request waited says little, what was done in a long time says all.

/** First tokens that come within this time of the one before are of one engine step, ms; */
const STEP_MS: f64 = 2;
/** and by this time after it the other workers have told of theirs. */
const SETTLED_MS: f64 = 12;
/** A piece of work ends when it has so many tokens: several engine steps, so that what a step began and the next ended is little of it. */
const PIECE_TOKENS: f64 = 32768;
/** A piece of work longer than this is not one, ms. */
const SERVICE_MAX_MS: f64 = 600000;

//   ┌ piece, 48 bytes, 8-byte aligned; zeros = there has been none ────────────────────────┐
//   │ 0 f64 start ms   8 f64 end ms (0 = none is open)   16 f64 own tokens                  │
//   │ 24 f64 end of the piece before   32 f64 others' tokens computed by then               │
//   │ 40 f64 others' tokens computed by the end of this piece                               │
//   └──────────────────────────────────────────────────────────────────────────────────────┘
const AT_END: usize = 8;
const AT_TOKENS: usize = 16;
const AT_LAST_END: usize = 24;
const AT_OTHERS: usize = 32;
const AT_OTHERS_END: usize = 40;

/** Whether any first token has come of it. */
export function pieceIsOpen(piece: usize): bool {
  return load<f64>(piece, AT_END) > 0;
}

/** Work begins where there was none at `nowMs`, when the others had `othersComputed` tokens computed there. None is open. */
export function pieceBegin(piece: usize, othersComputed: f64, nowMs: f64): void {
  store<f64>(piece, othersComputed, AT_OTHERS);
  store<f64>(piece, nowMs, AT_LAST_END);
}

/** Whether a first token that comes now is of the next piece; `busySinceMs`: since when the endpoint had work without a pause. */
export function pieceIsOver(piece: usize, busySinceMs: f64, nowMs: f64): bool {
  const end = load<f64>(piece, AT_END);
  if (!(end > 0)) return false;
  return busySinceMs > end || (nowMs - end > STEP_MS && pieceTokens(piece) >= PIECE_TOKENS);
}

/** Whether all has been told of it and nothing more will come, as the endpoint `isIdle` or it is large enough. */
export function pieceIsSettled(piece: usize, isIdle: bool, nowMs: f64): bool {
  const end = load<f64>(piece, AT_END);
  if (!(end > 0) || !(nowMs - end > SETTLED_MS)) return false;
  return isIdle || pieceTokens(piece) >= PIECE_TOKENS;
}

/** A first token came, of a prompt of `tokens` uncached tokens; it opens a piece where none is. */
export function pieceAdd(piece: usize, tokens: f64, busySinceMs: f64, othersComputed: f64, nowMs: f64): void {
  if (load<f64>(piece, AT_END) == 0) {
    store<f64>(piece, Math.max(busySinceMs, load<f64>(piece, AT_LAST_END)));
    store<f64>(piece, 0, AT_TOKENS);
  }
  store<f64>(piece, nowMs, AT_END);
  store<f64>(piece, load<f64>(piece, AT_TOKENS) + tokens, AT_TOKENS);
  store<f64>(piece, othersComputed, AT_OTHERS_END);
}

// What the others computed until the piece's end, and not until now: the piece may be closed much later.
function othersTokens(piece: usize): f64 {
  return Math.max(load<f64>(piece, AT_OTHERS_END) - load<f64>(piece, AT_OTHERS), 0);
}

/** Its uncached tokens, those of the other workers' requests in the same time included. */
export function pieceTokens(piece: usize): f64 {
  return load<f64>(piece, AT_TOKENS) + othersTokens(piece);
}

/** When its last first token came, ms. */
export function pieceEndMs(piece: usize): f64 {
  return load<f64>(piece, AT_END);
}

/**
 * Ends it; what it was is read before. Returns the time it took, ms; 0 where that is not known: where others began it,
 * it is not known how much of theirs was before.
 */
export function pieceClose(piece: usize): f64 {
  const start = load<f64>(piece);
  const end = load<f64>(piece, AT_END);
  const isWhole = othersTokens(piece) == 0 || start <= load<f64>(piece, AT_LAST_END);
  store<f64>(piece, load<f64>(piece, AT_OTHERS_END), AT_OTHERS);
  store<f64>(piece, end, AT_LAST_END);
  store<f64>(piece, 0, AT_END);
  const ms = end - start;
  return ms > 0 && ms <= SERVICE_MAX_MS && start != 0 && isWhole ? ms : 0;
}

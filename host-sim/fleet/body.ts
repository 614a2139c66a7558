// A simulated request as the bytes a client sends: a chat completion whose text stands for the spans.
import { WORDS } from "../model-server/lexicon.ts";
import { hashText } from "../model-server/block-hash.ts";
import { Random } from "../workload/random.ts";
import type { FleetRequest, Span } from "./types.ts";

/** Length of the text that spans are cut from. */
const PROSE_BYTES = 1 << 20;
const PROSE_SEED = 20_240_101;
/** Bytes a token of a span's text, by the span: English prose has about 4 in today's vocabularies. */
const BYTES_PER_TOKEN_MIN = 3.6;
const BYTES_PER_TOKEN_MAX = 4.4;
const HASH_RANGE = 2 ** 32;
const OFFSET_SEED = 0x51ed270b;
const DENSITY_SEED = 0x2545f491;

/** What of a body may differ. */
export interface BodyOptions {
  /** Whether the client says `max_tokens`; true when absent. */
  readonly maxTokens?: boolean;
}

let prose: Buffer | undefined;

/** One fixed text, longer than any request's need to be told apart: plain words, ASCII, nothing that JSON escapes. */
function proseText(): Buffer {
  if (prose !== undefined) return prose;
  const words = WORDS.filter((word) => /^[a-zA-Z]+$/.test(word));
  const random = new Random(PROSE_SEED);
  prose = Buffer.alloc(PROSE_BYTES, " ");
  for (let at = 0; at < PROSE_BYTES;) at += prose.write(`${random.pick(words)} `, at, "latin1");
  return prose;
}

/**
 * Bytes of a span's text: 3.6 to 4.4 a token, the same for every occurrence of the span, but never fewer than its
 * identity takes.
 */
export function spanBytes(span: Span): number {
  const share = hashText(String(span.id), DENSITY_SEED) / HASH_RANGE;
  const perToken = BYTES_PER_TOKEN_MIN + share * (BYTES_PER_TOKEN_MAX - BYTES_PER_TOKEN_MIN);
  return Math.max(`${span.id} `.length, Math.round(span.tokens * perToken));
}

/**
 * Body of a streamed chat completion. A span's text begins with its id and goes on with prose from a place of its
 * own; consecutive spans of one role are one message. Equal leading spans give equal leading bytes.
 */
export function requestBody(request: FleetRequest, options: BodyOptions = {}): Buffer {
  const { model, lora, spans, outputTokens } = request;
  const head = `{"model":${JSON.stringify(lora ?? model)},"messages":[`;
  const limit = options.maxTokens === false ? "" : `,"max_tokens":${outputTokens}`;
  const tail = `"}],"stream":true,"stream_options":{"include_usage":true}${limit}}`;
  const openings = spans.map((span, i) => opening(span, spans[i - 1]));
  let bytes = Buffer.byteLength(head) + tail.length;
  for (const [i, span] of spans.entries()) bytes += openings[i]!.length + spanBytes(span);
  const body = Buffer.allocUnsafe(bytes);
  let at = body.write(head, "utf8");
  for (const [i, span] of spans.entries()) {
    at += body.write(openings[i]!, at, "latin1");
    at += writeSpan(body, at, span);
  }
  body.write(tail, at, "latin1");
  return body;
}

// What stands before a span's text: nothing within a message.
function opening(span: Span, previous: Span | undefined): string {
  if (previous?.role === span.role) return "";
  const start = `{"role":"${span.role}","content":"`;
  return previous === undefined ? start : `"},${start}`;
}

/** Writes a span's text into `body` from `at` on. @returns its bytes, as `spanBytes` */
export function writeSpan(body: Buffer, at: number, span: Span): number {
  const text = proseText();
  const bytes = spanBytes(span);
  let written = body.write(`${span.id} `, at, "latin1");
  let from = hashText(String(span.id), OFFSET_SEED) % PROSE_BYTES;
  while (written < bytes) {
    const piece = Math.min(bytes - written, PROSE_BYTES - from);
    text.copy(body, at + written, from, from + piece);
    written += piece;
    from = 0;
  }
  return bytes;
}

// A simulated request as its engine sees it: the text of prompt and answer by the chat template, cut at tokens.
import { spanBytes, writeSpan } from "./body.ts";
import type { FleetRequest, Span, SpanRole } from "./types.ts";

/** Upper half of the identity of an answer that nobody repeats: above all that spans have. */
const UNREPEATED = 2 ** 52;

/** What the simulated engines' template (ChatML) puts before a message's content and after it. */
export function messageOpening(role: SpanRole): string {
  return `<|im_start|>${role}\n`;
}
export const MESSAGE_CLOSING = "<|im_end|>\n";

interface Piece {
  readonly span: Span;
  /** Template text before it; it belongs to the span's first token. */
  readonly before: string;
  readonly bytes: number;
}

/**
 * The text of a request's prompt and answer. Tokens are the spans' own: the template has none, its text lies within the
 * first token behind it, and a span's bytes are shared evenly among its tokens. So equal leading tokens have equal
 * leading bytes.
 */
export class RenderedPrompt {
  readonly bytes: Buffer;
  private readonly pieces: readonly Piece[];

  constructor({ spans, answerSpan, index, outputTokens }: FleetRequest) {
    const id = answerSpan ?? UNREPEATED + index;
    const answer: Span = { id, tokens: outputTokens, role: "assistant" };
    this.pieces = [...spans.map((span, i) => pieceOf(span, spans[i - 1])), answerPiece(answer, spans.at(-1))];
    let length = 0;
    for (const { before, bytes } of this.pieces) length += before.length + bytes;
    this.bytes = Buffer.allocUnsafe(length);
    let at = 0;
    for (const { span, before } of this.pieces) {
      at += this.bytes.write(before, at, "latin1");
      at += writeSpan(this.bytes, at, span);
    }
  }

  /** Byte behind each of `tokens`, which ascend: 1 to prompt and answer together. */
  endBytes(tokens: readonly number[]): number[] {
    const ends: number[] = [];
    let firstToken = 0;
    let firstByte = 0;
    for (const { span, before, bytes } of this.pieces) {
      const from = firstByte + before.length;
      while (ends.length < tokens.length && tokens[ends.length]! <= firstToken + span.tokens) {
        ends.push(from + Math.floor(((tokens[ends.length]! - firstToken) * bytes) / span.tokens));
      }
      firstToken += span.tokens;
      firstByte = from + bytes;
    }
    return ends;
  }
}

function pieceOf(span: Span, previous: Span | undefined): Piece {
  const closing = previous === undefined ? "" : MESSAGE_CLOSING;
  const before = previous?.role === span.role ? "" : closing + messageOpening(span.role);
  return { span, before, bytes: spanBytes(span) };
}

// The answer is a turn of its own, also behind one of the assistant's.
function answerPiece(span: Span, previous: Span | undefined): Piece {
  return {
    ...pieceOf(span, undefined),
    before: (previous === undefined ? "" : MESSAGE_CLOSING) + messageOpening("assistant"),
  };
}

// Bytes of token ids: one table for all blocks of a pool.
import { TOKEN_BYTES_MAX, TOKEN_IDS_MAX } from "./limits.ts";

/** Bytes of a token that is not known. */
export const UNKNOWN_TOKEN = -1;

const ENTRIES_FIRST = 1_024;
const BLOB_FIRST_BYTES = 16_384;
const SPACE = 0x20;

/** How a tokenizer's texts begin. */
export interface TableOptions {
  /** The tokenizer writes a space before the first word that the text does not have (SentencePiece's dummy prefix). */
  readonly dropsFirstSpace: boolean;
}

/**
 * Token id → bytes. Grows as ids are added and never shrinks; at most TOKEN_IDS_MAX ids.
 *
 * ```
 * starts   u32[id]   where in `blob` the token's bytes begin
 * lengths  i32[id]   how many they are, −1 = unknown
 * special  u8[id]    1 = a special token
 * ```
 */
export class TokenTable {
  readonly dropsFirstSpace: boolean;
  private starts = new Uint32Array(ENTRIES_FIRST);
  private lengths = new Int32Array(ENTRIES_FIRST).fill(UNKNOWN_TOKEN);
  private special = new Uint8Array(ENTRIES_FIRST);
  private blob = new Uint8Array(BLOB_FIRST_BYTES);
  private used = 0;
  private count = 0;

  constructor({ dropsFirstSpace }: TableOptions) {
    this.dropsFirstSpace = dropsFirstSpace;
  }

  /** Ids whose bytes are known. */
  get size(): number {
    return this.count;
  }

  /**
   * Sets the bytes of an id. The first bytes of an id stay: an id means one thing for as long as a pool lives.
   * @returns false, and nothing done: the id is ≥ TOKEN_IDS_MAX, the bytes are more than TOKEN_BYTES_MAX
   */
  add(id: number, bytes: Uint8Array, isSpecial = false): boolean {
    if (id >= TOKEN_IDS_MAX || bytes.length > TOKEN_BYTES_MAX) return false;
    if (this.lengthOf(id) !== UNKNOWN_TOKEN) return true;
    this.growTo(id + 1, this.used + bytes.length);
    this.starts[id] = this.used;
    this.lengths[id] = bytes.length;
    this.special[id] = isSpecial ? 1 : 0;
    this.blob.set(bytes, this.used);
    this.used += bytes.length;
    this.count += 1;
    return true;
  }

  /** Bytes of a token, UNKNOWN_TOKEN without. */
  lengthOf(id: number): number {
    return id < this.lengths.length ? this.lengths[id]! : UNKNOWN_TOKEN;
  }

  /** The bytes of a token; empty when it is unknown. Valid until the next `add`. */
  bytesOf(id: number): Uint8Array {
    const start = this.starts[id] ?? 0;
    return this.blob.subarray(start, start + Math.max(0, this.lengthOf(id)));
  }

  /** Bytes of the text of `tokens[from…to)`, UNKNOWN_TOKEN if one of them is not known. */
  textLength(tokens: ArrayLike<number>, from: number, to: number): number {
    let length = 0;
    for (let i = from; i < to; i++) {
      const bytes = this.lengthOf(tokens[i]!);
      if (bytes === UNKNOWN_TOKEN) return UNKNOWN_TOKEN;
      length += bytes;
    }
    return length;
  }

  /**
   * Writes the text of `tokens[from…to)`, all of them known, into `text` from `at` on.
   * @param isFirst they begin a chain: then a space that the tokenizer wrote before the first word is left out
   * @returns where the text ends
   */
  write(
    tokens: ArrayLike<number>,
    from: number,
    to: number,
    isFirst: boolean,
    text: Uint8Array,
    at: number,
  ): number {
    const skipped = isFirst && this.dropsFirstSpace ? this.wordAfterSpecials(tokens, from, to) : -1;
    const { starts, lengths, blob } = this;
    let end = at;
    for (let i = from; i < to; i++) {
      const id = tokens[i]!;
      const last = starts[id]! + lengths[id]!;
      // Tokens are short: a loop is quicker than `set` of a subarray.
      for (let byte = starts[id]! + (i === skipped ? 1 : 0); byte < last; byte++) text[end++] = blob[byte]!;
    }
    return end;
  }

  /** The text of `tokens`, which begin a chain; null when one of them is not known. */
  render(tokens: ArrayLike<number>): Uint8Array | null {
    const length = this.textLength(tokens, 0, tokens.length);
    if (length === UNKNOWN_TOKEN) return null;
    const text = new Uint8Array(length);
    return text.subarray(0, this.write(tokens, 0, tokens.length, true, text, 0));
  }

  /** Place of the first token that is not special if it begins with a space, else −1. */
  private wordAfterSpecials(tokens: ArrayLike<number>, from: number, to: number): number {
    let i = from;
    while (i < to && this.special[tokens[i]!] === 1) i += 1;
    if (i === to || this.lengths[tokens[i]!]! === 0) return -1;
    return this.blob[this.starts[tokens[i]!]!] === SPACE ? i : -1;
  }

  private growTo(ids: number, bytes: number): void {
    if (ids > this.lengths.length) {
      const size = Math.min(TOKEN_IDS_MAX, Math.max(ids, 2 * this.lengths.length));
      const lengths = new Int32Array(size).fill(UNKNOWN_TOKEN);
      lengths.set(this.lengths);
      this.lengths = lengths;
      this.starts = enlarged(this.starts, new Uint32Array(size));
      this.special = enlarged(this.special, new Uint8Array(size));
    }
    if (bytes > this.blob.length) {
      this.blob = enlarged(this.blob, new Uint8Array(Math.max(bytes, 2 * this.blob.length)));
    }
  }
}

function enlarged<T extends Uint8Array | Uint32Array>(old: T, fresh: T): T {
  fresh.set(old);
  return fresh;
}

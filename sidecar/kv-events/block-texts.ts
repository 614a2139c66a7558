// The texts of a view's blocks, in arrays that many share.

/** Texts that come one after the other share an array of so many bytes: an array each would cost more than a text. */
const SHARED_BYTES = 4_096;
/** A longer text has an array of its own, so that little is left over at the end of the shared ones. */
const SHARED_TEXT_MAX = 512;
/** Arrays take at most so many times the bytes of the texts in them: what is moved is paid for by what has gone. */
const SPARSE_FACTOR = 1.5;
/** Bytes of no use that are left alone, however little there is of use. */
const SPARE_BYTES = 65_536;

/** An array, and the bytes of it that are some block's text. */
export interface SharedText {
  readonly bytes: Uint8Array;
  live: number;
}

/** That of blocks without a text. */
export const NO_TEXT: SharedText = { bytes: new Uint8Array(0), live: 0 };

/**
 * An array lives as long as one text in it does. Where blocks go at random most of each would soon be of no use: once
 * `isSparse`, the owner moves all texts to new arrays. So the arrays have at most
 * SPARSE_FACTOR times the bytes of the texts, and 64 KiB.
 */
export class BlockTexts {
  /** Bytes of all texts. */
  live = 0;
  /** Bytes of the arrays that hold them. */
  taken = 0;
  /** The array that the reserved bytes are in: the shared one that is being filled, or a long text's own. */
  private open = NO_TEXT;
  /** Stays open while long texts come, else each would leave the rest of one behind. */
  private shared = NO_TEXT;
  private sharedUsed = 0;

  /** Most of what the arrays take is of no use. */
  get isSparse(): boolean {
    return this.taken > SPARSE_FACTOR * this.live + SPARE_BYTES;
  }

  /** An array in which `length` bytes, at least one, are free from `at` on; `hold` takes them. */
  reserve(length: number): SharedText {
    this.leaveOwn();
    if (length > SHARED_TEXT_MAX) {
      this.open = this.take(length);
      return this.open;
    }
    if (length > this.shared.bytes.length - this.sharedUsed) {
      this.leaveShared();
      this.shared = this.take(SHARED_BYTES);
    }
    this.open = this.shared;
    return this.open;
  }

  /** Where the reserved bytes begin. */
  get at(): number {
    return this.open === this.shared ? this.sharedUsed : 0;
  }

  /** The first `length` of the reserved bytes are a text now. */
  hold(length: number): void {
    if (this.open === this.shared) this.sharedUsed += length;
    this.open.live += length;
    this.live += length;
  }

  /** A text of `length` bytes in `text` is gone. */
  drop(text: SharedText, length: number): void {
    if (length === 0) return;
    this.live -= length;
    text.live -= length;
    if (text.live === 0 && text !== this.open && text !== this.shared) this.taken -= text.bytes.length;
  }

  /** The next text begins another array. */
  close(): void {
    this.leaveOwn();
    this.leaveShared();
    this.open = NO_TEXT;
  }

  /** All texts are gone. */
  clear(): void {
    this.open = NO_TEXT;
    this.shared = NO_TEXT;
    this.sharedUsed = 0;
    this.live = 0;
    this.taken = 0;
  }

  private take(length: number): SharedText {
    this.taken += length;
    return { bytes: new Uint8Array(length), live: 0 };
  }

  private leaveOwn(): void {
    if (this.open !== this.shared && this.open.live === 0) this.taken -= this.open.bytes.length;
  }

  private leaveShared(): void {
    if (this.shared.live === 0) this.taken -= this.shared.bytes.length;
    this.shared = NO_TEXT;
    this.sharedUsed = 0;
  }
}

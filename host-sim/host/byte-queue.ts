// A chunked byte buffer: append without copying, prepend, drain, and copy out of the middle.

/** A list of chunks with a known total length, as Envoy's `Buffer::OwnedImpl`. */
export class ByteQueue {
  private chunks: Uint8Array[] = [];
  /** Bytes held. */
  length = 0;

  /** A queue that holds `bytes` (not copied: the caller gives them away). */
  static of(bytes: Uint8Array): ByteQueue {
    const queue = new ByteQueue();
    queue.append(bytes);
    return queue;
  }

  append(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.chunks.push(bytes);
    this.length += bytes.length;
  }

  prepend(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.chunks.unshift(bytes);
    this.length += bytes.length;
  }

  /** Moves everything from `other` to the end of this queue. */
  moveFrom(other: ByteQueue): void {
    for (const chunk of other.chunks) this.chunks.push(chunk);
    this.length += other.length;
    other.clear();
  }

  clear(): void {
    this.chunks = [];
    this.length = 0;
  }

  /** Drops the first `count` bytes, at most all. */
  drain(count: number): void {
    let left = Math.min(count, this.length);
    this.length -= left;
    while (left > 0) {
      const first = this.chunks[0] as Uint8Array;
      if (first.length > left) {
        this.chunks[0] = first.subarray(left);
        return;
      }
      left -= first.length;
      this.chunks.shift();
    }
  }

  /** Copies `length` bytes from offset `start` into `target`; the range must lie inside. */
  copyTo(start: number, length: number, target: Uint8Array): void {
    let skip = start;
    let written = 0;
    for (const chunk of this.chunks) {
      if (written >= length) return;
      if (skip >= chunk.length) {
        skip -= chunk.length;
        continue;
      }
      const part = chunk.subarray(skip, skip + length - written);
      target.set(part, written);
      written += part.length;
      skip = 0;
    }
  }

  /** Takes all bytes out as one chunk. */
  take(): Uint8Array {
    const only = this.chunks.length === 1 ? (this.chunks[0] as Uint8Array) : this.toBuffer();
    this.clear();
    return only;
  }

  /** All bytes, copied. */
  toBuffer(): Buffer {
    const buffer = Buffer.allocUnsafe(this.length);
    this.copyTo(0, this.length, buffer);
    return buffer;
  }
}

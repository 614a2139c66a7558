// Buffers for response bodies, reused: a scrape of a page that came in pieces allocates nothing.

/** Buffers kept for reuse. Beyond it a released buffer is left to the garbage collector. */
const KEPT_MAX = 16;
/** Bytes of the largest buffer kept for reuse. */
const KEPT_BYTES_MAX = 524_288;
/** Bytes of the smallest buffer made: a vLLM page fits. */
const BUFFER_BYTES_MIN = 65_536;

/** A small free list. Not shared between threads. */
export class PageBuffers {
  private readonly free: Buffer[] = [];

  /** A buffer of at least `bytes`; its content is undefined. Give it back with `release`. */
  acquire(bytes: number): Buffer {
    for (let index = this.free.length - 1; index >= 0; index--) {
      const buffer = this.free[index]!;
      if (buffer.length >= bytes) {
        this.free[index] = this.free[this.free.length - 1]!;
        this.free.pop();
        return buffer;
      }
    }
    return Buffer.allocUnsafeSlow(Math.max(BUFFER_BYTES_MIN, bytes));
  }

  /** Takes a buffer back. The caller must not use it afterwards. */
  release(buffer: Buffer): void {
    if (this.free.length < KEPT_MAX && buffer.length <= KEPT_BYTES_MAX) this.free.push(buffer);
  }
}

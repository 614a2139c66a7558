// Reads one HTTP/1.1 response out of socket chunks: status, framing, body. Bounded; no copy when it came in
// one piece.
import { FramingError, ResponseTooLargeError } from "../errors.ts";
import { readFramingHeaders } from "./framing-headers.ts";
import type { PageBuffers } from "./page-buffers.ts";

/** Bytes of status line, headers and trailers together. More is a framing error. */
export const RESPONSE_HEAD_BYTES_MAX = 16_384;
/** Bytes of one chunk-size line with its extensions. More is a framing error. */
export const CHUNK_LINE_BYTES_MAX = 1_024;
/** Interim (1xx) responses before the final one. More is a framing error. */
export const INTERIM_RESPONSES_MAX = 8;

const HEAD_END = Buffer.from("\r\n\r\n");
const NO_BYTES = Buffer.alloc(0);
const CR = 13;
const LF = 10;
const SEMICOLON = 59;

const enum State {
  Head,
  Length,
  ChunkSize,
  ChunkData,
  ChunkDataEnd,
  Trailers,
  UntilClose,
  Done,
}

/**
 * A reader for the responses of one connection, one at a time. `push` takes what the socket read; after it
 * returned true, `status`, `body` and `keepAlive` hold until `reset`. The body may be a view of the last
 * chunk pushed, so it must be used before the next read.
 *
 * Framing follows RFC 9112 §6, strictly: a response with both Content-Length and Transfer-Encoding, with two
 * different lengths, or with another coding than chunked is an error, because a scraper gains nothing from
 * guessing.
 */
export class ResponseReader {
  status = 0;
  keepAlive = false;
  body: Buffer = NO_BYTES;
  /** Whether any byte of the response has arrived. */
  started = false;

  private state = State.Head;
  private pendingHead: Buffer | null = null;
  private store: Buffer | null = null;
  private storedBytes = 0;
  private remaining = 0;
  private lineBytes = 0;
  private sizeDigits = 0;
  private inExtension = false;
  private trailerBytes = 0;
  private interimResponses = 0;

  constructor(
    private readonly bodyBytesMax: number,
    private readonly buffers: PageBuffers,
  ) {}

  /** Forgets the response and gives its buffer back. */
  reset(): void {
    if (this.store !== null) this.buffers.release(this.store);
    this.store = null;
    this.storedBytes = 0;
    this.state = State.Head;
    this.pendingHead = null;
    this.body = NO_BYTES;
    this.status = 0;
    this.keepAlive = false;
    this.started = false;
    this.interimResponses = 0;
  }

  /**
   * Takes the next bytes.
   * @returns true when the response is complete
   * @throws FramingError, ResponseTooLargeError; the connection is then unusable
   */
  push(chunk: Buffer): boolean {
    if (this.state === State.Done) throw new FramingError("bytes after the end of a response");
    let bytes = chunk;
    this.started = true;
    while (this.state === State.Head) {
      const rest = this.takeHead(bytes);
      if (rest === null) return false;
      bytes = rest;
    }
    if (this.isDone()) return this.finishWith(bytes);
    if (this.state === State.Length) return this.takeLength(bytes);
    if (this.state === State.UntilClose) {
      this.append(bytes, 0, bytes.length);
      return false;
    }
    return this.takeChunked(bytes);
  }

  /**
   * The peer closed its side.
   * @returns true when that completes the response (a body without a length)
   * @throws FramingError when the response is cut
   */
  end(): boolean {
    if (this.state !== State.UntilClose) {
      throw new FramingError(`connection closed ${this.started ? "inside" : "before"} the response`);
    }
    this.state = State.Done;
    this.keepAlive = false;
    this.body = this.store === null ? NO_BYTES : this.store.subarray(0, this.storedBytes);
    return true;
  }

  private isDone(): boolean {
    return this.state === State.Done;
  }

  private finishWith(rest: Buffer): boolean {
    if (rest.length > 0) this.keepAlive = false;
    return true;
  }

  private takeHead(bytes: Buffer): Buffer | null {
    const head = this.pendingHead === null ? bytes : Buffer.concat([this.pendingHead, bytes]);
    const end = head.indexOf(HEAD_END);
    if (end < 0) {
      if (head.length > RESPONSE_HEAD_BYTES_MAX) {
        throw new FramingError(`response head is longer than ${RESPONSE_HEAD_BYTES_MAX} bytes`);
      }
      this.pendingHead = this.pendingHead === null ? Buffer.from(head) : head;
      return null;
    }
    if (end > RESPONSE_HEAD_BYTES_MAX) {
      throw new FramingError(`response head is longer than ${RESPONSE_HEAD_BYTES_MAX} bytes`);
    }
    this.pendingHead = null;
    this.parseHead(head.toString("latin1", 0, end));
    return head.subarray(end + HEAD_END.length);
  }

  private parseHead(head: string): void {
    const lines = head.split("\r\n");
    const statusLine = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: |$)/.exec(lines[0] ?? "");
    if (statusLine === null) {
      throw new FramingError(`status line ${JSON.stringify((lines[0] ?? "").slice(0, 80))} is not HTTP/1.1`);
    }
    this.status = Number(statusLine[2]);
    if (this.status < 200) {
      // An interim response has no body (RFC 9110 §15.2); the final one follows. 101 was never asked for.
      this.interimResponses += 1;
      if (this.status === 101 || this.interimResponses > INTERIM_RESPONSES_MAX) {
        throw new FramingError(`unexpected interim response ${this.status}`);
      }
      return;
    }
    const framing = readFramingHeaders(lines);
    this.keepAlive = framing.connectionClose ? false : statusLine[1] === "1" || framing.connectionKeepAlive;
    this.enterBody(framing.contentLength, framing.chunked);
  }

  private enterBody(contentLength: number, chunked: boolean): void {
    if (this.status === 204 || this.status === 304) {
      this.state = State.Done;
    } else if (chunked) {
      this.state = State.ChunkSize;
      this.trailerBytes = 0;
      this.startChunkLine();
    } else if (contentLength >= 0) {
      if (contentLength > this.bodyBytesMax)
        throw new ResponseTooLargeError(this.bodyBytesMax, "response body");
      this.remaining = contentLength;
      this.state = contentLength === 0 ? State.Done : State.Length;
    } else {
      this.state = State.UntilClose;
    }
  }

  private takeLength(bytes: Buffer): boolean {
    if (this.store === null && bytes.length >= this.remaining) {
      this.body = bytes.subarray(0, this.remaining);
      if (bytes.length > this.remaining) this.keepAlive = false;
      this.state = State.Done;
      return true;
    }
    if (this.store === null) this.store = this.buffers.acquire(this.remaining);
    const take = Math.min(bytes.length, this.remaining);
    this.append(bytes, 0, take);
    this.remaining -= take;
    if (this.remaining > 0) return false;
    if (bytes.length > take) this.keepAlive = false;
    this.state = State.Done;
    this.body = this.store.subarray(0, this.storedBytes);
    return true;
  }

  private takeChunked(bytes: Buffer): boolean {
    let at = 0;
    while (at < bytes.length) {
      if (this.state === State.ChunkData) {
        const take = Math.min(bytes.length - at, this.remaining);
        this.append(bytes, at, at + take);
        at += take;
        this.remaining -= take;
        if (this.remaining === 0) {
          this.state = State.ChunkDataEnd;
          this.lineBytes = 0;
        }
      } else if (this.state === State.ChunkSize) {
        this.takeSizeByte(bytes[at++]!);
      } else if (this.state === State.ChunkDataEnd) {
        this.takeDataEndByte(bytes[at++]!);
      } else if (this.takeTrailerByte(bytes[at++]!)) {
        if (at < bytes.length) this.keepAlive = false;
        this.state = State.Done;
        this.body = this.store === null ? NO_BYTES : this.store.subarray(0, this.storedBytes);
        return true;
      }
    }
    return false;
  }

  private startChunkLine(): void {
    this.remaining = 0;
    this.lineBytes = 0;
    this.sizeDigits = 0;
    this.inExtension = false;
  }

  private takeSizeByte(byte: number): void {
    this.lineBytes += 1;
    if (this.lineBytes > CHUNK_LINE_BYTES_MAX) throw new FramingError("chunk-size line is too long");
    if (byte === LF) {
      if (this.sizeDigits === 0) throw new FramingError("chunk without a size");
      this.lineBytes = 0;
      this.state = this.remaining === 0 ? State.Trailers : State.ChunkData;
      return;
    }
    if (byte === CR || this.inExtension) return;
    if (byte === SEMICOLON || byte === 32 || byte === 9) {
      this.inExtension = true;
      return;
    }
    const digit = hexDigit(byte);
    if (digit < 0) throw new FramingError(`chunk size has byte ${byte}, expected a hexadecimal digit`);
    this.remaining = this.remaining * 16 + digit;
    this.sizeDigits += 1;
    if (this.storedBytes + this.remaining > this.bodyBytesMax) {
      throw new ResponseTooLargeError(this.bodyBytesMax, "chunked response body");
    }
  }

  private takeDataEndByte(byte: number): void {
    const expected = this.lineBytes === 0 ? CR : LF;
    if (byte !== expected) throw new FramingError(`chunk ends with byte ${byte}, expected ${expected}`);
    this.lineBytes += 1;
    if (byte === LF) {
      this.state = State.ChunkSize;
      this.startChunkLine();
    }
  }

  /** @returns true at the empty line that ends the trailers. */
  private takeTrailerByte(byte: number): boolean {
    this.trailerBytes += 1;
    if (this.trailerBytes > RESPONSE_HEAD_BYTES_MAX) throw new FramingError("trailers are too long");
    if (byte === LF) {
      if (this.lineBytes === 0) return true;
      this.lineBytes = 0;
    } else if (byte !== CR) {
      this.lineBytes += 1;
    }
    return false;
  }

  private append(bytes: Buffer, from: number, to: number): void {
    const total = this.storedBytes + (to - from);
    if (total > this.bodyBytesMax) throw new ResponseTooLargeError(this.bodyBytesMax, "response body");
    if (this.store === null) {
      this.store = this.buffers.acquire(total);
    } else if (total > this.store.length) {
      const larger = this.buffers.acquire(
        Math.min(this.bodyBytesMax, Math.max(total, this.store.length * 2)),
      );
      this.store.copy(larger, 0, 0, this.storedBytes);
      this.buffers.release(this.store);
      this.store = larger;
    }
    bytes.copy(this.store, this.storedBytes, from, to);
    this.storedBytes = total;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  if (byte >= 97 && byte <= 102) return byte - 87;
  if (byte >= 65 && byte <= 70) return byte - 55;
  return -1;
}

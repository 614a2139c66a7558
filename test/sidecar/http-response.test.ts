// Framing of HTTP/1.1 responses: every case is fed at every chunk size.
import { describe, expect, it } from "vitest";
import { FramingError, ResponseTooLargeError } from "../../sidecar/errors.ts";
import {
  CHUNK_LINE_BYTES_MAX,
  INTERIM_RESPONSES_MAX,
  RESPONSE_HEAD_BYTES_MAX,
  ResponseReader,
} from "../../sidecar/scrape/http-response.ts";
import { PageBuffers } from "../../sidecar/scrape/page-buffers.ts";
import { between, withSeeds } from "./seeds.ts";

const BODY_BYTES_MAX = 4_096;

interface Outcome {
  readonly status: number;
  readonly body: string;
  readonly keepAlive: boolean;
}

/** Feeds a response in chunks of `size`; the connection is closed at the end if it is not complete then. */
function read(response: string, size: number, bodyBytesMax = BODY_BYTES_MAX): Outcome {
  const reader = new ResponseReader(bodyBytesMax, new PageBuffers());
  const bytes = Buffer.from(response, "latin1");
  for (let at = 0; at < bytes.length; at += size) {
    const complete = reader.push(bytes.subarray(at, at + size));
    if (complete && at + size < bytes.length) throw new Error("complete before the end");
    if (complete)
      return { status: reader.status, body: reader.body.toString("latin1"), keepAlive: reader.keepAlive };
  }
  reader.end();
  return { status: reader.status, body: reader.body.toString("latin1"), keepAlive: reader.keepAlive };
}

const GOOD: [name: string, response: string, expected: Outcome][] = [
  [
    "a body with a length",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    { status: 200, body: "hello", keepAlive: true },
  ],
  [
    "no reason phrase",
    "HTTP/1.1 200\r\ncontent-length:2\r\n\r\nok",
    { status: 200, body: "ok", keepAlive: true },
  ],
  [
    "an empty body",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    { status: 200, body: "", keepAlive: true },
  ],
  ["204 without a length", "HTTP/1.1 204 No Content\r\n\r\n", { status: 204, body: "", keepAlive: true }],
  [
    "the same length twice",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    { status: 200, body: "ok", keepAlive: true },
  ],
  [
    "chunks with extensions, upper-case sizes and trailers",
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nA;x="1"\r\n0123456789\r\n1 \r\n!\r\n0\r\nX: y\r\n\r\n',
    { status: 200, body: "0123456789!", keepAlive: true },
  ],
  [
    "chunks of nothing",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    { status: 200, body: "", keepAlive: true },
  ],
  [
    "a body until the close",
    "HTTP/1.1 200 OK\r\n\r\nall of it",
    { status: 200, body: "all of it", keepAlive: false },
  ],
  ["nothing until the close", "HTTP/1.1 200 OK\r\nx: y\r\n\r\n", { status: 200, body: "", keepAlive: false }],
  [
    "connection: close",
    "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 2\r\n\r\nok",
    { status: 200, body: "ok", keepAlive: false },
  ],
  [
    "HTTP/1.0 closes",
    "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    { status: 200, body: "ok", keepAlive: false },
  ],
  [
    "HTTP/1.0 that keeps alive",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    { status: 200, body: "ok", keepAlive: true },
  ],
  [
    "an interim response first",
    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
    { status: 503, body: "busy", keepAlive: true },
  ],
];

const head = (lines: string): string => `HTTP/1.1 200 OK\r\n${lines}\r\n\r\n`;
const chunked = head("Transfer-Encoding: chunked");

const BAD: [name: string, response: string, error: new (...args: never[]) => Error][] = [
  ["another protocol", "SSH-2.0-OpenSSH_9.6\r\n\r\n", FramingError],
  ["HTTP/2", "HTTP/2 200\r\n\r\n", FramingError],
  ["a status of two digits", "HTTP/1.1 99 No\r\n\r\n", FramingError],
  ["switching protocols", "HTTP/1.1 101 Switching Protocols\r\n\r\n", FramingError],
  [
    "interim responses without end",
    "HTTP/1.1 100 Continue\r\n\r\n".repeat(INTERIM_RESPONSES_MAX + 1),
    FramingError,
  ],
  ["a cut head", "HTTP/1.1 200 OK\r\nContent-Le", FramingError],
  ["a cut body", `${head("Content-Length: 5")}hell`, FramingError],
  ["nothing at all", "", FramingError],
  ["two lengths", `${head("Content-Length: 2\r\nContent-Length: 3")}ok`, FramingError],
  [
    "a length and chunks",
    `${head("Content-Length: 2\r\nTransfer-Encoding: chunked")}0\r\n\r\n`,
    FramingError,
  ],
  ["a negative length", `${head("Content-Length: -2")}ok`, FramingError],
  ["a length with a sign", `${head("Content-Length: +2")}ok`, FramingError],
  ["a length list", `${head("Content-Length: 2, 2")}ok`, FramingError],
  ["a coding other than chunked", `${head("Transfer-Encoding: gzip, chunked")}0\r\n\r\n`, FramingError],
  ["a compressed body", `${head("Content-Encoding: gzip\r\nContent-Length: 2")}ok`, FramingError],
  ["a folded header", `${head("X: a\r\n b")}`, FramingError],
  ["a header without a colon", `${head("nonsense")}`, FramingError],
  ["a space before the colon's name", `${head(" Content-Length: 2")}ok`, FramingError],
  ["a chunk size that is not hexadecimal", `${chunked}xyz\r\n`, FramingError],
  ["a chunk without a size", `${chunked}\r\nabc`, FramingError],
  ["a chunk longer than its size", `${chunked}2\r\nabc\r\n0\r\n\r\n`, FramingError],
  ["a cut chunk", `${chunked}5\r\nhel`, FramingError],
  ["an endless chunk line", `${chunked}1;${"x".repeat(CHUNK_LINE_BYTES_MAX)}`, FramingError],
  ["endless trailers", `${chunked}0\r\n${"a: b\r\n".repeat(RESPONSE_HEAD_BYTES_MAX / 6 + 1)}`, FramingError],
  [
    "an endless head",
    `HTTP/1.1 200 OK\r\n${"a: b\r\n".repeat(RESPONSE_HEAD_BYTES_MAX / 6 + 1)}\r\n`,
    FramingError,
  ],
  ["a length above the limit", head(`Content-Length: ${BODY_BYTES_MAX + 1}`), ResponseTooLargeError],
  ["a chunk above the limit", `${chunked}FFFFFFFFFFFFFFFFFFFF\r\n`, ResponseTooLargeError],
  [
    "chunks above the limit together",
    `${chunked}${`800\r\n${"x".repeat(0x800)}\r\n`.repeat(2)}1\r\n`,
    ResponseTooLargeError,
  ],
  [
    "a body until the close above the limit",
    `HTTP/1.1 200 OK\r\n\r\n${"x".repeat(BODY_BYTES_MAX + 1)}`,
    ResponseTooLargeError,
  ],
];

/** All sizes for short responses; primes and powers for the long ones. */
function chunkSizes(response: string): number[] {
  if (response.length <= 512)
    return Array.from({ length: Math.max(1, response.length) }, (_, index) => index + 1);
  return [1, 2, 3, 7, 61, 1_024, 4_099, response.length];
}

describe("reading a response", () => {
  it.each(GOOD)("reads %s, however it is cut", (_, response, expected) => {
    for (const size of chunkSizes(response))
      expect(read(response, size), `chunks of ${size}`).toEqual(expected);
  });

  it.each(BAD)("refuses %s, however it is cut", (_, response, error) => {
    for (const size of chunkSizes(response))
      expect(() => read(response, size), `chunks of ${size}`).toThrow(error);
  });

  it("takes a body exactly as long as the limit, and a head exactly as long as its own", () => {
    const body = "x".repeat(BODY_BYTES_MAX);
    expect(read(`${head(`Content-Length: ${BODY_BYTES_MAX}`)}${body}`, 1_000).body).toBe(body);
    expect(read(`HTTP/1.1 200 OK\r\n\r\n${body}`, 1_000).body).toBe(body);
    const start = "HTTP/1.1 204 OK\r\nx: ";
    const longest = `${start}${"y".repeat(RESPONSE_HEAD_BYTES_MAX - start.length)}\r\n\r\n`;
    expect(read(longest, 4_096).status).toBe(204);
  });

  it("does not keep a connection on which more came than the response", () => {
    const reader = new ResponseReader(BODY_BYTES_MAX, new PageBuffers());
    expect(reader.push(Buffer.from(`${head("Content-Length: 2")}okHTTP/1.1`))).toBe(true);
    expect(reader.body.toString()).toBe("ok");
    expect(reader.keepAlive).toBe(false);
  });

  it("gives a whole body as a view of the chunk it came in", () => {
    const reader = new ResponseReader(BODY_BYTES_MAX, new PageBuffers());
    const chunk = Buffer.from(`${head("Content-Length: 2")}ok`);
    reader.push(chunk);
    expect(reader.body.buffer).toBe(chunk.buffer);
  });

  it("reads one response after another and reuses buffers", () => {
    const buffers = new PageBuffers();
    const reader = new ResponseReader(BODY_BYTES_MAX, buffers);
    const seen = new Set<ArrayBufferLike>();
    for (let round = 0; round < 5; round++) {
      const text = `${round}`.repeat(100);
      expect(reader.push(Buffer.from(`${head("Content-Length: 100")}${text.slice(0, 40)}`))).toBe(false);
      expect(reader.push(Buffer.from(text.slice(40)))).toBe(true);
      expect(reader.body.toString()).toBe(text);
      seen.add(reader.body.buffer);
      reader.reset();
    }
    expect(seen.size).toBe(1);
  });

  it("never reads beyond the limit nor fails otherwise than it says, on mutated responses", () => {
    withSeeds(300, (random) => {
      const [, response] = GOOD[between(random, 0, GOOD.length - 1)]!;
      const bytes = Buffer.from(response, "latin1");
      for (let count = between(random, 1, 4); count > 0; count--) {
        bytes[between(random, 0, bytes.length - 1)] = between(random, 0, 255);
      }
      const size = between(random, 1, bytes.length);
      try {
        const { body } = read(bytes.toString("latin1"), size);
        expect(body.length).toBeLessThanOrEqual(BODY_BYTES_MAX);
      } catch (error) {
        const expected =
          error instanceof FramingError ||
          error instanceof ResponseTooLargeError ||
          (error as Error).message === "complete before the end";
        if (!expected) throw error;
      }
    });
  });
});

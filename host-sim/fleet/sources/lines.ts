// Lines of a text file, read as a stream.
import { createReadStream } from "node:fs";
import { TraceLineError } from "./errors.ts";

/** Bytes of a line; a longer one is refused. A Mooncake row of a million tokens has about 16,000. */
export const LINE_BYTES_MAX = 256 * 1024;

/** A line without its end, and its number from 1. */
export interface Line {
  readonly text: string;
  readonly number: number;
}

/**
 * Lines of a UTF-8 file that are not blank; ends are LF or CR LF, and the last line needs none.
 * At most one chunk of the file and one line are held. Throws TraceLineError for a line over the limit, and
 * what the file system throws.
 */
export async function* readLines(path: string, lineBytesMax = LINE_BYTES_MAX): AsyncGenerator<Line> {
  let rest = Buffer.alloc(0);
  let number = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, from)) {
      const bytes = joined(rest, chunk.subarray(from, end));
      from = end + 1;
      rest = EMPTY;
      const text = lineText(path, ++number, bytes, lineBytesMax);
      if (text !== "") yield { text, number };
    }
    rest = Buffer.from(joined(rest, chunk.subarray(from)));
    if (rest.length > lineBytesMax) lineText(path, number + 1, rest, lineBytesMax);
  }
  const text = lineText(path, number + 1, rest, lineBytesMax);
  if (text !== "") yield { text, number: number + 1 };
}

const LINE_FEED = 10;
const EMPTY = Buffer.alloc(0);

function joined(head: Buffer, tail: Buffer): Buffer {
  return head.length === 0 ? tail : Buffer.concat([head, tail]);
}

function lineText(path: string, number: number, bytes: Buffer, bytesMax: number): string {
  if (bytes.length > bytesMax) {
    throw new TraceLineError(path, number, "line length", bytes.length, `at most ${bytesMax} bytes`);
  }
  return bytes.toString("utf8").trim();
}

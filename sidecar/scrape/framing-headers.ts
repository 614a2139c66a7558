// Reads the headers of an HTTP/1.1 response that tell where its body ends.
import { FramingError } from "../errors.ts";

/** How a response's body is framed, and whether the connection outlives it. */
export interface FramingHeaders {
  /** -1 = no Content-Length. */
  contentLength: number;
  chunked: boolean;
  connectionClose: boolean;
  connectionKeepAlive: boolean;
}

/**
 * Reads the header lines after the status line, `lines[1]` on.
 * @throws FramingError for what RFC 9112 §6 leaves to guess, or a coding that was not asked for
 */
export function readFramingHeaders(lines: readonly string[]): FramingHeaders {
  const framing: FramingHeaders = {
    contentLength: -1,
    chunked: false,
    connectionClose: false,
    connectionKeepAlive: false,
  };
  for (let index = 1; index < lines.length; index++) {
    const line = lines[index]!;
    const colon = line.indexOf(":");
    if (colon <= 0 || line.charCodeAt(0) <= 32) {
      throw new FramingError(`header line ${JSON.stringify(line.slice(0, 80))} has no name`);
    }
    readFramingHeader(framing, line.slice(0, colon).toLowerCase(), line, colon);
  }
  if (framing.chunked && framing.contentLength >= 0) {
    throw new FramingError("response has both Content-Length and Transfer-Encoding");
  }
  return framing;
}

function readFramingHeader(framing: FramingHeaders, name: string, line: string, colon: number): void {
  if (name === "content-length") {
    const text = line.slice(colon + 1).trim();
    const length = /^\d{1,15}$/.test(text) ? Number(text) : -1;
    if (length < 0) throw new FramingError(`Content-Length ${JSON.stringify(text)} is not a number`);
    if (framing.contentLength >= 0 && framing.contentLength !== length) {
      throw new FramingError(`Content-Length is both ${framing.contentLength} and ${length}`);
    }
    framing.contentLength = length;
  } else if (name === "transfer-encoding") {
    const coding = line
      .slice(colon + 1)
      .trim()
      .toLowerCase();
    if (coding !== "chunked" || framing.chunked) {
      throw new FramingError(
        `Transfer-Encoding ${JSON.stringify(coding)} is not supported, expected chunked`,
      );
    }
    framing.chunked = true;
  } else if (name === "content-encoding") {
    const coding = line
      .slice(colon + 1)
      .trim()
      .toLowerCase();
    if (coding !== "identity")
      throw new FramingError(`Content-Encoding ${JSON.stringify(coding)} was not asked for`);
  } else if (name === "connection") {
    const options = line.slice(colon + 1).toLowerCase();
    if (/(^|,)\s*close\s*(,|$)/.test(options)) framing.connectionClose = true;
    if (/(^|,)\s*keep-alive\s*(,|$)/.test(options)) framing.connectionKeepAlive = true;
  }
}

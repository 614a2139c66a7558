// One HTTP request at a simulated replica: its body, and the ways to answer it.
import type { IncomingMessage, ServerResponse } from "node:http";

/** Largest request body; a larger one is answered 413. Long prompts with pictures stay below it. */
export const BODY_BYTES_MAX = 64 * 1024 * 1024;

/** The client sent more than BODY_BYTES_MAX. */
export class BodyTooLargeError extends Error {
  readonly code = "body_too_large";
  constructor(bytes: number) {
    super(`request body has more than ${bytes} bytes`);
  }
}

/** Reads a whole body as UTF-8. @throws BodyTooLargeError */
export async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) throw new BodyTooLargeError(BODY_BYTES_MAX);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Answers to one request; counts the bytes that go out. */
export class Exchange {
  readonly request: IncomingMessage;
  readonly startedMs: number;
  responseBytes = 0;
  private readonly response: ServerResponse;
  private readonly headers: Record<string, string>;
  private keepAlive: NodeJS.Timeout | undefined;

  /** @param headers sent with every answer. */
  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    headers: Record<string, string>,
    startedMs: number,
  ) {
    this.request = request;
    this.response = response;
    this.headers = headers;
    this.startedMs = startedMs;
  }

  get status(): number {
    return this.response.statusCode;
  }

  /** The client can no longer be answered. */
  get closed(): boolean {
    return this.response.destroyed || this.response.writableEnded;
  }

  /** Calls back once if the connection goes away before the answer is complete. */
  onAbort(callback: () => void): void {
    this.response.on("close", () => {
      clearInterval(this.keepAlive);
      if (!this.response.writableFinished) callback();
    });
  }

  header(name: string): string | undefined {
    const value = this.request.headers[name];
    return Array.isArray(value) ? value[0] : value;
  }

  json(status: number, value: unknown, extra: Record<string, string> = {}): void {
    this.send(status, JSON.stringify(value), "application/json", extra);
  }

  /** A complete answer. */
  send(status: number, body: string, type: string | null, extra: Record<string, string> = {}): void {
    if (this.closed) return;
    const bytes = Buffer.from(body);
    this.responseBytes = bytes.length;
    const headers: Record<string, string> = {
      ...this.headers,
      "content-length": String(bytes.length),
      ...extra,
    };
    if (type !== null) headers["content-type"] = type;
    this.response.writeHead(status, headers).end(bytes);
  }

  /** Opens an event stream. @param keepAliveMs pause after which comments are sent; 0 = never. */
  openStream(keepAliveMs: number): void {
    if (this.closed) return;
    this.response.writeHead(200, { ...this.headers, "content-type": "text/event-stream; charset=utf-8" });
    this.response.flushHeaders();
    if (keepAliveMs > 0) {
      this.keepAlive = setInterval(() => this.write(": keep-alive\n\n"), keepAliveMs);
    }
  }

  /** A part of an open stream. */
  write(text: string): void {
    if (this.closed) return;
    this.keepAlive?.refresh();
    this.responseBytes += Buffer.byteLength(text);
    this.response.write(text);
  }

  /** `data: {json}`, with an event name where the API has them. */
  event(value: unknown, name?: string): void {
    this.write(`${name === undefined ? "" : `event: ${name}\n`}data: ${JSON.stringify(value)}\n\n`);
  }

  end(): void {
    clearInterval(this.keepAlive);
    if (!this.closed) this.response.end();
  }

  /** Closes the connection with a TCP reset. */
  reset(): void {
    clearInterval(this.keepAlive);
    this.request.socket.resetAndDestroy();
  }
}

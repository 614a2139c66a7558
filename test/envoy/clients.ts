// HTTP/1.1 and HTTP/2 clients with every step in the test's hands: when each byte goes out, trailers, aborts.
import { request as http1Request, type ClientRequest, type IncomingHttpHeaders } from "node:http";
import {
  connect as http2Connect,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
} from "node:http2";

export type Protocol = "http1" | "http2";
export const PROTOCOLS: readonly Protocol[] = ["http1", "http2"];

export interface RequestOptions {
  readonly protocol?: Protocol;
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The request ends with its headers (a GET). */
  readonly bodyless?: boolean;
  /** HTTP/2: trailers will be given to `end`. HTTP/1.1 needs no announcement, but a chunked body. */
  readonly trailers?: boolean;
}

/** A whole answer. */
export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  readonly text: string;
  /** Body pieces as they arrived. */
  readonly pieces: readonly string[];
  readonly trailers: Readonly<Record<string, string | string[] | undefined>>;
}

/** The connection or stream ended before the answer did. */
export class ReplyCutError extends Error {
  readonly code = "ERR_REPLY_CUT";
  constructor(
    readonly status: number | undefined,
    readonly received: string,
    cause?: unknown,
  ) {
    super(`the answer was cut short (status ${status ?? "none"}, ${received.length} characters received)`, {
      cause,
    });
    this.name = "ReplyCutError";
  }
}

/** A request that has begun: headers are on their way, the body is the caller's to send. */
export interface Exchange {
  /** Settles at the response headers; rejects with ReplyCutError when none come. */
  readonly head: Promise<{ status: number; headers: Reply["headers"] }>;
  /** Settles at the end of the response; rejects with ReplyCutError when it is cut. */
  readonly reply: Promise<Reply>;
  /** What has been received of the body so far. */
  received(): string;
  /** Sends a piece of the body and waits until it was handed to the socket. */
  write(piece: string | Buffer): Promise<void>;
  /** Ends the request, with trailers if given. */
  end(piece?: string | Buffer, trailers?: Readonly<Record<string, string>>): void;
  /** Goes away: resets the stream (HTTP/2) or the connection (HTTP/1.1). */
  abort(): void;
}

/** Begins a request; the body, if any, is sent by the exchange's methods. */
export function open(baseUrl: string, options: RequestOptions = {}): Exchange {
  return options.protocol === "http2" ? openHttp2(baseUrl, options) : openHttp1(baseUrl, options);
}

/** Sends a whole request and reads the whole answer. An object body goes as JSON. */
export function send(
  baseUrl: string,
  options: RequestOptions & { readonly body?: string | Buffer | object } = {},
): Promise<Reply> {
  const { body } = options;
  const bytes =
    body === undefined || typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const headers: Record<string, string> = { ...options.headers };
  if (bytes !== undefined) {
    headers["content-type"] ??= "application/json";
    headers["content-length"] ??= String(Buffer.byteLength(bytes));
  }
  const method = options.method ?? (bytes === undefined ? "GET" : "POST");
  const exchange = open(baseUrl, { ...options, method, headers, bodyless: bytes === undefined });
  exchange.end(bytes);
  return exchange.reply;
}

/** Settles both promises of an exchange and keeps what arrived. */
class ReplyCollector {
  readonly head: Promise<{ status: number; headers: Reply["headers"] }>;
  readonly reply: Promise<Reply>;
  readonly pieces: Buffer[] = [];
  private status: number | undefined;
  private headers: Reply["headers"] = {};
  private settleHead!: (head: { status: number; headers: Reply["headers"] }) => void;
  private failHead!: (error: Error) => void;
  private settleReply!: (reply: Reply) => void;
  private failReply!: (error: Error) => void;

  constructor() {
    this.head = new Promise((settle, fail) => ([this.settleHead, this.failHead] = [settle, fail]));
    this.reply = new Promise((settle, fail) => ([this.settleReply, this.failReply] = [settle, fail]));
    // A test may look at one of the two only.
    this.head.catch(() => {});
    this.reply.catch(() => {});
  }

  text(): string {
    return Buffer.concat(this.pieces).toString();
  }

  begin(status: number, headers: Reply["headers"]): void {
    [this.status, this.headers] = [status, headers];
    this.settleHead({ status, headers });
  }

  finish(trailers: Reply["trailers"]): void {
    const body = Buffer.concat(this.pieces);
    const pieces = this.pieces.map(String);
    this.settleReply({
      status: this.status!,
      headers: this.headers,
      body,
      text: body.toString(),
      pieces,
      trailers,
    });
  }

  cut(cause?: unknown): void {
    const error = new ReplyCutError(this.status, this.text(), cause);
    this.failHead(error);
    this.failReply(error);
  }
}

function openHttp1(baseUrl: string, options: RequestOptions): Exchange {
  const collector = new ReplyCollector();
  const request: ClientRequest = http1Request(new URL(options.path ?? "/", baseUrl), {
    method: options.method ?? "POST",
    headers: { ...options.headers },
    agent: false,
  });
  request.on("response", (response) => {
    collector.begin(response.statusCode!, response.headers as IncomingHttpHeaders);
    response.on("data", (piece: Buffer) => collector.pieces.push(piece));
    response.on("end", () => collector.finish(response.trailers));
    response.on("error", (error) => collector.cut(error));
    response.on("aborted", () => collector.cut());
  });
  request.on("error", (error) => collector.cut(error));
  request.on("close", () => collector.cut());
  request.flushHeaders();
  return {
    head: collector.head,
    reply: collector.reply,
    received: () => collector.text(),
    write: (piece) => new Promise((settle) => request.write(piece, () => settle())),
    end: (piece, trailers) => {
      if (trailers !== undefined) request.addTrailers(trailers);
      if (piece === undefined) request.end();
      else request.end(piece);
    },
    abort: () => request.destroy(),
  };
}

function openHttp2(baseUrl: string, options: RequestOptions): Exchange {
  const collector = new ReplyCollector();
  const session: ClientHttp2Session = http2Connect(baseUrl);
  session.on("error", (error) => collector.cut(error));
  let trailersToSend: Readonly<Record<string, string>> | undefined;
  const stream: ClientHttp2Stream = session.request(
    { ":method": options.method ?? "POST", ":path": options.path ?? "/", ...options.headers },
    { endStream: options.bodyless === true, waitForTrailers: options.trailers === true },
  );
  stream.on("wantTrailers", () => stream.sendTrailers({ ...trailersToSend }));
  let trailers: Reply["trailers"] = {};
  stream.on("response", ({ ":status": status, ...headers }) =>
    collector.begin(status!, headers as Reply["headers"]),
  );
  stream.on("trailers", (received) => (trailers = received as Reply["trailers"]));
  stream.on("data", (piece: Buffer) => collector.pieces.push(piece));
  stream.on("error", (error) => collector.cut(error));
  stream.on("end", () => {
    if (stream.rstCode === constants.NGHTTP2_NO_ERROR && !stream.aborted) collector.finish(trailers);
  });
  stream.on("close", () => {
    collector.cut();
    session.close();
  });
  return {
    head: collector.head,
    reply: collector.reply,
    received: () => collector.text(),
    write: (piece) => new Promise((settle) => stream.write(piece, () => settle())),
    end: (piece, sent) => {
      trailersToSend = sent;
      if (options.bodyless === true) return;
      if (piece === undefined) stream.end();
      else stream.end(piece);
    },
    abort: () => stream.close(constants.NGHTTP2_CANCEL),
  };
}

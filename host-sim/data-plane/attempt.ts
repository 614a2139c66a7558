// One attempt of one request at one host: connect timeout, body with back-pressure, response or failure, once.
import { request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { HeaderMap } from "../host/index.ts";
import type { UpstreamHost } from "./cluster.ts";
import { ConnectTimeoutError } from "./errors.ts";
import { toRequestHeaders } from "./headers.ts";

/** What an attempt tells its router. */
export interface AttemptEvents {
  response(message: IncomingMessage): void;
  /** Before response headers. `connected` false = no byte can have reached the host. */
  failed(connected: boolean): void;
  /** After response headers, before the end of the response. */
  broken(): void;
  /** The request body may flow again. */
  drained(): void;
}

/** What an attempt sends and how long it waits for a connection. */
export interface AttemptRequest {
  readonly headers: HeaderMap;
  readonly removeHeaders: readonly string[];
  /** False = the headers are all. */
  readonly hasBody: boolean;
  readonly connectTimeoutMs: number;
}

/** A request in flight to one host. */
export class Attempt {
  private readonly request: ClientRequest;
  private message: IncomingMessage | null = null;
  private connected = false;
  private settled = false;
  private timer: NodeJS.Timeout | null = null;

  constructor(
    readonly host: UpstreamHost,
    what: AttemptRequest,
    private readonly events: AttemptEvents,
  ) {
    const headers = toRequestHeaders(what.headers, what.removeHeaders);
    const method = what.headers.get(":method") ?? "GET";
    // Node frames a body only for methods that usually have one.
    if (what.hasBody && headers["content-length"] === undefined) headers["transfer-encoding"] = "chunked";
    if (!what.hasBody && method !== "GET" && method !== "HEAD") headers["content-length"] ??= "0";
    const path = what.headers.get(":path") ?? "/";
    const { hostname, port, agent } = host;
    this.request = httpRequest({ host: hostname, port, agent, method, path, headers, setHost: false });
    host.active++;
    this.request.on("socket", (socket) => this.watchConnect(socket, what.connectTimeoutMs));
    this.request.on("response", (message) => this.onResponse(message));
    this.request.on("drain", () => this.events.drained());
    this.request.on("error", () => this.onGone());
    this.request.on("close", () => this.onGone());
    if (what.hasBody) this.request.flushHeaders();
    else this.request.end();
  }

  /** Sends a piece of the body. @returns false when no more should come before `drained` */
  write(bytes: Uint8Array): boolean {
    return this.settled || this.request.write(bytes);
  }

  /** Ends the body. */
  end(trailers: HeaderMap | null): void {
    if (this.settled) return;
    if (trailers !== null) {
      this.request.addTrailers(trailers.pairs().map(([name, value]): [string, string] => [name, value]));
    }
    this.request.end();
  }

  /** Gives the attempt up: nothing more is reported. */
  cancel(): void {
    if (this.settled) return;
    this.settle();
    this.request.destroy();
  }

  /** The response was read to its end: the connection may serve another request. */
  finish(): void {
    this.settle();
  }

  private watchConnect(socket: Socket, timeoutMs: number): void {
    if (!socket.connecting) {
      this.connected = true;
      return;
    }
    const error = new ConnectTimeoutError(this.host.address, timeoutMs);
    this.timer = setTimeout(() => this.request.destroy(error), timeoutMs);
    socket.once("connect", () => {
      this.connected = true;
      this.clearTimer();
    });
  }

  private onResponse(message: IncomingMessage): void {
    message.on("error", () => {});
    if (this.settled) {
      message.resume();
      return;
    }
    this.message = message;
    this.clearTimer();
    this.events.response(message);
  }

  /** The connection ended, or a write failed; what follows a whole response does not matter. */
  private onGone(): void {
    if (this.settled || this.message?.complete === true) return;
    this.settle();
    if (this.message !== null) this.events.broken();
    else this.events.failed(this.connected);
  }

  private settle(): void {
    if (this.settled) return;
    this.settled = true;
    this.host.active--;
    this.clearTimer();
  }

  private clearTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}

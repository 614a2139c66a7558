// A keep-alive HTTP/1.1 GET client for one page of one server: the transport of every scrape.
//
// Own code where a library would do, for one measured reason: a fleet of 100 servers with a 52 KB page each,
// read 20 times a second, costs nearly twice the CPU through a general client (test/bench/sidecar.bench.ts
// compares both). It speaks what a scrape needs and nothing else: one request at a time, no redirects, no
// compression, no cookies.
import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { ConnectionError, SidecarError } from "../errors.ts";
import { ResponseReader } from "./http-response.ts";
import type { PageBuffers } from "./page-buffers.ts";

/** TLS of a target; PEM texts. */
export interface TlsSettings {
  readonly ca: string | null;
  readonly cert: string | null;
  readonly key: string | null;
  /** Name to verify and to send as SNI; null = the host, if that is a name. */
  readonly serverName: string | null;
  readonly insecureSkipVerify: boolean;
}

/** Where a page is. */
export interface PageTarget {
  /** IP address or host name, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly tls: TlsSettings | null;
  /** Bearer token; null = no Authorization header. */
  readonly token: string | null;
  readonly accept: string;
  /** Whether the connection is kept for the next request. */
  readonly keepAlive: boolean;
  readonly bytesMax: number;
}

/** Takes the outcome of a fetch; exactly one call for each `fetch`. */
export interface PageSink {
  /** `body` may only be used during the call. */
  onPage(status: number, body: Buffer): void;
  onFailure(error: SidecarError): void;
}

/** What a poller needs of a transport; one fetch at a time. */
export interface PageTransport {
  /** Whether a fetch is under way. */
  readonly busy: boolean;
  fetch(): void;
  /** Gives up the fetch under way, if any, with this error. */
  abort(error: SidecarError): void;
  /** Closes for good; a fetch under way ends without a call to the sink. */
  close(): void;
}

/** Reads of all sockets go through this one buffer: see `open`. */
const READ_BUFFER = Buffer.allocUnsafeSlow(262_144);

/** The client. The sink must not call `fetch` itself: the body it was given would be overwritten. */
export class PageClient implements PageTransport {
  busy = false;
  private readonly request: Buffer;
  private readonly reader: ResponseReader;
  private socket: Socket | null = null;
  private reused = false;
  private readonly label: string;

  constructor(
    private readonly target: PageTarget,
    private readonly sink: PageSink,
    buffers: PageBuffers,
  ) {
    this.request = Buffer.from(requestText(target), "latin1");
    this.reader = new ResponseReader(target.bytesMax, buffers);
    this.label = `${hostPort(target.host, target.port)}${target.path}`;
  }

  fetch(): void {
    if (this.busy) throw new Error("fetch while a fetch is under way");
    this.busy = true;
    this.reused = this.socket !== null;
    this.send();
  }

  abort(error: SidecarError): void {
    if (this.busy) this.fail(error);
  }

  close(): void {
    this.busy = false;
    this.drop();
  }

  private send(): void {
    let socket = this.socket;
    if (socket === null) {
      try {
        socket = this.open();
      } catch (error) {
        // Such as a certificate that is not one.
        this.fail(new ConnectionError(this.label, error));
        return;
      }
      this.socket = socket;
    }
    socket.write(this.request);
  }

  private open(): Socket {
    const socket = this.target.tls === null ? this.openTcp() : this.openTls(this.target.tls);
    socket.setNoDelay(true);
    socket.on("error", (error) => {
      if (socket === this.socket) this.onBroken(error);
    });
    socket.on("end", () => {
      if (socket === this.socket) this.onEnd();
    });
    socket.on("close", () => {
      if (socket === this.socket) this.onBroken(new Error("connection closed"));
    });
    return socket;
  }

  private openTcp(): Socket {
    const socket: Socket = connectTcp({
      host: this.target.host,
      port: this.target.port,
      // One buffer for all sockets: on Unix, libuv asks for the buffer, reads and calls back without anything
      // in between (uv__read in src/unix/stream.c), so two sockets never fill it at the same time. On Windows
      // reads overlap, so each socket has its own there.
      onread: {
        buffer: process.platform === "win32" ? Buffer.allocUnsafeSlow(65_536) : READ_BUFFER,
        callback: (bytes: number, buffer: Uint8Array): boolean => {
          if (socket === this.socket) this.onBytes(Buffer.from(buffer.buffer, buffer.byteOffset, bytes));
          return true;
        },
      },
    });
    return socket;
  }

  private openTls(tls: TlsSettings): Socket {
    const options: ConnectionOptions = {
      host: this.target.host,
      port: this.target.port,
      rejectUnauthorized: !tls.insecureSkipVerify,
      ALPNProtocols: ["http/1.1"],
    };
    if (tls.ca !== null) options.ca = tls.ca;
    if (tls.cert !== null) options.cert = tls.cert;
    if (tls.key !== null) options.key = tls.key;
    if (tls.serverName !== null) options.servername = tls.serverName;
    const socket = connectTls(options);
    socket.on("data", (bytes: Buffer) => {
      if (socket === this.socket) this.onBytes(bytes);
    });
    return socket;
  }

  private onBytes(bytes: Buffer): void {
    if (!this.busy) {
      // Bytes that nobody asked for: the connection cannot be trusted to be at a response's start.
      this.drop();
      return;
    }
    let complete: boolean;
    try {
      complete = this.reader.push(bytes);
    } catch (error) {
      this.fail(asSidecarError(error, this.label));
      return;
    }
    if (complete) this.succeed();
  }

  private onEnd(): void {
    if (!this.busy || !this.reader.started) {
      this.onBroken(new Error("connection closed by the server"));
      return;
    }
    try {
      this.reader.end();
    } catch (error) {
      this.fail(asSidecarError(error, this.label));
      return;
    }
    this.succeed();
  }

  /**
   * A server may close an idle connection at any time: that is found out by the next request, which goes
   * again.
   */
  private onBroken(error: Error): void {
    if (!this.busy) {
      this.drop();
      return;
    }
    if (this.reused && !this.reader.started) {
      this.reused = false;
      this.drop();
      this.send();
      return;
    }
    this.fail(new ConnectionError(this.label, error));
  }

  private succeed(): void {
    const { status, body, keepAlive } = this.reader;
    this.busy = false;
    if (!keepAlive || !this.target.keepAlive) this.detach();
    try {
      this.sink.onPage(status, body);
    } finally {
      this.reader.reset();
    }
  }

  private fail(error: SidecarError): void {
    this.busy = false;
    this.drop();
    this.sink.onFailure(error);
  }

  /** Ends the connection but leaves the reader's body readable. */
  private detach(): void {
    const socket = this.socket;
    this.socket = null;
    socket?.destroy();
  }

  private drop(): void {
    this.detach();
    this.reader.reset();
  }
}

function asSidecarError(error: unknown, label: string): SidecarError {
  return error instanceof SidecarError ? error : new ConnectionError(label, error);
}

/** `host:port` with brackets around IPv6. */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function requestText(target: PageTarget): string {
  const lines = [
    `GET ${target.path} HTTP/1.1`,
    `host: ${hostPort(target.host, target.port)}`,
    `accept: ${target.accept}`,
    "user-agent: epp-wasm-sidecar",
  ];
  if (target.token !== null) lines.push(`authorization: Bearer ${target.token}`);
  lines.push(`connection: ${target.keepAlive ? "keep-alive" : "close"}`);
  return `${lines.join("\r\n")}\r\n\r\n`;
}

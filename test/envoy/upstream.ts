// Replicas that do as a test tells them: answer, stream, delay, fail, refuse, die and come back on the same port.
import { createHash } from "node:crypto";
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** One request as the replica saw it; its body grows while it arrives. */
export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  trailers: NodeJS.Dict<string>;
  /** The whole request was read. */
  complete: boolean;
  /** The connection ended before the answer did. */
  aborted: boolean;
}

/** What a replica does with a request. Called at the headers; `bodyRead` settles when all of the body was read. */
export type Behaviour = (context: {
  readonly received: Received;
  readonly response: ServerResponse;
  readonly socket: Socket;
  readonly bodyRead: Promise<void>;
}) => Promise<void> | void;

export interface Upstream {
  /** "127.0.0.1:port", or at the address that was asked for. */
  readonly address: string;
  readonly name: string;
  /** All requests since the last `forget`, in the order of their headers. */
  readonly received: Received[];
  /** Sets what happens to the requests from now on. */
  behave(behaviour: Behaviour): void;
  forget(): void;
  /** Cuts every connection and stops listening: later connects are refused, and nobody else gets the port. */
  kill(): Promise<void>;
  /** Listens again on the same port after `kill`. */
  revive(): Promise<void>;
}

/** Answers 200 with what arrived: name, path, headers, body bytes, their sha256, and the text of short bodies. */
export const echo: Behaviour = async ({ received, response, bodyRead }) => {
  await bodyRead;
  const { headers, path, method, body, trailers } = received;
  response.setHeader("content-type", "application/json");
  response.end(
    JSON.stringify({
      path,
      method,
      headers,
      trailers,
      bodyBytes: body.length,
      sha256: createHash("sha256").update(body).digest("hex"),
      ...(body.length <= 4096 ? { text: body.toString() } : {}),
    }),
  );
};

/** Reads the body, then answers with this status and body. */
export function answer(
  status: number,
  body: string | Buffer = "",
  headers: Record<string, string> = {},
): Behaviour {
  return async ({ response, bodyRead }) => {
    await bodyRead;
    response.writeHead(status, headers);
    response.end(body);
  };
}

/** Reads the body, waits, then does the rest. */
export function after(delayMs: number, next: Behaviour): Behaviour {
  return async (context) => {
    await context.bodyRead;
    await sleep(delayMs);
    await next(context);
  };
}

/** Holds the answer until `release` is called. */
export function held(next: Behaviour = echo): { behaviour: Behaviour; release: () => void } {
  let release!: () => void;
  const released = new Promise<void>((settle) => (release = settle));
  const behaviour: Behaviour = async (context) => {
    await context.bodyRead;
    await released;
    await next(context);
  };
  return { behaviour, release };
}

/** A 200 event stream that writes these pieces exactly as given, each as a chunk of its own. */
export function stream(pieces: readonly string[], gapMs = 0, status = 200): Behaviour {
  return async ({ response, bodyRead }) => {
    await bodyRead;
    response.writeHead(status, { "content-type": "text/event-stream" });
    response.flushHeaders();
    for (const piece of pieces) {
      if (response.destroyed) return;
      response.write(piece);
      await sleep(gapMs);
    }
    response.end();
  };
}

/** Resets the connection: at the request's headers, after its body, or in the middle of the answer. */
export function reset(when: "headers" | "body" | "answer"): Behaviour {
  return async ({ response, socket, bodyRead }) => {
    if (when !== "headers") await bodyRead;
    if (when === "answer") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      await new Promise((settle) => response.write('data: {"choices":[]}\n\n', settle));
    }
    socket.resetAndDestroy();
  };
}

/** Never answers. */
export const silent: Behaviour = () => {};

/** Starts a replica on a free port of 127.0.0.1, or on that port of another address of this machine's own network. */
export async function startUpstream(
  name: string,
  behaviour: Behaviour = echo,
  { host = "127.0.0.1", port = 0 } = {},
): Promise<Upstream & { stop(): Promise<void> }> {
  const upstream = new ScriptedServer(name, behaviour, host);
  await upstream.listen(port);
  return upstream;
}

/**
 * An address that refuses connections for as long as it is held: its port is the local end of an established
 * connection, so nothing else can come to listen on it.
 */
export async function refusingAddress(): Promise<{ address: string; release(): void }> {
  const { port, release } = await holdPort();
  return { address: `127.0.0.1:${port}`, release: () => void release() };
}

/** Keeps a port, any unless given, where connections are refused and nobody else can come to listen until `release`. */
async function holdPort(wanted?: number): Promise<{ port: number; release(): Promise<void> }> {
  const server = createTcpServer((other) => other.on("error", () => {}));
  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  const { port } = server.address() as AddressInfo;
  const local = wanted === undefined ? {} : { localAddress: "127.0.0.1", localPort: wanted };
  const socket = connect({ port, host: "127.0.0.1", ...local });
  await new Promise((settle, fail) => socket.once("connect", settle).once("error", fail));
  const release = async (): Promise<void> => {
    const closed = new Promise((settle) => socket.once("close", settle));
    // Reset, so that the port is free at once.
    socket.resetAndDestroy();
    server.close();
    await closed;
  };
  return { port: socket.localPort!, release };
}

class ScriptedServer implements Upstream {
  readonly received: Received[] = [];
  private server: Server | undefined;
  private port = 0;
  /** Its port, while it is dead. */
  private held: { release(): Promise<void> } | undefined;
  private readonly sockets = new Set<Socket>();

  constructor(
    readonly name: string,
    private behaviour: Behaviour,
    private readonly host: string,
  ) {}

  get address(): string {
    return `${this.host}:${this.port}`;
  }

  behave(behaviour: Behaviour): void {
    this.behaviour = behaviour;
  }

  forget(): void {
    this.received.length = 0;
  }

  async listen(port: number): Promise<void> {
    const server = createServer((request, response) => this.take(request, response));
    server.keepAliveTimeout = 60_000;
    server.on("connection", (socket) => {
      this.sockets.add(socket);
      socket.once("close", () => this.sockets.delete(socket));
    });
    await new Promise<void>((settle, fail) => server.once("error", fail).listen(port, this.host, settle));
    this.port = (server.address() as AddressInfo).port;
    this.server = server;
  }

  async kill(): Promise<void> {
    if (await this.close()) this.held = await holdPort(this.port);
  }

  async revive(): Promise<void> {
    await this.letGo();
    if (this.server === undefined) await this.listen(this.port);
  }

  async stop(): Promise<void> {
    await this.letGo();
    await this.close();
  }

  private async letGo(): Promise<void> {
    await this.held?.release();
    this.held = undefined;
  }

  /** @returns whether it listened */
  private async close(): Promise<boolean> {
    const { server } = this;
    if (server === undefined) return false;
    this.server = undefined;
    const closed = new Promise((settle) => server.close(settle));
    for (const socket of this.sockets) socket.resetAndDestroy();
    await closed;
    return true;
  }

  private take(request: IncomingMessage, response: ServerResponse): void {
    const pieces: Buffer[] = [];
    const received: Received = {
      method: request.method!,
      path: request.url!,
      headers: request.headers,
      get body() {
        if (pieces.length > 1) pieces.splice(0, pieces.length, Buffer.concat(pieces));
        return pieces[0] ?? Buffer.alloc(0);
      },
      trailers: {},
      complete: false,
      aborted: false,
    };
    this.received.push(received);
    const bodyRead = new Promise<void>((settle) => {
      request.on("data", (piece: Buffer) => pieces.push(piece));
      request.on("end", () => {
        received.trailers = request.trailers;
        received.complete = true;
        settle();
      });
    });
    request.on("error", () => {});
    response.on("close", () => (received.aborted = !response.writableFinished));
    response.setHeader("x-served-by", this.name);
    void this.behaviour({ received, response, socket: request.socket, bodyRead });
  }
}

// How simulated replicas speak with each other about KV blocks: small JSON requests on a port of their own. Real
// ones use ZeroMQ and RDMA there; no proxy sees either.
import { createServer, request as httpRequest, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { JsonObject } from "../body.ts";
import { readBody } from "../exchange.ts";

/** What a peer answers. */
export interface PeerAnswer {
  readonly status: number;
  readonly body: JsonObject;
}

/** Answers a peer's request; `signal` is aborted when the peer goes away. */
export type PeerHandler = (
  path: string,
  body: JsonObject,
  signal: AbortSignal,
) => Promise<PeerAnswer> | PeerAnswer;

/** Nobody answers at a peer's address. */
export class PeerUnreachableError extends Error {
  readonly code = "peer_unreachable";
  constructor(address: string, cause: string) {
    super(`no answer from ${address}: ${cause}`);
  }
}

/** The port on which one replica answers its peers. */
export class SideChannel {
  private readonly handler: PeerHandler;
  private server: Server | undefined;
  private host = "";
  private portInUse = 0;

  constructor(handler: PeerHandler) {
    this.handler = handler;
  }

  get port(): number {
    return this.portInUse;
  }

  /** "host:port" while listening, and the last one used after. */
  get address(): string {
    return `${this.host}:${this.portInUse}`;
  }

  /** Listens; after the first time on the port it had. @throws the listen error */
  async start(host: string, port: number): Promise<void> {
    const server = createServer((request, response) => {
      const gone = new AbortController();
      response.on("close", () => gone.abort());
      readBody(request)
        .then((text) => this.handler(request.url ?? "/", JSON.parse(text) as JsonObject, gone.signal))
        .catch((error: unknown): PeerAnswer => ({ status: 500, body: { error: String(error) } }))
        .then(({ status, body }) => {
          if (!response.destroyed) response.writeHead(status).end(JSON.stringify(body));
        });
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(this.portInUse || port, host, resolve);
    });
    this.host = host;
    this.portInUse = (server.address() as AddressInfo).port;
    this.server = server;
  }

  /** Closes the port and cuts off whoever is connected. */
  async stop(): Promise<void> {
    const server = this.server;
    this.server = undefined;
    if (server === undefined) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }
}

/**
 * Asks a peer. Each request has its own connection, so that a peer that died is noticed at once.
 * @param address "host:port" of its side channel. @throws PeerUnreachableError, also when `signal` is aborted
 */
export function askPeer(
  address: string,
  path: string,
  body: object,
  signal?: AbortSignal,
): Promise<PeerAnswer> {
  const colon = address.lastIndexOf(":");
  const target = { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(new PeerUnreachableError(address, error.message));
    const options = {
      ...target,
      path,
      method: "POST",
      agent: false,
      ...(signal === undefined ? {} : { signal }),
    };
    const request = httpRequest(options, (response) => {
      readBody(response)
        .then((text) => resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) as JsonObject }))
        .catch(fail);
    });
    request.on("error", fail);
    request.end(JSON.stringify(body));
  });
}

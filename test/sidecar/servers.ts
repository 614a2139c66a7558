// Fake model servers and a fake control listener for the sidecar's tests; every one is closed after its test.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { decodeSnapshot, type DecodedSnapshot } from "../../sidecar/snapshot-decoder.ts";
import type { SnapshotEndpoint } from "../../sidecar/snapshot-encoder.ts";
import { KvGatewayModel } from "./kv-batch-model.ts";
import { type DecodedPolicy, decodePolicy } from "./policy-decoder.ts";
import { type DecodedPrompts, decodePrompts } from "./prompts-decoder.ts";

/** How long something may take on a busy machine: nearly as long as a test. */
const PATIENCE_MS = 90_000;

/** Waits until `check` gives something other than undefined or false; fails with `what` after a while. */
export async function eventually<T>(
  what: string,
  check: () => T | undefined | false | Promise<T | undefined | false>,
): Promise<T> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const result = await check();
    if (result !== undefined && result !== false) return result;
    if (performance.now() > deadline) throw new Error(`it never happened that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A folder that is removed after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "epp-sidecar-test-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Listens at a port again that was left; it may be a connection's own for a moment. */
async function listenAgain(server: NetServer, port: number): Promise<void> {
  await eventually(`port ${port} was free`, async () => {
    server.listen(port, "127.0.0.1");
    try {
      await once(server, "listening");
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
      return false;
    }
  });
}

/** A server of raw bytes: `serve` gets each connection and each piece that it sends. */
export class RawServer {
  port = 0;
  connections = 0;
  private readonly sockets = new Set<Socket>();
  private readonly server: NetServer;

  /** Connections that stand. */
  get open(): number {
    return this.sockets.size;
  }

  constructor(serve: (socket: Socket, request: string, connection: number) => void) {
    this.server = createServer((socket) => {
      this.connections += 1;
      const connection = this.connections;
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
      socket.on("error", () => socket.destroy());
      socket.on("data", (bytes) => serve(socket, bytes.toString("latin1"), connection));
    });
  }

  async listen(): Promise<this> {
    this.server.listen(0, "127.0.0.1");
    await once(this.server, "listening");
    this.port = (this.server.address() as AddressInfo).port;
    onTestFinished(() => this.close());
    return this;
  }

  /** Breaks all connections. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  close(): void {
    this.server.close();
    this.cut();
  }
}

/** A model server: /metrics and /v1/models as set, on a port that stays its own over stops and starts. */
export class FakeModelServer {
  port = 0;
  page: Buffer;
  models: unknown = { object: "list", data: [{ id: "base" }] };
  status = 200;
  metricsRequests = 0;
  modelsRequests = 0;
  lastAuthorization: string | undefined;
  /** Replaces the whole answer to /metrics. */
  answer: ((request: IncomingMessage, response: ServerResponse) => void) | null = null;
  private server: Server | null = null;
  private readonly sockets = new Set<Socket>();

  /** Connections that stand: without one nothing is on its way here. */
  get open(): number {
    return this.sockets.size;
  }

  /** @param tls PEM key and certificate: speak TLS */
  constructor(
    page: Buffer,
    private readonly tls: { key: string; cert: string } | null = null,
  ) {
    this.page = page;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  async start(): Promise<this> {
    const serve = (request: IncomingMessage, response: ServerResponse): void => this.serve(request, response);
    const server = this.tls === null ? createHttpServer(serve) : createHttpsServer(this.tls, serve);
    server.on("connection", (socket: Socket) => {
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
    await listenAgain(server, this.port);
    this.port = (server.address() as AddressInfo).port;
    this.server = server;
    onTestFinished(() => this.stop());
    return this;
  }

  async stop(): Promise<void> {
    const { server } = this;
    if (server === null) return;
    this.server = null;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    this.lastAuthorization = request.headers.authorization;
    if (request.url === "/v1/models") {
      this.modelsRequests += 1;
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(this.models));
      return;
    }
    this.metricsRequests += 1;
    if (this.answer !== null) {
      this.answer(request, response);
      return;
    }
    response.statusCode = this.status;
    response.end(this.page);
  }
}

/** A snapshot as the control listener got it. */
export interface ReceivedSnapshot extends DecodedSnapshot {
  readonly pool: string;
  readonly authorization: string | undefined;
}

/**
 * The gateway's control listener: decodes and keeps what is pushed. Can be stopped and started like an Envoy.
 */
export class FakeControl {
  readonly received: ReceivedSnapshot[] = [];
  /** Policies in the order of their arrival, refused ones too; `afterSnapshots` had come before it. */
  readonly policies: (DecodedPolicy & { readonly pool: string; readonly afterSnapshots: number })[] = [];
  /** Prompt programs in the order of their arrival; those that cannot be decoded are answered 400. */
  readonly prompts: (DecodedPrompts & { readonly pool: string; readonly afterSnapshots: number })[] = [];
  /** What it answers to prompt programs; the default accepts. */
  promptsAnswer: { status: number; body: string } = { status: 204, body: "" };
  /** Ids of the prompt programs that it holds, by pool. */
  readonly heldPrompts = new Map<string, number>();
  /** What it answers to a policy; the default accepts. */
  policyAnswer: { status: number; body: string } = { status: 204, body: "" };
  /** Ids of the policies that it holds, by pool: what a restart loses. */
  readonly heldPolicies = new Map<string, number>();
  /** Whether answers say which policy is held, as the filter's do. */
  saysHeld = true;
  /** What it answers to a push; the default accepts. */
  pushAnswer: { status: number; body: string } = { status: 204, body: "" };
  /** Answered to batches of the exact index instead of taking them. */
  kvAnswer: { status: number; body: string } | null = null;
  /** Batches whose answers get lost: taken, and the connection is closed. */
  kvAnswersLost = 0;
  /** What was wrong with batches; each was answered 400. */
  readonly kvFaults: string[] = [];
  /** Pools that sidecars let go of, and their ids. */
  readonly released: { readonly pool: string; readonly sidecar: string | undefined }[] = [];
  statusAnswer: unknown = { pools: [], counters: {} };
  connections = 0;
  private port = 0;
  private server: Server | null = null;
  private readonly sockets = new Set<Socket>();
  private readonly kvModels = new Map<string, KvGatewayModel>();

  /** @param socketPath "" = a port on loopback */
  constructor(readonly socketPath: string) {}

  /** Where it is, as the sidecar is told. */
  get settings(): object {
    return this.socketPath === "" ? { url: `http://127.0.0.1:${this.port}` } : { socket: this.socketPath };
  }

  async start(): Promise<this> {
    const server = createHttpServer((request, response) => this.serve(request, response));
    server.on("connection", (socket: Socket) => {
      this.connections += 1;
      this.sockets.add(socket);
      socket.on("close", () => this.sockets.delete(socket));
    });
    if (this.socketPath === "") {
      await listenAgain(server, this.port);
    } else {
      rmSync(this.socketPath, { force: true });
      server.listen(this.socketPath);
      await once(server, "listening");
    }
    if (this.socketPath === "") this.port = (server.address() as AddressInfo).port;
    this.server = server;
    onTestFinished(() => this.stop());
    return this;
  }

  async stop(): Promise<void> {
    const { server } = this;
    if (server === null) return;
    this.server = null;
    const closed = once(server, "close");
    server.close();
    server.closeAllConnections();
    await closed;
  }

  /** Connections that stand: without one nothing is on its way here. */
  get open(): number {
    return this.sockets.size;
  }

  /** The last snapshot of a pool. */
  last(pool = "default"): ReceivedSnapshot | undefined {
    return this.received.findLast((snapshot) => snapshot.pool === pool);
  }

  /** The last row of an address. */
  row(address: string, pool = "default"): SnapshotEndpoint | undefined {
    return this.last(pool)?.endpoints.find((endpoint) => endpoint.address === address);
  }

  /** The exact index of a pool, as batches made it. */
  kv(pool = "default"): KvGatewayModel {
    let model = this.kvModels.get(pool);
    if (model === undefined) {
      model = new KvGatewayModel((slot, generation) =>
        this.received.some(
          ({ pool: name, endpoints }) =>
            name === pool && endpoints.some((each) => each.slot === slot && each.generation === generation),
        ),
      );
      this.kvModels.set(pool, model);
    }
    return model;
  }

  private takeKv(pool: string, bytes: Buffer, response: ServerResponse): void {
    try {
      const { status, body } = this.kvAnswer ?? this.kv(pool).take(bytes);
      if (this.kvAnswersLost === 0) {
        response.writeHead(status).end(body);
        return;
      }
      this.kvAnswersLost -= 1;
      response.destroy();
    } catch (error) {
      this.kvFaults.push((error as Error).message);
      response.writeHead(400).end((error as Error).message);
    }
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      if (request.url === "/status") {
        response.end(JSON.stringify(this.statusAnswer));
        return;
      }
      const [, leased] = /^\/v1\/pools\/(.+)\/lease$/.exec(request.url ?? "") ?? [];
      if (request.method === "DELETE" && leased !== undefined) {
        const sidecar = request.headers["x-epp-sidecar"] as string | undefined;
        this.released.push({ pool: leased, sidecar });
        response.writeHead(204).end();
        return;
      }
      const [, pool, kind] =
        /^\/v1\/pools\/(.+)\/(snapshot|policy|prompts|kv)$/.exec(request.url ?? "") ?? [];
      if (request.method !== "POST" || pool === undefined) {
        response.writeHead(404).end();
        return;
      }
      if (kind === "kv") {
        this.takeKv(pool, Buffer.concat(chunks), response);
        return;
      }
      if (kind === "policy") {
        const policy = decodePolicy(Buffer.concat(chunks));
        this.policies.push({ ...policy, pool, afterSnapshots: this.received.length });
        if (this.policyAnswer.status === 204) this.heldPolicies.set(pool, policy.id);
      }
      if (kind === "prompts") this.takePrompts(pool, Buffer.concat(chunks));
      if (this.saysHeld) {
        response.setHeader("x-epp-policy-id", this.heldPolicies.get(pool) ?? 0);
        response.setHeader("x-epp-prompts-id", this.heldPrompts.get(pool) ?? 0);
      }
      if (kind === "prompts") {
        response.writeHead(this.promptsAnswer.status).end(this.promptsAnswer.body);
        return;
      }
      if (kind === "policy") {
        response.writeHead(this.policyAnswer.status).end(this.policyAnswer.body);
        return;
      }
      const snapshot = decodeSnapshot(Buffer.concat(chunks));
      if (this.pushAnswer.status === 204) {
        this.received.push({ ...snapshot, pool, authorization: request.headers.authorization });
      }
      response.writeHead(this.pushAnswer.status).end(this.pushAnswer.body);
    });
  }

  private takePrompts(pool: string, bytes: Buffer): void {
    try {
      const prompts = decodePrompts(bytes);
      this.prompts.push({ ...prompts, pool, afterSnapshots: this.received.length });
      if (this.promptsAnswer.status === 204) this.heldPrompts.set(pool, prompts.id);
    } catch (error) {
      this.promptsAnswer = { status: 400, body: (error as Error).message };
    }
  }
}

// The sidecar's own HTTP server: /healthz, /readyz, /metrics.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Registry } from "prom-client";
import { messageOf } from "../errors.ts";
import type { Readiness } from "./readiness.ts";

/** A client that sends no whole request within this is cut off. */
const REQUEST_TIMEOUT_MS = 5_000;
/** Connections at a time; further ones are closed at once. */
const CONNECTIONS_MAX = 64;

/** Serves until closed. */
export class StatusServer {
  private readonly server: Server;

  constructor(
    private readonly registry: Registry,
    private readonly readiness: () => Readiness,
  ) {
    this.server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS });
    this.server.maxConnections = CONNECTIONS_MAX;
    this.server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      this.answer(request, response).catch((error: unknown) =>
        send(response, 500, "text/plain", messageOf(error)),
      );
    });
  }

  /** @returns the port, chosen by the system if `port` is 0. Rejects when it cannot listen. */
  async listen(host: string, port: number): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.server.once("error", reject);
      this.server.listen(port, host, () => {
        this.server.off("error", reject);
        resolve();
      });
    });
    return (this.server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    request.resume();
    const path = (request.url ?? "").split("?", 1)[0];
    if (request.method !== "GET" && request.method !== "HEAD") {
      send(response, 405, "text/plain", "expected GET\n");
    } else if (path === "/healthz") {
      send(response, 200, "text/plain", "ok\n");
    } else if (path === "/readyz") {
      const readiness = this.readiness();
      send(response, readiness.ready ? 200 : 503, "application/json", `${JSON.stringify(readiness)}\n`);
    } else if (path === "/metrics") {
      send(response, 200, this.registry.contentType, await this.registry.metrics());
    } else {
      send(response, 404, "text/plain", "expected /healthz, /readyz or /metrics\n");
    }
  }
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  if (response.headersSent) return;
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
  response.end(body);
}

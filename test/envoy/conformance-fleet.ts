// Pods for the conformance cases: each has a loopback address of its own, so that the address alone names the pod.
import { createServer as createHttp1 } from "node:http";
import { createServer as createHttp2, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";

/** What a port of a pod speaks: HTTP/1.1, or HTTP/2 without TLS and without upgrade. */
export type PortProtocol = "http" | "h2c";

export interface Pod {
  readonly name: string;
  readonly ip: string;
  /** "ip:port" by the port's number in the case: 3000, 3002 … */
  readonly endpoints: ReadonlyMap<string, string>;
  /** Lets the answers go on that wait because of HOLD. */
  release(): void;
  stop(): Promise<void>;
}

/** A request with this header is answered at once, but its answer ends only at `release`. */
export const HOLD = "x-hold";
export const SERVED_BY = "x-served-by";
export const SERVED_PORT = "x-served-port";

/**
 * Starts a pod whose ports are free ones of its address.
 * @param ports the port numbers that the case speaks of, and what each speaks
 */
export async function startPod(
  name: string,
  ip: string,
  ports: Readonly<Record<string, PortProtocol>>,
): Promise<Pod> {
  const waiting: (() => void)[] = [];
  const servers: Server[] = [];
  const sockets = new Set<Socket>();
  const endpoints = new Map<string, string>();
  for (const [number, protocol] of Object.entries(ports)) {
    const handle = (request: Http2ServerRequest, response: Http2ServerResponse): void => {
      request.resume();
      request.on("end", () => {
        response.writeHead(200, { [SERVED_BY]: name, [SERVED_PORT]: number });
        if (request.headers[HOLD] === undefined) return void response.end();
        response.write(`${name}\n`);
        waiting.push(() => response.end());
      });
    };
    const server = protocol === "h2c" ? createHttp2(handle) : createHttp1(handle as never);
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
    });
    await new Promise<void>((settle, fail) => server.once("error", fail).listen(0, ip, settle));
    endpoints.set(number, `${ip}:${(server.address() as AddressInfo).port}`);
    servers.push(server);
  }
  const stop = async (): Promise<void> => {
    const closed = servers.map((server) => new Promise((settle) => server.close(settle)));
    for (const socket of sockets) socket.destroy();
    await Promise.all(closed);
  };
  const release = (): void => {
    for (const end of waiting.splice(0)) end();
  };
  return { name, ip, endpoints, release, stop };
}

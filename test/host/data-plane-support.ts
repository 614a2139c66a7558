// What the data plane's tests share: replicas, a data plane with the probe, requests, and ending it all.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { createConnection } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { startDataPlane, type DataPlane, type DataPlaneOptions } from "../../host-sim/data-plane/index.ts";
import type { LogLine } from "../../host-sim/host/index.ts";
import { echo, startUpstream, type Upstream } from "../envoy/upstream.ts";
import { probeWasm } from "./probe.ts";

export type Replica = Upstream & { stop(): Promise<void> };

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
  readonly trailers: IncomingMessage["trailers"];
}

/** What the running test has to end, in reverse order of starting. */
const stops: (() => Promise<void>)[] = [];

/** Ends something after the test, however it ends. */
export function atEnd(stop: () => Promise<void>): void {
  stops.push(stop);
}

/** Ends everything the test started; for afterEach. */
export async function endAll(): Promise<void> {
  for (const stop of stops.splice(0).reverse()) await stop();
}

export async function replica(behaviour = echo, name = "replica"): Promise<Replica> {
  const upstream = await startUpstream(name, behaviour);
  stops.push(() => upstream.stop());
  return upstream;
}

/** Listens with the shortest backlog, says where, and is then stopped by its parent. */
const DEAF_PROGRAM = `
  const server = require("node:net").createServer();
  server.listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => console.log(server.address().port));
`;
/** Connections that fill the backlog of a stopped process. */
const BACKLOG_FILL = 4;

/** An address where a connection is neither accepted nor refused: its process is stopped, its backlog full. */
export async function deafAddress(): Promise<string> {
  const child = spawn(process.execPath, ["-e", DEAF_PROGRAM], { stdio: ["ignore", "pipe", "inherit"] });
  stops.push(async () => {
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  });
  const [text] = (await once(child.stdout, "data")) as [Buffer];
  const port = Number(text.toString());
  child.kill("SIGSTOP");
  for (let count = 0; count < BACKLOG_FILL; count++) {
    const socket = createConnection(port, "127.0.0.1");
    socket.on("error", () => {});
    stops.push(async () => void socket.destroy());
  }
  await sleep(50);
  return `127.0.0.1:${port}`;
}

/** A data plane with the probe as filter, and the probe's lines. */
export async function plane(options: Partial<DataPlaneOptions>): Promise<DataPlane & { lines: LogLine[] }> {
  const lines: LogLine[] = [];
  const started = await startDataPlane({
    module: await probeWasm(),
    endpoints: [],
    onLog: (line) => lines.push(line),
    ...options,
  });
  stops.push(() => started.stop());
  return Object.assign(started, { lines });
}

export interface Exchange {
  readonly request: ClientRequest;
  readonly response: Promise<IncomingMessage>;
  /** Reads the answer to its end; not together with listeners on `response`. */
  answer(): Promise<Answer>;
}

export function open(
  port: number,
  options: { method?: string; path?: string; headers?: Record<string, string> } = {},
): Exchange {
  const { method = "POST", path = "/x", headers = {} } = options;
  const request = httpRequest({ host: "127.0.0.1", port, method, path, headers, agent: false });
  request.setNoDelay(true);
  const response = new Promise<IncomingMessage>((settle, fail) => {
    request.once("response", settle);
    request.once("error", fail);
  });
  // A test that aborts does not look at the answer.
  response.catch(() => {});
  const answer = async (): Promise<Answer> => {
    const message = await response;
    let text = "";
    for await (const piece of message.setEncoding("latin1")) text += piece;
    return { status: message.statusCode ?? 0, headers: message.headers, text, trailers: message.trailers };
  };
  return { request, response, answer };
}

export async function send(
  port: number,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const { request, answer } = open(port, { headers });
  request.end(body);
  return answer();
}

export function linesOf(proxy: { lines: LogLine[] }, tag: string): string[] {
  return proxy.lines
    .filter(({ text }) => text.startsWith(`${tag} `))
    .map(({ text }) => text.slice(tag.length + 1));
}

// The data plane carries requests and answers whole, in both directions at once, within its limits.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { createConnection, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import {
  startDataPlane,
  EndpointError,
  type DataPlane,
  type DataPlaneOptions,
} from "../../host-sim/data-plane/index.ts";
import type { LogLine } from "../../host-sim/host/index.ts";
import {
  answer,
  echo,
  held,
  refusingAddress,
  silent,
  startUpstream,
  type Upstream,
} from "../envoy/upstream.ts";
import { until } from "../envoy/harness.ts";
import { probeWasm } from "./probe.ts";

type Replica = Upstream & { stop(): Promise<void> };

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
  readonly trailers: IncomingMessage["trailers"];
}

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function replica(behaviour = echo, name = "replica"): Promise<Replica> {
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
async function deafAddress(): Promise<string> {
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
async function plane(options: Partial<DataPlaneOptions>): Promise<DataPlane & { lines: LogLine[] }> {
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

interface Exchange {
  readonly request: ClientRequest;
  readonly response: Promise<IncomingMessage>;
  /** Reads the answer to its end; not together with listeners on `response`. */
  answer(): Promise<Answer>;
}

function open(
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

async function send(
  port: number,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const { request, answer } = open(port, { headers });
  request.end(body);
  return answer();
}

function linesOf(proxy: { lines: LogLine[] }, tag: string): string[] {
  return proxy.lines
    .filter(({ text }) => text.startsWith(`${tag} `))
    .map(({ text }) => text.slice(tag.length + 1));
}

describe("the data plane", () => {
  it("passes a request and its answer through the filter", async () => {
    const upstream = await replica();
    const proxy = await plane({ endpoints: [upstream.address] });
    const { status, headers, text } = await send(proxy.port, "hello", {
      "x-tag": "t",
      "x-probe": "qh=ret,1|qb$=rep,0,x-t-added,yes;ret,0|qb#1=ret,1|sh=rep,2,x-t-answer,1",
      "x-envoy-retry-on": "5xx",
    });
    expect(status).toBe(200);
    expect(headers["x-t-answer"]).toBe("1");
    const seen = JSON.parse(text) as { text: string; headers: Record<string, string> };
    expect(seen.text).toBe("hello");
    expect(seen.headers["x-t-added"]).toBe("yes");
    expect(seen.headers["x-forwarded-for"]).toContain("127.0.0.1");
    expect(seen.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(Object.keys(seen.headers).filter((name) => name.startsWith("x-envoy-"))).toEqual([]);
  });

  it("streams an answer piece by piece while the replica still generates", async () => {
    const upstream = await replica(async ({ response, bodyRead }) => {
      await bodyRead;
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: one\n\n");
      await released;
      response.end("data: two\n\n");
    });
    let release!: () => void;
    const released = new Promise<void>((settle) => (release = settle));
    const proxy = await plane({ endpoints: [upstream.address] });
    const { request, response } = open(proxy.port);
    request.end("{}");
    const message = await response;
    const pieces: string[] = [];
    message.setEncoding("utf8").on("data", (piece: string) => {
      pieces.push(piece);
      // Nothing but the first piece lets the replica go on.
      release();
    });
    await new Promise((settle) => message.once("end", settle));
    expect(pieces).toEqual(["data: one\n\n", "data: two\n\n"]);
  });

  it("routes a long upload on its first bytes when the filter lets it go early", async () => {
    const upstream = await replica();
    const proxy = await plane({ endpoints: [upstream.address] });
    const { request, answer } = open(proxy.port, { headers: { "x-tag": "t", "x-probe": "qh=ret,1" } });
    request.write("first");
    await until("the replica sees the first bytes", () => upstream.received[0]?.body.toString() === "first");
    request.end(" last");
    expect(JSON.parse((await answer()).text)).toMatchObject({ text: "first last" });
  });

  it("carries 8 MB both ways unchanged", async () => {
    const body = Buffer.alloc(8 * 1024 * 1024);
    for (let index = 0; index < body.length; index += 4)
      body.writeUInt32LE((index * 2654435761) >>> 0, index);
    const upstream = await replica(async ({ received, response, bodyRead }) => {
      await bodyRead;
      response.end(received.body);
    });
    const proxy = await plane({ endpoints: [upstream.address] });
    const { text } = await send(proxy.port, body);
    const digest = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
    expect(digest(Buffer.from(text, "latin1"))).toBe(digest(body));
  });

  it("stops reading from a client whose replica does not read", async () => {
    let arrived = 0;
    let start!: () => void;
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      start = () => socket.resume();
      socket.on("data", (bytes) => {
        arrived += bytes.length;
        if (bytes.subarray(-5).toString() === "0\r\n\r\n")
          socket.end("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
      });
      socket.on("error", () => {});
    });
    await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
    stops.push(async () => void server.close());
    const { port } = server.address() as AddressInfo;
    const proxy = await plane({ endpoints: [`127.0.0.1:${port}`], bufferLimitBytes: 1024 * 1024 });
    const { request, answer } = open(proxy.port);
    const piece = Buffer.alloc(256 * 1024);
    const total = 256 * piece.length;
    for (let sent = 0; sent < total; sent += piece.length) request.write(piece);
    request.end();
    // What the kernel's buffers and the data plane take in comes to rest far below the whole.
    let last = -1;
    await until("the upload rests", async () => {
      const now = request.socket?.bytesWritten ?? 0;
      const rests = now > 0 && now === last && start !== undefined;
      last = now;
      await sleep(200);
      return rests;
    });
    expect(arrived).toBe(0);
    expect(request.writableLength).toBeGreaterThan(total / 4);
    start();
    expect((await answer()).text).toBe("done");
    expect(arrived).toBeGreaterThan(total);
  });

  it("passes trailers in both directions", async () => {
    const upstream = await replica(async ({ received, response, bodyRead }) => {
      await bodyRead;
      response.writeHead(200, { trailer: "x-t-after" });
      response.write(received.body);
      response.addTrailers({ "x-t-after": String(received.trailers["x-t-sum"]) });
      response.end();
    });
    const proxy = await plane({ endpoints: [upstream.address] });
    const { request, answer } = open(proxy.port, {
      headers: { "transfer-encoding": "chunked", trailer: "x-t-sum", "x-tag": "t", "x-probe": "" },
    });
    request.write("body");
    request.addTrailers({ "x-t-sum": "9" });
    request.end();
    expect(await answer()).toMatchObject({ status: 200, text: "body", trailers: { "x-t-after": "9" } });
    expect(linesOf(proxy, "t")).toContain("on_request_trailers 1");
    expect(linesOf(proxy, "t")).toContain("on_response_trailers 1");
  });

  it("answers methods without bodies, and HEAD without one", async () => {
    const upstream = await replica(answer(200, "content", { "content-length": "7" }));
    const proxy = await plane({ endpoints: [upstream.address] });
    for (const [method, text] of [
      ["GET", "content"],
      ["DELETE", "content"],
      ["POST", "content"],
      ["HEAD", ""],
    ] as const) {
      const { request, answer } = open(proxy.port, { method });
      request.end();
      expect(await answer(), method).toMatchObject({ status: 200, text });
    }
    expect(upstream.received.map(({ method }) => method)).toEqual(["GET", "DELETE", "POST", "HEAD"]);
  });

  it("refuses a body that the filter holds beyond the limit with 413 and stays up", async () => {
    const upstream = await replica();
    const proxy = await plane({ endpoints: [upstream.address], bufferLimitBytes: 4096 });
    const headers = { "x-tag": "t", "x-probe": "qh=ret,1|qb=ret,1" };
    expect(await send(proxy.port, "x".repeat(8192), headers)).toMatchObject({
      status: 413,
      text: "Payload Too Large",
    });
    expect(upstream.received).toEqual([]);
    expect((await send(proxy.port, "x".repeat(8192))).status).toBe(200);
  });

  it("tells the filter when a client goes away, and ends the replica's work", async () => {
    const holding = held();
    const upstream = await replica(holding.behaviour);
    const proxy = await plane({ endpoints: [upstream.address] });
    const { request } = open(proxy.port, { headers: { "x-tag": "t", "x-probe": "log=prop,response/flags" } });
    request.end("body");
    await until("the replica has the request", () => upstream.received[0]?.complete === true);
    request.destroy();
    await until("the filter's last callback", () => linesOf(proxy, "t").includes("on_delete"));
    expect(linesOf(proxy, "t").slice(-4)).toEqual([
      "on_log",
      '  prop,response/flags -> 0 "\\x00@\\x00\\x00\\x00\\x00\\x00\\x00"',
      "on_done",
      "on_delete",
    ]);
    await until("the replica's connection ends", () => upstream.received[0]?.aborted === true);
    expect(proxy.active).toBe(0);
    holding.release();
  });

  it("reuses connections to a replica, and survives their idle end", async () => {
    const upstream = await replica();
    const ports = new Set<number | undefined>();
    upstream.behave(async (context) => {
      ports.add(context.socket.remotePort);
      await echo(context);
    });
    const proxy = await plane({ endpoints: [upstream.address] });
    for (let count = 0; count < 5; count++) expect((await send(proxy.port, "x")).status).toBe(200);
    expect(ports.size).toBe(1);
    await upstream.kill();
    await upstream.revive();
    expect((await send(proxy.port, "x")).status).toBe(200);
    expect(ports.size).toBe(2);
  });

  it("gives up a connection that is not established in time, and takes the next host", async () => {
    const good = await replica();
    const deaf = await deafAddress();
    const proxy = await plane({ endpoints: [deaf, good.address], connectTimeoutMs: 60, graceMs: 0 });
    const list = `${deaf}%2C${good.address}`;
    const headers = {
      "x-tag": "t",
      "x-probe": `qh=rep,0,x-gateway-destination-endpoint,${list}|log=prop,upstream/request_attempt_count`,
    };
    expect((await send(proxy.port, "x", headers)).status).toBe(200);
    expect(linesOf(proxy, "t")).toContain(
      '  prop,upstream/request_attempt_count -> 0 "\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00"',
    );
  });

  it("ends a request that outlives the timeout its filter set with 504", async () => {
    const upstream = await replica(silent);
    const proxy = await plane({ endpoints: [upstream.address], graceMs: 0 });
    const headers = { "x-tag": "t", "x-probe": "qh=rep,0,x-envoy-upstream-rq-timeout-ms,50" };
    expect(await send(proxy.port, "x", headers)).toMatchObject({
      status: 504,
      text: "upstream request timeout",
    });
    expect(upstream.received[0]?.headers["x-envoy-upstream-rq-timeout-ms"]).toBeUndefined();
  });

  it("answers 503 when no replica is left, and takes new ones", async () => {
    const upstream = await replica();
    const proxy = await plane({ endpoints: [] });
    expect(await send(proxy.port, "x")).toMatchObject({ status: 503, text: "no healthy upstream" });
    proxy.setEndpoints([upstream.address]);
    expect((await send(proxy.port, "x")).status).toBe(200);
    expect(() => proxy.setEndpoints(["nonsense"])).toThrow(EndpointError);
    expect((await send(proxy.port, "x")).status).toBe(200);
  });

  it("calls the replica that http_call names", async () => {
    const first = await replica(answer(200, "first"), "first");
    const second = await replica(answer(200, "second", { "x-t-s": "2" }), "second");
    const dead = await refusingAddress();
    const proxy = await plane({ endpoints: [first.address, second.address, dead.address] });
    const call = (address: string): string =>
      `qh=call,pool,/pre,ask,1000,x-gateway-destination-endpoint=${address};ret,1|cr=get,6,:status;buf,4,0,99;eff,self;cont,0`;
    await send(proxy.port, "", { "x-tag": "a", "x-probe": call(second.address) });
    expect(linesOf(proxy, "a")).toContain('  buf,4,0,99 -> 0 "second"');
    expect(second.received[0]?.body.toString()).toBe("ask");
    await send(proxy.port, "", { "x-tag": "b", "x-probe": call(dead.address) });
    expect(linesOf(proxy, "b")).toContain('  get,6,:status -> 0 "503"');
    dead.release();
  });

  it("serves the ingest role on a unix socket that others cannot open", async () => {
    const upstream = await replica();
    const control = join(tmpdir(), `data-plane-${process.pid}.sock`);
    const proxy = await plane({ endpoints: [upstream.address], control });
    expect((await stat(control)).mode & 0o777).toBe(0o600);
    const ask = (script: string): Promise<Answer> =>
      new Promise((settle, fail) => {
        const headers = { "x-tag": "c", "x-probe": script };
        const request = httpRequest(
          { socketPath: control, method: "POST", path: "/push", headers },
          (message) => {
            let text = "";
            message.setEncoding("utf8").on("data", (piece: string) => (text += piece));
            message.on("end", () =>
              settle({ status: message.statusCode ?? 0, headers: message.headers, text, trailers: {} }),
            );
          },
        );
        request.on("error", fail);
        request.end("pushed");
      });
    expect(await ask("qh=ret,1|qb=ret,1|qb$=sdset,pool,fresh;reply,204,,ok")).toMatchObject({ status: 204 });
    // Both roles share one VM: what ingest stores, the picker reads.
    await send(proxy.port, "", { "x-tag": "p", "x-probe": "qh=sdget,pool;prop,plugin_root_id" });
    expect(linesOf(proxy, "p")).toContain('  sdget,pool -> 0 "fresh"');
    expect(linesOf(proxy, "p")).toContain('  prop,plugin_root_id -> 0 "picker"');
    expect(await ask("")).toMatchObject({ status: 404 });
    await proxy.stop();
    await expect(stat(control)).rejects.toThrow("ENOENT");
  });

  it("spreads connections over workers that share what the filter shares", async () => {
    const upstream = await replica();
    const proxy = await plane({ endpoints: [upstream.address], workers: 3 });
    for (let count = 0; count < 6; count++)
      await send(proxy.port, "", { "x-tag": `w${count}`, "x-probe": "" });
    const threads = proxy.lines
      .filter(({ text }) => text.includes("on_request_headers"))
      .map(({ thread }) => thread);
    expect(threads).toEqual([0, 1, 2, 0, 1, 2]);
  });

  it("shows readiness and the filter's metrics where Envoy does", async () => {
    const upstream = await replica();
    const proxy = await plane({ endpoints: [upstream.address] });
    await send(proxy.port, "", { "x-tag": "m", "x-probe": "qh=mdef,0,probe_total;minc,probe_total,3" });
    const get = async (path: string): Promise<Answer> => {
      const { request, answer } = open(Number(new URL(proxy.adminUrl).port), { method: "GET", path });
      request.end();
      return answer();
    };
    expect(await get("/ready")).toMatchObject({ status: 200, text: "LIVE\n" });
    expect((await get("/stats/prometheus")).text).toBe("# TYPE probe_total counter\nprobe_total{} 3\n");
    expect((await get("/nothing")).status).toBe(404);
  });

  it("lets what is in flight finish when it stops, and accepts nothing new", async () => {
    const holding = held();
    const upstream = await replica(holding.behaviour);
    const proxy = await plane({ endpoints: [upstream.address], graceMs: 10_000 });
    const { request, answer } = open(proxy.port);
    request.end("last");
    await until("the replica has the request", () => upstream.received[0]?.complete === true);
    const stopped = proxy.stop();
    await expect(send(proxy.port, "late")).rejects.toThrow(/ECONNREFUSED|ECONNRESET|hang up/);
    holding.release();
    expect((await answer()).status).toBe(200);
    await stopped;
  });

  it.each(["round_robin", "least_request"] as const)("balances by %s without the filter", async (policy) => {
    const replicas = [await replica(echo, "a"), await replica(echo, "b"), await replica(echo, "c")];
    let seed = 7;
    const random = (): number => (seed = (seed * 16807) % 2147483647) / 2147483647;
    const started = await startDataPlane({
      policy,
      endpoints: replicas.map(({ address }) => address),
      random,
    });
    stops.push(() => started.stop());
    for (let count = 0; count < 30; count++) await send(started.port, "x");
    const shares = replicas.map(({ received }) => received.length);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBe(30);
    if (policy === "round_robin") expect(shares).toEqual([10, 10, 10]);
    else expect(Math.min(...shares)).toBeGreaterThan(2);
  });

  it("prefers the idle replica under least_request", async () => {
    const holding = held();
    const busy = await replica(holding.behaviour, "busy");
    const idle = await replica(echo, "idle");
    const started = await startDataPlane({
      policy: "least_request",
      endpoints: [busy.address, idle.address],
    });
    stops.push(() => started.stop());
    const waiting: Promise<Answer>[] = [];
    await until("the busy one holds a request", () => {
      if (busy.received.length === 0) waiting.push(send(started.port, "x"));
      return busy.received.length > 0;
    });
    busy.forget();
    idle.forget();
    for (let count = 0; count < 20; count++) waiting.push(send(started.port, "x"));
    await until("twenty are there", () => busy.received.length + idle.received.length >= 20);
    // Two random choices among two hosts miss the idle one only when both name the busy one.
    expect(idle.received.length).toBeGreaterThan(busy.received.length);
    holding.release();
    await Promise.all(waiting);
  });

  it("ends a client's connection that sends nonsense and stays up", async () => {
    const upstream = await replica();
    const proxy = await plane({ endpoints: [upstream.address] });
    const socket = createConnection(proxy.port, "127.0.0.1");
    socket.write("nonsense\r\n\r\n");
    await new Promise((settle) => socket.once("close", settle).resume());
    expect((await send(proxy.port, "x")).status).toBe(200);
  });
});

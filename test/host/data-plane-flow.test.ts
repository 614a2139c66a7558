// Bytes through the data plane: streaming both ways, back-pressure, limits, aborts and a graceful end.
import { createHash } from "node:crypto";
import { createServer, type AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { until } from "../envoy/harness.ts";
import { held } from "../envoy/upstream.ts";
import { atEnd, endAll, linesOf, open, plane, replica, send } from "./data-plane-support.ts";

afterEach(endAll);

describe("bytes through the data plane", () => {
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
    let end = "";
    let start!: () => void;
    const server = createServer({ pauseOnConnect: true }, (socket) => {
      start = () => socket.resume();
      socket.on("data", (bytes) => {
        arrived += bytes.length;
        // A read may end anywhere in it.
        end = (end + bytes.subarray(-5).toString("latin1")).slice(-5);
        if (end === "0\r\n\r\n") socket.end("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
      });
      socket.on("error", () => {});
    });
    await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
    atEnd(async () => void server.close());
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
});

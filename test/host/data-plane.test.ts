// The data plane's listeners, hosts and roles: who is asked, who answers, and what each may see.
import { stat } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { EndpointError, startDataPlane } from "../../host-sim/data-plane/index.ts";
import { until } from "../envoy/harness.ts";
import { answer, echo, held, refusingAddress, silent } from "../envoy/upstream.ts";
import {
  atEnd,
  deafAddress,
  endAll,
  linesOf,
  open,
  plane,
  replica,
  send,
  type Answer,
} from "./data-plane-support.ts";
import { seededRandom } from "./support.ts";

afterEach(endAll);

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
    const proxy = await plane({ endpoints: [deaf, good.address], connectTimeoutMs: 500, graceMs: 0 });
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

  it.each(["round_robin", "least_request"] as const)("balances by %s without the filter", async (policy) => {
    const replicas = [await replica(echo, "a"), await replica(echo, "b"), await replica(echo, "c")];
    let seed = 7;
    const random = (): number => (seed = (seed * 16807) % 2147483647) / 2147483647;
    const started = await startDataPlane({
      policy,
      endpoints: replicas.map(({ address }) => address),
      random,
    });
    atEnd(() => started.stop());
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
      random: seededRandom(7),
    });
    atEnd(() => started.stop());
    const waiting: Promise<Answer>[] = [];
    // One after the other: random choices then fall alike on every machine.
    const sendOne = async (): Promise<void> => {
      const [before, arrived] = [idle.received.length, busy.received.length + idle.received.length];
      const sent = send(started.port, "x");
      waiting.push(sent);
      await until("it is there", () => busy.received.length + idle.received.length > arrived);
      // The idle one is idle again when the next one comes.
      if (idle.received.length > before) await sent;
    };
    while (busy.received.length === 0) await sendOne();
    busy.forget();
    idle.forget();
    for (let count = 0; count < 20; count++) await sendOne();
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

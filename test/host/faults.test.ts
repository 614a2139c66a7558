// Orders to the fault injector: each does what it says, once, and nothing else.
import { describe, expect, it } from "vitest";
import type { HttpCall } from "../../host-sim/host/index.ts";
import { plugin, probeHost } from "./support.ts";

describe("failure injection", () => {
  it("traps at the n-th call of a callback and leaves other workers alone", async () => {
    const { host, open } = await probeHost({ workers: 2 });
    host.faults.trapAt("proxy_on_request_body", 2, 1);
    const first = open(host.worker(0), "root", "a", "").requestBody("1").requestBody("2").requestBody("3");
    expect(first.closed).toBe(false);
    const second = open(host.worker(1), "root", "b", "").requestBody("1");
    expect(second.closed).toBe(false);
    second.requestBody("2");
    expect(second.downstream?.status).toBe(503);
    expect(host.failures).toEqual([
      { thread: 1, callback: "proxy_on_request_body", reason: "injected trap in proxy_on_request_body" },
    ]);
    expect(host.worker(0).vmOf("root").failed).toBe(false);
    // The order is used up.
    expect(
      open(host.worker(0), "root", "c", "").requestBody("1").requestBody("2").requestBody("3").closed,
    ).toBe(false);
  });

  it("kills the VM for all its streams, and under reload the next stream gets a fresh one", async () => {
    const { host, clock, open, linesOf } = await probeHost({
      plugins: [plugin("root", { failurePolicy: "reload" })],
    });
    const worker = host.worker(0);
    clock.advance(1_000);
    const paused = open(worker, "root", "paused", "qh=ret,1|qb=ret,1").requestBody("x");
    host.faults.trapAt("proxy_on_request_headers");
    expect(open(worker, "root", "trapped", "").downstream?.status).toBe(503);
    expect(open(worker, "root", "next", "qh=time").closed).toBe(false);
    expect(linesOf("next")).toContain("time -> 0 now");
    paused.requestBody("y");
    expect(paused.downstream?.status).toBe(503);
    // Within the back-off a second trap is not repaired; at its end it is.
    host.faults.trapAt("proxy_on_request_headers");
    expect(open(worker, "root", "again", "").downstream?.status).toBe(503);
    clock.advance(999);
    expect(open(worker, "root", "early", "").downstream?.status).toBe(503);
    clock.advance(1);
    expect(open(worker, "root", "late", "qh=time").closed).toBe(false);
  });

  it("does not reload when configuring the fresh VM is refused", async () => {
    const { host, clock, open } = await probeHost({ plugins: [plugin("root", { failurePolicy: "reload" })] });
    clock.advance(1_000);
    host.faults.trapAt("proxy_on_request_headers");
    open(host.worker(0), "root", "a", "");
    host.faults.trapAt("proxy_on_configure");
    expect(open(host.worker(0), "root", "b", "").downstream?.status).toBe(503);
    clock.advance(1_000);
    expect(open(host.worker(0), "root", "c", "").closed).toBe(false);
  });

  it("makes shared-data writes lose their race", async () => {
    const { host, open, linesOf } = await probeHost();
    host.faults.failSharedDataSet("cell", 2);
    open(host.worker(0), "root", "s", "qh=sdset,other,x;sdset,cell,a;sdset,cell,b;sdset,cell,c;sdget,cell");
    expect(linesOf("s").slice(1, 6)).toEqual([
      "sdset,other,x -> 0",
      "sdset,cell,a -> 8",
      "sdset,cell,b -> 8",
      "sdset,cell,c -> 0",
      'sdget,cell -> 0 "c"',
    ]);
    host.faults.failSharedDataSet();
    open(host.worker(0), "root", "t", "qh=sdset,any,x;sdset,any,y");
    expect(linesOf("t").slice(1, 3)).toEqual(["sdset,any,x -> 8", "sdset,any,y -> 0"]);
  });

  it("loses or delays replies to http_call", async () => {
    const calls: HttpCall[] = [];
    const { host, clock, open, linesOf } = await probeHost({
      clusters: {
        up: (call) => {
          calls.push(call);
          call.respond(200, {}, "late");
        },
      },
    });
    const replies = (tag: string): string[] =>
      linesOf(tag).filter((line) => line.startsWith("on_http_call_response"));
    host.faults.nextReply({ kind: "drop" });
    host.faults.nextReply({ kind: "delay", ms: 50 });
    for (const tag of ["lost", "late", "prompt"])
      open(host.worker(0), "root", tag, "qh=call,up,/x,body,0;ret,1");
    clock.advance(0);
    expect([replies("lost").length, replies("late").length, replies("prompt").length]).toEqual([0, 0, 1]);
    clock.advance(50);
    expect([replies("lost").length, replies("late").length]).toEqual([0, 1]);
    expect(calls.map(({ body, worker }) => `${body.toString()} ${worker}`)).toEqual(["body 0", "body 0"]);
    // A lost reply still ends in a 504 where the call has a timeout.
    host.faults.nextReply({ kind: "drop" });
    open(host.worker(0), "root", "timed", "qh=call,up,/x,,80;ret,1|cr=get,6,:status");
    clock.advance(80);
    expect(linesOf("timed")).toContain('get,6,:status -> 0 "504"');
  });

  it("delivers a reset call as a reply without headers, and get_status says so", async () => {
    const { host, clock, open, linesOf } = await probeHost({ clusters: { up: (call) => call.reset() } });
    open(host.worker(0), "root", "s", "qh=call,up,/x,,0;ret,1|cr=status;get,6,:status;buf,4,0,9");
    clock.advance(0);
    expect(linesOf("s").slice(-4)).toEqual([
      "on_http_call_response none body=0 trailers=0 on root",
      'status -> 0 11 "reset"',
      "get,6,:status -> 2 untouched",
      "buf,4,0,9 -> 1 untouched",
    ]);
  });

  it("ignores every answer to a call but the first", async () => {
    const { host, clock, open, linesOf } = await probeHost({
      clusters: {
        up: (call) => {
          call.respond(200);
          call.respond(500);
          call.reset();
        },
      },
    });
    open(host.worker(0), "root", "s", "qh=call,up,/x,,10;ret,1|cr=get,6,:status");
    clock.advance(100);
    expect(linesOf("s").filter((line) => line.startsWith("get,6"))).toEqual(['get,6,:status -> 0 "200"']);
  });

  it("withholds body callbacks where the gateway did not enable stop-iteration; a tick resumes the stream", async () => {
    const { host, clock, open, linesOf } = await probeHost({
      plugins: [plugin("root", { allowOnHeadersStopIteration: false, configuration: "cfg=tick,340" })],
    });
    const stream = open(
      host.worker(0),
      "root",
      "s",
      "qh=later;ret,1|tk=rep,0,x-t-pick,tick;cont,0",
    ).requestBody("body", true);
    expect(linesOf("s").filter((line) => line.startsWith("on_request_body"))).toEqual([]);
    expect(stream.requestPaused).toBe(true);
    clock.advance(340);
    expect(stream.requestPaused).toBe(false);
    expect(stream.upstream?.header("x-t-pick")).toBe("tick");
    expect(stream.upstream?.body().toString()).toBe("body");
  });

  it("stops reading the client instead of failing while everything is stopped", async () => {
    const { host, open } = await probeHost({
      bufferLimitBytes: 10,
      plugins: [plugin("root", { allowOnHeadersStopIteration: false, configuration: "cfg=tick,10" })],
    });
    const stream = open(host.worker(0), "root", "s", "qh=ret,1");
    stream.requestBody("0123456789");
    expect(stream.downstream?.readingPaused).toBe(false);
    stream.requestBody("x");
    expect(stream.downstream?.readingPaused).toBe(true);
    expect(stream.closed).toBe(false);
    stream.continueRequest();
    expect(stream.downstream?.readingPaused).toBe(false);
    expect(stream.upstream?.body().toString()).toBe("0123456789x");
  });
});

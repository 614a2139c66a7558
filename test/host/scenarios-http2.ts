// Recorded scenarios over HTTP/2: a last chunk that carries the end, trailers, resets.
import type { Scenario } from "./scenario.ts";

const READ = "buf,0,0,1000000";

export const HTTP2_SCENARIOS: readonly Scenario[] = [
  {
    name: "HTTP/2: the last piece of a body carries the end",
    listener: "stop",
    steps: [
      {
        open: "a",
        http2: true,
        script: `qh=ret,1|qb=${READ};ret,1|qb$=${READ};prop,request/protocol;rep,0,x-t-pick,h2;ret,0`,
        reply: { body: ["one", "two"] },
      },
      { data: "a", text: "first" },
      { data: "a", text: "last", last: true },
      { await: "a" },
    ],
  },
  {
    name: "HTTP/2: headers alone",
    listener: "stop",
    steps: [
      { open: "a", http2: true, script: "qh=get,0,:authority;prop,request/protocol", end: true },
      { await: "a" },
    ],
  },
  {
    name: "HTTP/2: trailers end the body in both directions",
    listener: "stop",
    steps: [
      {
        open: "a",
        http2: true,
        trailing: true,
        script: "qh=ret,1|qb=ret,1|qt=get,1,x-t-sum;ret,0|st=get,3,x-t-up",
        reply: { body: ["one"], trailers: { "x-t-up": "1" } },
      },
      { data: "a", text: "body" },
      { end: "a", trailers: { "x-t-sum": "9" } },
      { await: "a" },
    ],
  },
  {
    name: "HTTP/2: early release of an upload that goes on",
    listener: "stop",
    steps: [
      { open: "a", http2: true, script: `qh=ret,1|qb#1=rep,0,x-t-pick,early;ret,0|qb#2=${READ}` },
      { data: "a", text: "first" },
      { data: "a", text: "second" },
      { data: "a", text: "third", last: true },
      { await: "a" },
    ],
  },
  {
    name: "HTTP/2: the client resets a paused stream",
    listener: "stop",
    steps: [
      { open: "a", http2: true, script: "qh=ret,1|qb=ret,1|log=prop,response/flags" },
      { data: "a", text: "part" },
      { abort: "a" },
      { sleepMs: 50 },
    ],
  },
  {
    name: "HTTP/2: a local reply from the body phase",
    listener: "stop",
    steps: [
      { open: "a", http2: true, script: "qh=ret,1|qb=reply,400,bad,parse,x-t-why=json;ret,0" },
      { data: "a", text: "body", last: true },
      { await: "a" },
    ],
  },
];

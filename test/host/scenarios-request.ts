// Recorded scenarios of the request path: pauses, buffering, early release, trailers, replies, limits.
import { bytes, type Scenario } from "./scenario.ts";

/** Reads the whole body buffer, in the words of the probe. */
const READ = "buf,0,0,1000000";

export const REQUEST_SCENARIOS: readonly Scenario[] = [
  {
    name: "a request without a body ends with its headers; lookups are lower-cased and answer the first value",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=get,0,X-T-Word;get,0,x-t-none;get,0,:path;size,0;get,1,x;get,2,x;get,9,x;pairs,1;pairs,9;buf,0,0,10",
        headers: { "x-t-word": "Value" },
        end: true,
        reply: { body: ["ok"] },
      },
      { await: "a" },
    ],
  },
  {
    name: "header writes: add repeats, replace merges, remove drops all, set replaces everything",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=add,0,X-T-One,1;add,0,x-t-one,2;pairs,0,x-t-;rep,0,x-t-one,3;pairs,0,x-t-;rem,0,X-T-ONE;pairs,0,x-t-;" +
          "rep,0,x-t-two,;get,0,x-t-two;rem,0,x-t-none;add,0,x-t-three,a%20b",
        end: true,
      },
      { await: "a" },
    ],
  },
  {
    name: "set_header_map_pairs replaces the map; a malformed list is an empty one",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=setpairs,0,:method=POST,:path=/other,:authority=probe,:scheme=http,x-forwarded-proto=http,X-T-New=1,x-tag=a,x-t-new=2;" +
          "pairs,0,x-t-;get,0,:path;get,0,x-probe",
        end: true,
      },
      { await: "a" },
      {
        open: "b",
        script: "sh=badpairs,2,x-t-gone=1;pairs,2,x-t-;setpairs,2,:status=200,x-t-back=1;pairs,2,x-t-",
        end: true,
        reply: { headers: { "x-t-up": "1" } },
      },
      { await: "b" },
    ],
  },
  {
    name: "Continue from the headers takes the request map away for the body",
    listener: "stop",
    steps: [
      { open: "a", script: `qb=get,0,:path;rep,0,x-t-late,1;size,0;pairs,0;${READ};bufstat,0` },
      { data: "a", text: "hello" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "StopIteration at the headers runs body callbacks, cumulative while buffering; the map stays writable",
    listener: "stop",
    steps: [
      { open: "a", script: `qh=ret,1|qb=${READ};ret,1|qb$=rep,0,x-t-pick,here;${READ};ret,0` },
      { data: "a", text: "hel" },
      { data: "a", text: "lo " },
      { data: "a", text: "you" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "without the flag StopIteration stops everything: no body callback until the stream is resumed",
    listener: "plain",
    steps: [
      {
        open: "a",
        script: `qh=later;ret,1|qb=get,0,:path;${READ}|tk=get,0,:path;rep,0,x-t-pick,tick;cont,0;get,0,:path`,
      },
      { data: "a", text: "hello" },
      { sleepMs: 120 },
      { data: "a", text: " again" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "resumed after the request had ended, the body comes in one callback with the end",
    listener: "plain",
    steps: [
      { open: "a", script: `qh=later,20;ret,1|qb=${READ}|tk=cont,0` },
      { data: "a", text: "all" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "early release: headers and buffered bytes go first, later chunks pass one by one",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: `qh=ret,1|qb#1=${READ};ret,1|qb#2=rep,0,x-t-pick,early;${READ};ret,0|qb#3=rep,0,x-t-late,1;${READ}`,
      },
      { data: "a", text: "one" },
      { data: "a", text: "two" },
      { data: "a", text: "three" },
      { data: "a", text: "four" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "StopIterationNoBuffer discards the bytes",
    listener: "stop",
    steps: [
      { open: "a", script: "qh=ret,1|qb=ret,3|qb$=ret,0" },
      { data: "a", text: "lost" },
      { data: "a", text: "also" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "StopIterationAndWatermark keeps the bytes but shows each chunk alone",
    listener: "stop",
    steps: [
      { open: "a", script: `qh=ret,1|qb=${READ};ret,2|qb$=${READ};ret,0` },
      { data: "a", text: "kept" },
      { data: "a", text: "too" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "a body that ends by trailers: the last body callback has no end, the trailers decide",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: `qh=ret,1|qb=ret,1|qt=get,1,x-t-sum;rep,0,x-t-pick,t;${READ};add,1,x-t-more,2;ret,0`,
      },
      { data: "a", text: "body" },
      { end: "a", trailers: { "x-t-sum": "9" } },
      { await: "a" },
    ],
  },
  {
    name: "trailers stopped, then resumed from the tick",
    listener: "stop",
    steps: [
      { open: "a", script: "qh=ret,1|qb=ret,1|qt=later;ret,1|tk=get,1,x-t-sum;rep,0,x-t-pick,t;cont,0" },
      { data: "a", text: "body" },
      { end: "a", trailers: { "x-t-sum": "9" } },
      { await: "a" },
    ],
  },
  {
    name: "touching absent trailers in the last body callback creates them",
    listener: "stop",
    steps: [
      { open: "a", script: "qb#1=add,1,x-t-no,1|qb$=size,1;add,1,x-t-made,1;get,1,x-t-made" },
      { data: "a", text: "body" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "buffer writes: replace, prepend, append, and positions that are refused",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=ret,1;setbuf,0,0,1,x|qb=ret,1|qb$=setbuf,0,0,1,[;setbuf,0,2,1,x;setbuf,0,99,0,];setbuf,0,0,0,<;" +
          `${READ};setbuf,0,0,4,=;${READ};buf,0,2,2;buf,0,5,9;buf,0,99,1;rem,0,content-length;ret,0`,
      },
      { data: "a", text: "hello" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "replacing the whole buffer drains what is there",
    listener: "stop",
    steps: [
      { open: "a", script: `qh=ret,1|qb=ret,1|qb$=setbuf,0,0,99,short;${READ};ret,0` },
      { data: "a", text: "hello world" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "a local reply at the headers passes this filter's response callbacks, then log, done, delete",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "qh=reply,429,slow down,too many,x-t-why=busy;get,0,:path;ret,0|sh=get,2,x-t-why;get,2,:status;prop,response/code;prop,response/code_details;get,2,content-type|sb=buf,1,0,99|log=prop,response/code;prop,response/code_details;get,0,:path;get,2,:status;get,3,x;get,1,x",
      },
      { data: "a", text: "ignored" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "a local reply without a body ends with its headers",
    listener: "stop",
    steps: [{ open: "a", script: "qh=reply,204,,;ret,0", end: true }, { await: "a" }],
  },
  {
    name: "a local reply from the body phase",
    listener: "stop",
    steps: [
      { open: "a", script: "qh=ret,1|qb#1=ret,1|qb#2=reply,400,bad,parse;ret,0" },
      { data: "a", text: "one" },
      { data: "a", text: "two" },
      { await: "a" },
    ],
  },
  {
    name: "a local reply from the tick while the request is paused",
    listener: "stop",
    steps: [
      { open: "a", script: "qh=later,20;ret,1|qb=ret,1|tk=reply,503,later,tick;get,0,:path" },
      { data: "a", text: "body" },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "buffering past the limit is 413",
    listener: "small",
    steps: [
      { open: "a", script: "qh=ret,1|qb=bufstat,0;ret,1|log=prop,response/code;prop,response/code_details" },
      { data: "a", text: bytes("x", 700) },
      { data: "a", text: bytes("y", 700) },
      { sleepMs: 50 },
      { await: "a" },
    ],
  },
  {
    name: "one chunk larger than the limit is 413 after its callback",
    listener: "small",
    steps: [
      { open: "a", script: "qh=ret,1|qb=bufstat,0;ret,1" },
      { data: "a", text: bytes("x", 1500) },
      { sleepMs: 50 },
      { await: "a" },
    ],
  },
  {
    name: "a body beyond the limit passes when it is released in time",
    listener: "small",
    steps: [
      { open: "a", script: "qh=ret,1|qb#1=ret,1|qb#2=ret,0" },
      { data: "a", text: bytes("x", 500) },
      { data: "a", text: bytes("y", 500) },
      { data: "a", text: bytes("z", 900) },
      { end: "a" },
      { await: "a" },
    ],
  },
  {
    name: "the client goes away while the request is paused",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: "qh=ret,1|qb=ret,1|log=get,0,:path;prop,response/flags;prop,response/code;get,2,:status",
      },
      { data: "a", text: "part" },
      { abort: "a" },
      { sleepMs: 50 },
    ],
  },
  {
    name: "the client goes away in the middle of an upload that passes",
    listener: "stop",
    steps: [
      { open: "a", script: "log=get,0,:path;prop,response/flags" },
      { data: "a", text: "part" },
      { abort: "a" },
      { sleepMs: 50 },
    ],
  },
  {
    name: "close_stream ends the stream without an answer",
    listener: "stop",
    steps: [
      { open: "a", script: "qh=ret,1|qb=close,0;ret,1|log=prop,response/code_details" },
      { data: "a", text: "part" },
      { await: "a" },
    ],
  },
  {
    name: "a request that an earlier filter answered is first seen at the log",
    listener: "stop",
    steps: [
      {
        answeredEarlier: "a",
        status: 403,
        script:
          "log=get,0,:path;get,2,:status;prop,response/code;rep,0,x,1|done=get,0,:path|delete=get,0,:path",
      },
    ],
  },
  {
    name: "stream control takes known types only",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: "qh=cont,4;close,4;cont,3;cont,2;close,2;close,3;eff,self;eff,dead;eff,zero",
        end: true,
      },
      { await: "a" },
    ],
  },
  {
    name: "a return code out of range stops everything",
    listener: "stop",
    steps: [
      { open: "a", script: "qh=later,20;ret,77|qb=get,0,:path|tk=cont,0" },
      { data: "a", text: "body" },
      { end: "a" },
      { await: "a" },
    ],
  },
];

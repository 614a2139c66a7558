// Recorded scenarios of the response path and of the end of a stream.
import { bytes, type Scenario } from "./scenario.ts";

const READ = "buf,1,0,1000000";

export const RESPONSE_SCENARIOS: readonly Scenario[] = [
  {
    name: "a response with a body: chunks alone, then an empty end; properties are true at headers and at log",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          `sh=get,2,:status;get,2,x-t-up;rep,2,x-t-added,1;prop,response/code;prop,upstream/request_attempt_count|sb=${READ};get,2,:status|` +
          "log=get,2,x-t-added;get,0,x-tag;prop,response/code;prop,response/flags;prop,response/code_details;prop,upstream/request_attempt_count;rep,2,x,1;add,0,x,1;bufstat,0;bufstat,1",
        end: true,
        reply: { headers: { "x-t-up": "u" }, body: ["one", "two"] },
      },
      { await: "a" },
    ],
  },
  {
    name: "a response without a body ends with its headers",
    listener: "stop",
    steps: [{ open: "a", script: "sh=buf,1,0,9", end: true, reply: { status: 204 } }, { await: "a" }],
  },
  {
    name: "a response held from its headers on is cumulative and leaves whole",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: `sh=ret,1|sb=${READ};ret,1|sb$=rep,2,x-t-late,1;${READ};setbuf,1,0,3,ONE;ret,0`,
        end: true,
        reply: { body: ["one", "two"] },
      },
      { await: "a" },
    ],
  },
  {
    name: "a response stopped without the flag sees no body until it is resumed",
    listener: "plain",
    steps: [
      {
        open: "a",
        script: `sh=later,20;ret,1|sb=${READ}|tk=rep,2,x-t-late,1;cont,1;get,2,:status`,
        end: true,
        reply: { body: ["one", "two"] },
      },
      { await: "a" },
    ],
  },
  {
    name: "response trailers are read and written",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "sb=get,3,x-t-sum|st=get,3,x-t-sum;rep,3,x-t-sum,2;add,3,x-t-more,3|log=get,3,x-t-sum;get,1,x",
        end: true,
        reply: { body: ["one"], trailers: { "x-t-sum": "1" } },
      },
      { await: "a" },
    ],
  },
  {
    name: "a local reply from the response headers bypasses the filter",
    listener: "stop",
    steps: [
      {
        open: "a",
        script:
          "sh=reply,502,no,bad upstream,x-t-why=b;ret,0|log=prop,response/code;get,2,:status;prop,response/code_details",
        end: true,
        reply: { body: ["one"] },
      },
      { await: "a" },
    ],
  },
  {
    name: "a local reply after the response headers went out is a reset",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: "sb=reply,502,no,late;ret,0|log=prop,response/code",
        end: true,
        reply: { body: ["one", "two"] },
      },
      { await: "a" },
    ],
  },
  {
    name: "buffering a response past the limit is a 500",
    listener: "small",
    steps: [
      {
        open: "a",
        script: "sh=ret,1|sb=bufstat,1;ret,1|log=prop,response/code;prop,response/code_details",
        end: true,
        reply: { body: [bytes("x", 700), bytes("y", 700)] },
      },
      { await: "a" },
    ],
  },
  {
    name: "the upstream cuts the connection before it answers",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: "sh=get,2,:status|log=prop,response/flags;prop,response/code",
        end: true,
        reply: { reset: "before" },
      },
      { await: "a" },
    ],
  },
  {
    name: "the upstream cuts the connection in the middle of its answer",
    listener: "stop",
    steps: [
      {
        open: "a",
        script: "log=prop,response/flags;prop,response/code",
        end: true,
        reply: { body: ["one", "two"], reset: "after-first-piece" },
      },
      { await: "a" },
    ],
  },
  {
    name: "the client goes away in the middle of an answer",
    listener: "stop",
    steps: [
      { open: "a", script: "log=prop,response/flags;prop,response/code", end: true, reply: { silent: true } },
      { sleepMs: 30 },
      { abort: "a" },
      { sleepMs: 50 },
    ],
  },
  {
    name: "an answer that comes before the request ended",
    listener: "stop",
    steps: [
      { open: "a", script: "", reply: { early: true, status: 403, body: ["no"] } },
      { await: "a" },
      { data: "a", text: "part" },
      { await: "a" },
    ],
  },
];

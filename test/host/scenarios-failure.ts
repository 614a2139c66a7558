// Recorded scenarios of traps and failure policies. Each fail-closed one kills its listener's VM for good.
import type { Scenario } from "./scenario.ts";

/** A trap in one phase on its own listener, then the next stream there. */
function trapIn(phase: string, script: string, body: boolean): Scenario {
  return {
    name: `a trap in phase ${phase} fails the stream, and under fail-closed every later one`,
    listener: `closed-${phase}`,
    steps: [
      { open: "a", script, end: !body, reply: { body: ["one", "two"] } },
      ...(body ? ([{ data: "a", text: "body" }] as const) : []),
      ...(body && phase === "qt" ? ([{ end: "a", trailers: { "x-t-sum": "1" } }] as const) : []),
      ...(body && phase === "qb" ? ([{ end: "a" }] as const) : []),
      { sleepMs: 100 },
      ...(phase === "tk" ? ([{ abort: "a" }] as const) : ([{ await: "a" }] as const)),
      { open: "b", script: "", end: true, reply: { body: ["fine"] } },
      { await: "b" },
    ],
  };
}

export const FAILURE_SCENARIOS: readonly Scenario[] = [
  trapIn("qh", "qh=trap", false),
  trapIn("qb", "qh=ret,1|qb=trap", true),
  trapIn("qt", "qh=ret,1|qb=ret,1|qt=trap", true),
  trapIn("sh", "sh=trap", false),
  trapIn("sb", "sb=trap", false),
  trapIn("log", "log=trap", false),
  trapIn("tk", "qh=later;ret,1|tk=trap", false),
  {
    name: "a trap ends every stream of the VM at its next callback",
    listener: "closed-two",
    steps: [
      { open: "a", script: "qh=ret,1|qb=ret,1" },
      { data: "a", text: "part" },
      { open: "b", script: "qh=trap", end: true },
      { await: "b" },
      { data: "a", text: "more" },
      { await: "a" },
    ],
  },
  {
    name: "a restricted host call inside malloc traps",
    listener: "closed-malloc",
    steps: [{ open: "a", script: "qh=malloc,restricted;get,0,:path", end: true }, { await: "a" }],
  },
  {
    name: "FAIL_RELOAD: a fresh VM serves the next stream, shared data survives, a second trap waits out the back-off",
    listener: "reload",
    steps: [
      { sleepMs: 1600 },
      { open: "a", script: "qh=sdset,kept,yes;trap", end: true },
      { await: "a" },
      { open: "b", script: "qh=sdget,kept", end: true, reply: { body: ["ok"] } },
      { await: "b" },
      { open: "c", script: "qh=trap", end: true },
      { await: "c" },
      { open: "d", script: "qh=sdget,kept", end: true, reply: { body: ["ok"] } },
      { await: "d" },
      { sleepMs: 1600 },
      { open: "e", script: "qh=sdget,kept", end: true, reply: { body: ["ok"] } },
      { await: "e" },
    ],
  },
  {
    name: "FAIL_OPEN: a trapped stream goes on, later ones skip the filter",
    listener: "open",
    steps: [
      { open: "a", script: "qh=rep,0,x-t-before,1;trap", end: true, reply: { body: ["ok"] } },
      { await: "a" },
      { open: "b", script: "qh=rep,0,x-t-never,1", end: true, reply: { body: ["ok"] } },
      { await: "b" },
    ],
  },
];

// Hand-made records of fleet runs.
import { type FleetSummary, summarizeRun } from "../../../host-sim/fleet/report/index.ts";
import type {
  FleetRequest,
  LoadSample,
  RequestRecord,
  RunRecord,
  Workload,
} from "../../../host-sim/fleet/types.ts";

/** A request that arrives at `index` seconds; 100 prompt tokens, 11 output tokens. */
export function fleetRequest(index: number, more: Partial<FleetRequest> = {}): FleetRequest {
  return {
    index,
    arrivalMs: index * 1000,
    session: `s${index}`,
    spans: [{ id: index, tokens: 100, role: "user" }],
    promptTokens: 100,
    outputTokens: 11,
    model: "m",
    ...more,
  };
}

/** Its record: first token after 100 × (index + 1) ms, then 11 tokens 20 ms apart, on replica index mod 2. */
export function requestRecord(index: number, more: Partial<RequestRecord> = {}): RequestRecord {
  const firstTokenMs = index * 1000 + 100 * (index + 1);
  return {
    index,
    arrivalMs: index * 1000,
    endpoint: index % 2,
    prefill: -1,
    firstTokenMs,
    endMs: firstTokenMs + 200,
    promptTokens: 100,
    outputTokens: 11,
    cachedTokens: 25,
    failure: "",
    ...more,
  };
}

/** What a request that never got a token leaves. */
export function failedRecord(index: number, failure: RequestRecord["failure"]): RequestRecord {
  return requestRecord(index, {
    endpoint: -1,
    firstTokenMs: Number.NaN,
    endMs: Number.NaN,
    outputTokens: 0,
    cachedTokens: 0,
    failure,
  });
}

/** A sample of one replica's load. */
export function loadSample(atMs: number, replica: number, waiting: number, running: number): LoadSample {
  return { atMs, replica, waiting, running, kvUsage: 0.5 };
}

/** A workload of `count` requests, and those that differ. */
export function fleetWorkload(count: number, ...changed: readonly FleetRequest[]): Workload {
  const requests = Array.from({ length: count }, (_, index) => fleetRequest(index));
  for (const request of changed) requests[request.index] = request;
  return { name: "hand-made", requests };
}

/** A run of two replicas; the second is busy three times as long as the first. */
export function runRecord(requests: readonly RequestRecord[], more: Partial<RunRecord> = {}): RunRecord {
  const total = {
    steps: 10,
    generatedTokens: 22,
    prefillTokens: 150,
    preemptions: 1,
    busyMs: 500,
    upMs: 2000,
  };
  return {
    policy: "p",
    workload: "hand-made",
    requests,
    samples: [],
    replicas: 2,
    totals: [total, { ...total, preemptions: 2, busyMs: 1500 }],
    endMs: 10_000,
    wallMs: 7,
    ...more,
  };
}

/** The figures of a run of five answered requests. */
export function fleetSummary(policy: string): FleetSummary {
  const requests = [0, 1, 2, 3, 4].map((index) => requestRecord(index));
  return summarizeRun(runRecord(requests, { policy }), fleetWorkload(5), { ttftMs: 4000, tpotMs: 50 });
}

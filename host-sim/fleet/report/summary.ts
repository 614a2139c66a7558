// Turns the record of a fleet run into the figures that policies are compared by.
import { percentile } from "../../workload/report.ts";
import type { LoadSample, RequestRecord, RunRecord, Workload } from "../types.ts";

const MS_PER_HOUR = 3_600_000;

/** What a request is promised where its client asks for nothing of its own, ms. */
export interface Slo {
  /** Arrival to first token at most. */
  readonly ttftMs: number;
  /** Mean time between the tokens of one answer at most. */
  readonly tpotMs: number;
}

/** The SLO as tables and plots name it. */
export function sloText({ ttftMs, tpotMs }: Slo): string {
  return `TTFT ${ttftMs / 1000} s, TPOT ${tpotMs} ms`;
}

/** A distribution: mean and percentiles (nearest rank), ms. NaN where nothing was measured. */
export interface Distribution {
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

/**
 * Figures of one run. Latencies are those of answered requests, ms; shares are 0–1 of all requests, so that a
 * failed one is a missed SLO; NaN where nothing was measured.
 */
export interface FleetSummary {
  readonly policy: string;
  readonly workload: string;
  /** Replicas by role, e.g. "4:12"; absent where nobody asked for roles. */
  readonly fleet?: string;
  readonly requests: number;
  readonly replicas: number;
  /** Requests over the time from the first arrival to the last, 1/s. */
  readonly offeredRps: number;
  /** Arrival to first token. */
  readonly ttftMs: Distribution;
  /** Mean time between the tokens of one answer, over answers of at least two tokens. */
  readonly tpotMs: Distribution;
  /** Arrival to last token. */
  readonly e2eMs: Distribution;
  readonly ttftInSlo: number;
  /** An answer of one token keeps any TPOT. */
  readonly tpotInSlo: number;
  /** Both at once. */
  readonly inSlo: number;
  /** Requests within the TTFT SLO a second, from the first arrival to the last answer. */
  readonly ttftGoodputRps: number;
  /** Requests within both SLOs a second, from the first arrival to the last answer. */
  readonly goodputRps: number;
  /** Tokens generated a second over the same time, those of answers that broke off included. */
  readonly outputTokensPerSecond: number;
  /** The same and the prompt tokens of every request that got a first token. */
  readonly totalTokensPerSecond: number;
  /** Prompt tokens taken from caches over all prompt tokens, of requests that got a first token. */
  readonly hitRatio: number;
  /** What `hitRatio` would be with one cache for the whole fleet; NaN: not asked for. */
  readonly reuseCeiling: number;
  /** Requests of the replica with the most over the mean, ≥ 1. */
  readonly requestImbalance: number;
  /** Busy time of the replica with the most over the mean, ≥ 1. */
  readonly busyImbalance: number;
  /** Standard deviation of the requests at a replica (waiting and running), averaged over time, over their mean. */
  readonly loadVariation: number;
  readonly failures: number;
  /** Failures by kind, only those that occurred. */
  readonly failureKinds: Readonly<Record<string, number>>;
  readonly preemptions: number;
  /** Time that replicas had a process, summed, hours. */
  readonly replicaHours: number;
  /** Absent when every prompt was computed where it was answered, and no prefill leg was tried. */
  readonly disaggregation?: Disaggregation;
  /** First arrival to last answer, ms. */
  readonly durationMs: number;
  /** What the run took, ms of real time. */
  readonly wallMs: number;
}

/** What became of prompts that one replica computed for another. */
export interface Disaggregation {
  /** Of all requests. */
  readonly share: number;
  /** From computed there to complete here: the wait for room and the transfer. Mean, ms. */
  readonly handoverMs: number;
  /** Tokens that crossed over, of those requests' prompt tokens. */
  readonly pulledShare: number;
  /** Prefill legs that failed or were given up. */
  readonly failedPrefills: number;
}

/** A run at a multiple of its workload's own rate. */
export interface RatedRun {
  readonly rate: number;
  readonly summary: FleetSummary;
}

/** Time from arrival to first token, ms; NaN without one. */
export function ttftMs(request: RequestRecord): number {
  return request.firstTokenMs - request.arrivalMs;
}

/** Mean time between the tokens of the answer, ms; NaN for fewer than two tokens. */
export function tpotMs(request: RequestRecord): number {
  if (request.outputTokens < 2) return Number.NaN;
  return (request.endMs - request.firstTokenMs) / (request.outputTokens - 1);
}

/**
 * Figures of a run.
 * @param workload the one that was run: clients' own SLOs in it count before `slo`
 * @param reuseCeiling share of the workload's prompt tokens that one cache for the fleet would have served
 * @throws RangeError for a record whose request is not in the workload, or an SLO that is not above 0
 */
export function summarizeRun(
  record: RunRecord,
  workload: Workload,
  slo: Slo,
  reuseCeiling?: (workload: Workload) => number,
): FleetSummary {
  checkSlo("ttftMs", slo.ttftMs);
  checkSlo("tpotMs", slo.tpotMs);
  const { requests } = record;
  const answered = requests.filter(({ failure }) => failure === "");
  const started = requests.filter(({ firstTokenMs }) => !Number.isNaN(firstTokenMs));
  const firstArrivalMs = requests[0]?.arrivalMs ?? Number.NaN;
  const durationMs = record.endMs - firstArrivalMs;
  const perSecond = (count: number): number => (count / durationMs) * 1000;
  const kept = sloShares(requests, workload, slo);
  const outputTokens = sum(requests, (request) => request.outputTokens);
  const promptTokens = sum(started, (request) => request.promptTokens);
  const failureKinds: Record<string, number> = {};
  for (const { failure } of requests)
    if (failure !== "") failureKinds[failure] = (failureKinds[failure] ?? 0) + 1;
  return {
    policy: record.policy,
    workload: record.workload,
    requests: requests.length,
    replicas: record.replicas,
    offeredRps: (requests.length / ((requests.at(-1)?.arrivalMs ?? Number.NaN) - firstArrivalMs)) * 1000,
    ttftMs: distribution(answered.map(ttftMs)),
    tpotMs: distribution(answered.map(tpotMs)),
    e2eMs: distribution(answered.map(({ endMs, arrivalMs }) => endMs - arrivalMs)),
    ttftInSlo: kept.ttft / requests.length,
    tpotInSlo: kept.tpot / requests.length,
    inSlo: kept.both / requests.length,
    ttftGoodputRps: perSecond(kept.ttft),
    goodputRps: perSecond(kept.both),
    outputTokensPerSecond: perSecond(outputTokens),
    totalTokensPerSecond: perSecond(outputTokens + promptTokens),
    hitRatio: sum(started, (request) => request.cachedTokens) / promptTokens,
    reuseCeiling: reuseCeiling?.(workload) ?? Number.NaN,
    requestImbalance: maxOverMean(requestsByReplica(record)),
    busyImbalance: maxOverMean(record.totals.map(({ busyMs }) => busyMs)),
    loadVariation: loadVariation(record.samples),
    failures: requests.length - answered.length,
    failureKinds,
    preemptions: sum(record.totals, ({ preemptions }) => preemptions),
    replicaHours: sum(record.totals, ({ upMs }) => upMs) / MS_PER_HOUR,
    ...disaggregationOf(requests),
    durationMs,
    wallMs: record.wallMs,
  };
}

function disaggregationOf(requests: readonly RequestRecord[]): Pick<FleetSummary, "disaggregation"> {
  const handedOver = requests.flatMap(({ handover }) => (handover === undefined ? [] : [handover]));
  const failedPrefills = sum(requests, (request) => request.failedPrefills ?? 0);
  if (handedOver.length === 0 && failedPrefills === 0) return {};
  const promptTokens = sum(requests, ({ handover, promptTokens }) => (handover ? promptTokens : 0));
  const disaggregation: Disaggregation = {
    share: handedOver.length / requests.length,
    handoverMs: distribution(handedOver.map(({ prefilledMs, pulledMs }) => pulledMs - prefilledMs)).mean,
    pulledShare: sum(handedOver, ({ pulledTokens }) => pulledTokens) / promptTokens,
    failedPrefills,
  };
  return { disaggregation };
}

function checkSlo(name: string, ms: number): void {
  if (!(ms > 0)) throw new RangeError(`slo.${name} is ${ms}, expected a number above 0`);
}

function distribution(values: readonly number[]): Distribution {
  const measured = values.filter((value) => !Number.isNaN(value));
  return {
    mean: sum(measured, (value) => value) / measured.length,
    p50: percentile(measured, 0.5),
    p90: percentile(measured, 0.9),
    p99: percentile(measured, 0.99),
  };
}

function sum<T>(values: readonly T[], of: (value: T) => number): number {
  let total = 0;
  for (const value of values) total += of(value);
  return total;
}

interface KeptSlos {
  ttft: number;
  tpot: number;
  both: number;
}

function sloShares(requests: readonly RequestRecord[], workload: Workload, slo: Slo): KeptSlos {
  const kept = { ttft: 0, tpot: 0, both: 0 };
  for (const record of requests) {
    const wish = workload.requests[record.index];
    if (wish === undefined) {
      const last = workload.requests.length - 1;
      throw new RangeError(`request index is ${record.index}, expected 0–${last} as in "${workload.name}"`);
    }
    if (record.failure !== "") continue;
    const ttftKept = ttftMs(record) <= (wish.sloTtftMs ?? slo.ttftMs);
    const tpotKept = record.outputTokens < 2 || tpotMs(record) <= (wish.sloTpotMs ?? slo.tpotMs);
    if (ttftKept) kept.ttft++;
    if (tpotKept) kept.tpot++;
    if (ttftKept && tpotKept) kept.both++;
  }
  return kept;
}

function requestsByReplica(record: RunRecord): number[] {
  const counts = new Array<number>(record.replicas).fill(0);
  for (const { endpoint } of record.requests) if (endpoint >= 0) counts[endpoint]!++;
  return counts;
}

function maxOverMean(values: readonly number[]): number {
  return (Math.max(...values) / sum(values, (value) => value)) * values.length;
}

// Both the deviation and the load are averaged over time before they are divided, so that the many instants
// at which a fleet is nearly idle weigh little.
function loadVariation(samples: readonly LoadSample[]): number {
  const byTime = new Map<number, number[]>();
  for (const { atMs, waiting, running } of samples) {
    const loads = byTime.get(atMs);
    if (loads === undefined) byTime.set(atMs, [waiting + running]);
    else loads.push(waiting + running);
  }
  let deviations = 0;
  let means = 0;
  for (const loads of byTime.values()) {
    const mean = sum(loads, (load) => load) / loads.length;
    deviations += Math.sqrt(sum(loads, (load) => (load - mean) ** 2) / loads.length);
    means += mean;
  }
  return deviations / means;
}

// Checks a run's set-up once, before anything is simulated.
import { POOL_ENDPOINTS_MAX } from "../../assembly/wire/limits.ts";
import { RunOptionError, WorkloadError } from "./errors.ts";
import type { FleetEvent, RunOptions, Workload } from "./types.ts";

/** Replicas of a run: what one pool of the picker holds. */
export const REPLICAS_MAX = POOL_ENDPOINTS_MAX;
/** Gateways of a run. */
export const GATEWAYS_MAX = 64;
/** Requests of a run; a record of each is kept. */
export const REQUESTS_MAX = 1_000_000;
/** Shortest time between two scrapes or samples, ms. */
const PERIOD_MS_MIN = 1;

/** @throws RunOptionError, WorkloadError naming the field, its value and what was expected */
export function checkRun(options: RunOptions): void {
  whole("replicas", options.replicas.length, 1, REPLICAS_MAX);
  whole("gateways", options.gateways, 1, GATEWAYS_MAX);
  whole("seed", options.seed, 0, 2 ** 32 - 1);
  period("scrapeMs", options.scrapeMs);
  period("sampleMs", options.sampleMs);
  if (options.replicas.every(({ role }) => role === "prefill"))
    throw new RunOptionError("replicas", "all of role prefill", 'at least one of role "decode" or "both"');
  if (options.scaler !== undefined) period("scaler.everyMs", options.scaler.everyMs);
  checkRequests(options.workload);
  options.workload.events?.forEach((event, index, events) => {
    checkEvent(options, event, index, events[index - 1]?.atMs ?? 0);
  });
}

/** @throws RunOptionError for what a scaler may not do */
export function checkScaling(
  { replicas }: RunOptions,
  { kind, replica, atMs }: FleetEvent,
  nowMs: number,
): void {
  if (kind !== "join" && kind !== "drain")
    throw new RunOptionError("scaler: kind", kind, '"join" or "drain"');
  whole("scaler: replica", replica, 0, replicas.length - 1);
  if (!(atMs >= nowMs && atMs < Infinity))
    throw new RunOptionError("scaler: atMs", atMs, `a time from ${nowMs} ms on`);
}

function checkRequests(workload: Workload): void {
  const { name, requests } = workload;
  if (requests.length < 1 || requests.length > REQUESTS_MAX)
    throw new WorkloadError(name, "requests.length", requests.length, `1 to ${REQUESTS_MAX}`);
  let arrivedMs = 0;
  requests.forEach((request, index) => {
    const check = (field: string, value: number, holds: boolean, expected: string): void => {
      if (!holds) throw new WorkloadError(name, `requests[${index}].${field}`, value, expected);
    };
    const { arrivalMs, outputTokens, promptTokens, spans } = request;
    check("index", request.index, request.index === index, String(index));
    check("arrivalMs", arrivalMs, arrivalMs >= arrivedMs && arrivalMs < Infinity, `at least ${arrivedMs}`);
    check("outputTokens", outputTokens, isCount(outputTokens), "a whole number ≥ 1");
    let sum = 0;
    for (const { id, tokens } of spans) {
      check("spans.id", id, Number.isSafeInteger(id) && id >= 0, "a whole number from 0 to 2^53 − 1");
      check("spans.tokens", tokens, isCount(tokens), "a whole number ≥ 1");
      sum += tokens;
    }
    check("promptTokens", promptTokens, promptTokens === sum && sum > 0, `the spans' sum ${sum}, ≥ 1`);
    arrivedMs = arrivalMs;
  });
}

function checkEvent(options: RunOptions, event: FleetEvent, index: number, previousMs: number): void {
  const { name } = options.workload;
  const check = (field: string, value: number, holds: boolean, expected: string): void => {
    if (!holds) throw new WorkloadError(name, `events[${index}].${field}`, value, expected);
  };
  const { atMs, replica } = event;
  const last = options.replicas.length - 1;
  check("atMs", atMs, atMs >= previousMs && atMs < Infinity, `at least ${previousMs}`);
  check("replica", replica, Number.isInteger(replica) && replica >= 0 && replica <= last, `0 to ${last}`);
  if (event.kind !== "slow") return;
  check("factor", event.factor, event.factor > 0 && event.factor < Infinity, "a number above 0");
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1;
}

function whole(field: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max)
    throw new RunOptionError(field, value, `a whole number from ${min} to ${max}`);
}

function period(field: string, value: number): void {
  if (!(value >= PERIOD_MS_MIN && value < Infinity))
    throw new RunOptionError(field, value, `a number of ms, at least ${PERIOD_MS_MIN}`);
}

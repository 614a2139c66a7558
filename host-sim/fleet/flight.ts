// One request between its arrival and its end: its choice, its legs, and what is told of it.
import type { EngineRequest } from "../model-server/engine-types.ts";
import type { Engine } from "../model-server/engine.ts";
import type { Choice, Ending, FleetRequest, Handover, RequestRecord } from "./types.ts";

/** No replica. */
export const NONE = -1;

/** A leg that an engine has. */
export interface Leg {
  readonly kind: "prefill" | "decode";
  readonly replica: number;
  readonly engine: Engine;
  /** Absent while `submit` is under way. */
  engineRequest?: EngineRequest;
}

/** A prompt that was computed for another replica. */
export interface ComputedPrompt {
  readonly replica: number;
  readonly engine: Engine;
  readonly holdId: string;
  readonly cachedTokens: number;
  readonly prefilledMs: number;
  pulledMs: number;
  pulledTokens: number;
}

/** A request between its arrival and its end. */
export interface Flight {
  readonly request: FleetRequest;
  readonly gateway: number;
  choice: Choice;
  leg: Leg | undefined;
  /** Replica whose sidecar has the request and waits for its prompt, or NONE. */
  expectedBy: number;
  prompt: ComputedPrompt | undefined;
  prefillLegs: number;
  failedPrefills: number;
}

/** How a request ended; "" = answered. */
export type Failure = RequestRecord["failure"];

/**
 * What the gateway is told of its end. vLLM's usage leaves pulled tokens out of the cached ones; llm-d's sidecar writes
 * those of its prefill leg there (llm-d-router, pkg/sidecar/proxy/connector_nixlv2.go at 05457890).
 */
export function endingOf({ request, leg, prompt, choice }: Flight, status: number): Ending {
  const { promptTokens } = request;
  const engineRequest = leg?.kind === "decode" ? leg.engineRequest : undefined;
  const bySidecar = choice.prefillBy === "gateway" ? undefined : prompt?.cachedTokens;
  const cachedTokens = bySidecar ?? Math.max(0, engineRequest?.cachedTokens ?? 0);
  return { status, promptTokens, outputTokens: engineRequest?.generatedTokens ?? 0, cachedTokens };
}

/** What is recorded of it. @param ending absent: no replica was asked */
export function recordOf(
  { request, prompt, leg, failedPrefills }: Flight,
  endpoint: number,
  failure: Failure,
  endMs: number,
  ending?: Ending,
): RequestRecord {
  const { index, arrivalMs, promptTokens } = request;
  const firstTokenMs = leg?.kind === "decode" ? leg.engineRequest?.firstTokenMs : undefined;
  return {
    index,
    arrivalMs,
    endpoint,
    prefill: prompt?.replica ?? NONE,
    firstTokenMs: firstTokenMs ?? Number.NaN,
    endMs,
    promptTokens,
    outputTokens: ending?.outputTokens ?? 0,
    cachedTokens: prompt?.cachedTokens ?? ending?.cachedTokens ?? 0,
    failure,
    ...(prompt === undefined ? {} : { handover: handoverOf(prompt) }),
    ...(failedPrefills === 0 ? {} : { failedPrefills }),
  };
}

function handoverOf({ prefilledMs, pulledMs, pulledTokens }: ComputedPrompt): Handover {
  return { prefilledMs, pulledMs, pulledTokens };
}

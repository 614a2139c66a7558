// The filter's configuration for fleets of prefill and decode replicas.
import type { EngineConfig } from "../model-server/engine-types.ts";

/** How a prompt gets computed elsewhere: told to the decoder's sidecar, or called by the filter. */
export type PdMode = "headers" | "inline";

/** From so many tokens that the decode endpoint has not cached the filter considers another one for the prompt. */
const NON_CACHED_TOKENS = 1024;
/** Bodies that the filter reads to their end before it decides, and holds for a prefill leg: what it allows at most. */
const BODY_BYTES_MAX = 1_048_576;

/**
 * EndpointPickerConfig as JSON: the latency picker for both profiles, and the decider of a threshold whose answer the
 * filter checks against predicted times.
 * @param engine whose KV and transfer speed the filter begins with
 */
export function pdConfig(mode: PdMode, engine: EngineConfig): string {
  const { kvBytesPerToken, transferBytesPerMs } = engine;
  return JSON.stringify({
    apiVersion: "llm-d.ai/v1alpha1",
    kind: "EndpointPickerConfig",
    plugins: [
      { type: "disagg-profile-handler", parameters: { deciders: { prefill: "decider" } } },
      {
        type: "prefix-based-pd-decider",
        name: "decider",
        parameters: { nonCachedTokens: NON_CACHED_TOKENS },
      },
      {
        type: "epp-wasm-disaggregation",
        parameters: { mode, bodyBytesMax: BODY_BYTES_MAX, kvBytesPerToken, transferBytesPerMs },
      },
      { type: "epp-wasm-gateway", parameters: { decisionBytesMax: BODY_BYTES_MAX } },
    ],
  });
}

/** EndpointPickerConfig as JSON: the default decision among the endpoints that answer, prompts computed where they are answered. */
export function answeringConfig(): string {
  return JSON.stringify({
    apiVersion: "llm-d.ai/v1alpha1",
    kind: "EndpointPickerConfig",
    plugins: [
      { type: "decode-filter" },
      { type: "epp-wasm-latency-picker" },
      {
        type: "epp-wasm-gateway",
        parameters: { decisionBytesMax: BODY_BYTES_MAX, unknownLoad: "mean" },
      },
    ],
  });
}

// Pools of decode and prefill endpoints for tests of disaggregation, and the documents that ask for it.
import { ROLE_DECODE, ROLE_ENCODE, ROLE_PREFILL } from "../../assembly/wire/snapshot.ts";

export const DECODE = { roles: ROLE_DECODE };
export const PREFILL = { roles: ROLE_PREFILL };
export const ENCODE = { roles: ROLE_ENCODE };
/** An endpoint that does either. */
export const BOTH = { roles: ROLE_DECODE | ROLE_PREFILL };
export const PREFILLER = "x-prefiller-host-port";
export const ENCODERS = "x-encoder-hosts-ports";
export const DATA_PARALLEL = "x-data-parallel-host-port";

export interface DisaggregationOptions {
  /** Decider of prefill; default: always. A number: from so many uncached tokens on. */
  readonly decider?: "always" | number | "none";
  /** Whether images are encoded elsewhere. */
  readonly encode?: boolean;
  /** Parameters of epp-wasm-disaggregation. */
  readonly parameters?: object;
  /** Parameters of epp-wasm-gateway. */
  readonly gateway?: object;
}

/** A document whose prompts are computed by the endpoints of the role prefill. */
export function disaggregation(options: DisaggregationOptions = {}): string {
  const { decider = "always", encode = false, parameters, gateway } = options;
  const deciders = {
    ...(decider === "none" ? {} : { prefill: "prefill-decider" }),
    ...(encode ? { encode: "encode-decider" } : {}),
  };
  const prefillDecider =
    decider === "always"
      ? { type: "always-disagg-pd-decider" }
      : { type: "prefix-based-pd-decider", parameters: { nonCachedTokens: decider } };
  return JSON.stringify({
    apiVersion: "llm-d.ai/v1alpha1",
    kind: "EndpointPickerConfig",
    plugins: [
      { type: "disagg-profile-handler", parameters: { deciders } },
      ...(decider === "none" ? [] : [{ name: "prefill-decider", ...prefillDecider }]),
      ...(encode ? [{ name: "encode-decider", type: "always-disagg-multimodal-decider" }] : []),
      ...(parameters === undefined ? [] : [{ type: "epp-wasm-disaggregation", parameters }]),
      ...(gateway === undefined ? [] : [{ type: "epp-wasm-gateway", parameters: gateway }]),
    ],
  });
}

// How a replica takes part in disaggregated serving: prefill on one replica, decode on another.

/** Port of vLLM's NIXL side channel (VLLM_NIXL_SIDE_CHANNEL_PORT). */
export const NIXL_SIDE_CHANNEL_PORT = 5600;
/** Port of SGLang's bootstrap server (`--disaggregation-bootstrap-port`). */
export const SGLANG_BOOTSTRAP_PORT = 8998;
/** A decoder gives a NIXL handshake up after this, ms (vLLM 0.32.0: measured, and its receive timeout). */
const HANDSHAKE_TIMEOUT_MS = 5000;
/** SGLANG_DISAGGREGATION_BOOTSTRAP_TIMEOUT and _WAITING_TIMEOUT, ms: how long one leg waits for the other. */
const ROOM_TIMEOUT_MS = 300_000;

/** Protocol by which KV blocks go from prefiller to decoder; "none" = the fields of both are ignored. */
export type ConnectorKind = "none" | "nixl" | "sglang";

/** What a replica is for. */
export type DisaggregationRole = "prefill" | "decode" | "both";

/** Configuration; defaults: `noDisaggregation`. */
export interface DisaggregationConfig {
  readonly connector: ConnectorKind;
  /** NIXL takes any leg on any replica and looks at this only when `strict`; SGLang needs "prefill" or "decode". */
  readonly role: DisaggregationRole;
  /**
   * Refuse with 400 what a real server answers from blocks that are not there (any more): parameters that were
   * never issued, were used before, have expired, were changed, or belong to another prompt; and legs that do
   * not fit the role or are not built as a router should.
   */
  readonly strict: boolean;
  /** Port on which peers ask for blocks; 0 = a free one. */
  readonly sidePort: number;
  readonly handshakeTimeoutMs: number;
  readonly roomTimeoutMs: number;
}

/** A replica that does everything by itself. */
export function noDisaggregation(): DisaggregationConfig {
  return {
    connector: "none",
    role: "both",
    strict: false,
    sidePort: 0,
    handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    roomTimeoutMs: ROOM_TIMEOUT_MS,
  };
}

// Who brings a pool to the gateway: one of the sidecars that want to, at a time. Constants only; little-endian.
//
//   x-epp-sidecar: <id>             with every POST of a sidecar; unique to its process, LEASE_ID_BYTES_MAX at most
//   DELETE /v1/pools/<name>/lease   204: given back by the one that holds it, so that the next need not wait
//
// The first whose push is taken holds the pool. Each further push of it that is well formed renews that. While it was heard within LEASE_MS,
// pushes of others are answered with 423 {"error":{"field":"x-epp-sidecar","message":"<holder>"}} and change nothing;
// after that the next push is that of the new holder. A push without an id is taken, and is no holder's.
//
//   key "epp1/lease/<pool>"
//   ┌ 152 bytes ────────────────────────────────────────────────────────────────────────┐
//   │ 0  f64 holder heard ms   8 f64 other heard ms   16 u32 holder bytes   20 u32 other bytes │
//   │ 24 u8[64] holder, 0 bytes = none   88 u8[64] the other that was last answered 423   │
//   └───────────────────────────────────────────────────────────────────────────────────┘

export const LEASE_HEADER = "x-epp-sidecar";
/** Status of the answer to a push that another sidecar's lease forbids. */
export const LEASE_HELD_STATUS = 423;
/** Bytes of a sidecar's id. A push with a longer one is refused with 400. */
export const LEASE_ID_BYTES_MAX = 64;
/**
 * A holder that was silent for longer has lost the pool. A sidecar pushes at least every 500 ms; with the pause of the
 * next one, a heartbeat too, the load figures of the last snapshot are younger than their limit of 3 s all the while.
 */
export const LEASE_MS = 2000;

export const LEASE_BYTES = 152;
export const LEASE_AT_HOLDER_MS = 0;
export const LEASE_AT_OTHER_MS = 8;
export const LEASE_AT_HOLDER_BYTES = 16;
export const LEASE_AT_OTHER_BYTES = 20;
export const LEASE_AT_HOLDER = 24;
export const LEASE_AT_OTHER = 88;

// Hard limits shared by the filter (asc) and everything in Node (tsc). Constants only.

/** Pools one filter VM knows. A snapshot for a further pool is refused with 400. */
export const POOLS_MAX = 16;
/** Endpoints of one pool. A snapshot with more is refused; the sidecar drops the surplus and counts it. */
export const POOL_ENDPOINTS_MAX = 256;
/** Endpoint rows over all pools: row = pool index × POOL_ENDPOINTS_MAX + slot. */
export const ROWS_MAX = 4096;
/** Bytes of one pool snapshot. A larger one is refused with 413. */
export const SNAPSHOT_BYTES_MAX = 262144;
/** Bytes of a pool name. */
export const POOL_NAME_BYTES_MAX = 253;
/** Bytes of an endpoint's "ip:port" (bracketed IPv6 with zone fits). */
export const ADDRESS_BYTES_MAX = 96;
/** Models (base and LoRA names) one endpoint may list; the rest are dropped by the sidecar and counted. */
export const MODELS_MAX = 64;
/** LoRA adapters active, and as many waiting, that one endpoint may list. */
export const LORAS_MAX = 32;
/** Labels of one endpoint. */
export const LABELS_MAX = 64;
/** Concurrent streams of one worker. A stream beyond is routed by load alone and counted. */
export const STREAMS_MAX = 4096;
/**
 * Concurrent requests of sidecars to one worker, in places of their own: pushes count most where there are most streams.
 * Four kinds for each of 16 pools; one beyond is answered 503, and comes again.
 */
export const CONTROL_STREAMS_MAX = 64;
/** Prompt bytes hashed into the prefix chain; text beyond counts towards length only. */
export const PROMPT_HASHED_BYTES_MAX = 524288;
/** Nesting of a JSON body; deeper is a parse error. */
export const JSON_DEPTH_MAX = 64;
/** Workers that can own a cell; a further worker runs on its own reservations alone and says so. */
export const WORKERS_MAX = 64;
/** Entries of the prefix index, a (block, endpoint) pair each; the oldest go first when it is full. */
export const INDEX_ENTRIES_MAX = 1048576;
/** Endpoints named in the destination header: the pick and its fallbacks. */
export const DESTINATIONS_MAX = 3;

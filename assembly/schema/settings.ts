// The configurations in use: loaded, freed, and asked by the filter. The only file of this folder it needs
// besides errors.ts. A configuration is the address of its slot; 0 is none.
import { documentLoad } from "./document";
import { errorsReset, refuseFor } from "./errors";
import { NO_NODE } from "../json/tree";
import {
  SETTING_BACKOFF_MAX_MS,
  SETTING_BACKOFF_MIN_MS,
  SETTING_BODY_BYTES,
  SETTING_DECISION_BYTES,
  SETTING_DESTINATIONS,
  SETTING_EXPLAIN,
  SETTING_EXPOSE_DECISION,
  SETTING_FAIL_CLOSED,
  SETTING_MODEL_WAIT_BYTES,
  SETTING_POOL,
  SETTING_REWRITE_BYTES,
  SETTING_SAMPLE_EVERY,
  SETTING_SNAPSHOT_AGE_MS,
  SETTING_TICK_MS,
  SETTING_TRUST_MODEL,
} from "./gateway-parameters";
import {
  slotFree,
  slotHeaderName,
  slotHeaders,
  slotPlan,
  slotSessionHeader,
  slotSettings,
  slotTake,
  slotsInUse,
} from "./slots";

/**
 * Loads a document of `bytes` bytes of JSON at `ptr` (0 = all defaults), which is not needed afterwards.
 * Returns the configuration, or 0: refused, schemaErrorPtr() says why. What is worth logging once, refused or
 * not, is in schemaNoticePtr().
 */
export function configLoad(ptr: usize, bytes: u32): u32 {
  const slot = slotTake();
  if (slot == 0) {
    errorsReset();
    refuseFor(NO_NODE, "8 configurations are in use; the oldest streams must end first");
    return 0;
  }
  if (documentLoad(ptr, bytes, slot)) return <u32>slot;
  slotFree(slot);
  return 0;
}

/** Gives the configuration's place back: no stream uses it any more. */
export function configFree(config: u32): void {
  slotFree(<usize>config);
}

/** Configurations alive, at most CONFIGS_MAX (slots.ts). */
export function configsInUse(): u32 {
  return slotsInUse();
}

/** The compiled profile, for schedule(). */
export function configPlan(config: u32): usize {
  return slotPlan(<usize>config);
}

/** Body bytes waited for before deciding. */
export function configDecisionBytesMax(config: u32): u32 {
  return load<u32>(slotSettings(<usize>config), SETTING_DECISION_BYTES);
}

/** Body bytes waited for while the model is not known, in a pool of several models. */
export function configModelWaitBytesMax(config: u32): u32 {
  return load<u32>(slotSettings(<usize>config), SETTING_MODEL_WAIT_BYTES);
}

/** Body bytes held where the model may have to be rewritten. */
export function configRewriteBytesMax(config: u32): u32 {
  return load<u32>(slotSettings(<usize>config), SETTING_REWRITE_BYTES);
}

/** Whether a request's x-llm-d-model-name-rewrite is the gateway's own word, not a client's. */
export function configTrustsModelHeader(config: u32): bool {
  return load<u8>(slotSettings(<usize>config), SETTING_TRUST_MODEL) != 0;
}

/** Bytes beyond which a content-length is answered 413. */
export function configBodyBytesMax(config: u32): u32 {
  return load<u32>(slotSettings(<usize>config), SETTING_BODY_BYTES);
}

/** Name of the pool of requests that nothing else assigns; configPoolNameBytes 0 = none. */
export function configPoolName(config: u32): usize {
  return <usize>load<u32>(slotSettings(<usize>config), SETTING_POOL);
}

export function configPoolNameBytes(config: u32): u32 {
  const pool = configPoolName(config);
  return pool == 0 ? 0 : load<u32>(pool - 4);
}

/** Age in ms beyond which the load figures of a snapshot are ignored. */
export function configSnapshotAgeMaxMs(config: u32): f64 {
  return load<f64>(slotSettings(<usize>config), SETTING_SNAPSHOT_AGE_MS);
}

/** Whether a request is answered 503, instead of balanced by Envoy, while there is no snapshot. */
export function configFailClosed(config: u32): bool {
  return load<u8>(slotSettings(<usize>config), SETTING_FAIL_CLOSED) != 0;
}

/** Endpoints in the destination header, 1…DESTINATIONS_MAX. */
export function configDestinations(config: u32): u32 {
  return load<u32>(slotSettings(<usize>config), SETTING_DESTINATIONS);
}

/** For how long, in ms, a host is set aside at its first failure. */
export function configRetryBackoffMinMs(config: u32): f64 {
  return load<f64>(slotSettings(<usize>config), SETTING_BACKOFF_MIN_MS);
}

/** For how long, in ms, it is set aside at most. */
export function configRetryBackoffMaxMs(config: u32): f64 {
  return load<f64>(slotSettings(<usize>config), SETTING_BACKOFF_MAX_MS);
}

/** Every n-th stream has its response read for usage; 0 = none. */
export function configResponseSampleEvery(config: u32): u32 {
  return load<u32>(slotSettings(<usize>config), SETTING_SAMPLE_EVERY);
}

/** How often, in ms, other workers' cells and journals are read. */
export function configTickMs(config: u32): u32 {
  return load<u32>(slotSettings(<usize>config), SETTING_TICK_MS);
}

/** Whether each decision is set as filter state. */
export function configExposeDecision(config: u32): bool {
  return load<u8>(slotSettings(<usize>config), SETTING_EXPOSE_DECISION) != 0;
}

/** Whether a client that asks is told why its endpoint was chosen. */
export function configExplain(config: u32): bool {
  return load<u8>(slotSettings(<usize>config), SETTING_EXPLAIN) != 0;
}

/** Request headers to note for the scheduler, at most REQUEST_HEADERS_MAX (schedule/request.ts). */
export function configHeaderCount(config: u32): u32 {
  return slotHeaders(<usize>config);
}

/** Name of the header at `index`, a Text in lower case. */
export function configHeaderName(config: u32, index: u32): usize {
  return slotHeaderName(<usize>config, index);
}

/** Name (Text) of the response header that carries the session's token, or 0. */
export function configSessionHeader(config: u32): usize {
  return slotSessionHeader(<usize>config);
}

// Metrics and faults of the exact index on its way to the gateway.
import { type EndpointIndex, INDEX_REASONS } from "../kv-index/endpoint-index.ts";
import type { KvPush } from "../kv-index/kv-push.ts";
import { DEGRADED_REASONS } from "../kv-events/replica-state.ts";
import type { Add, Row } from "./metric-adder.ts";

/** What is measured. */
export interface KvIndexSource {
  readonly kvPushes: readonly KvPush[];
  now(): number;
}

/** Reasons that the views of single engines do not tell. */
const OWN_REASONS = INDEX_REASONS.filter(
  (reason) => reason !== "not-sent" && !(DEGRADED_REASONS as readonly string[]).includes(reason),
);

/** Adds the `epp_sidecar_kv_index_*` metrics; pools that follow no events have none. */
export function addKvIndexMetrics(add: Add, source: KvIndexSource): void {
  const perPool = (figure: (push: KvPush) => number) => (): Row[] =>
    source.kvPushes
      .map((push) => [{ pool: push.pool }, figure(push)] as const)
      .filter(([, value]) => !Number.isNaN(value));
  const perEndpoint = (figure: (endpoint: EndpointIndex) => number) => (): Row[] =>
    source.kvPushes.flatMap(({ pool, index }) =>
      [...index.endpoints.values()].map(
        (endpoint) => [{ pool, endpoint: endpoint.address }, figure(endpoint)] as const,
      ),
    );
  const endpointLabels = ["pool", "endpoint"];
  add(
    "gauge",
    "epp_sidecar_kv_index_entries",
    "Cells that the endpoint holds, of 64 bytes of prompt each.",
    endpointLabels,
    perEndpoint(({ entries }) => entries),
  );
  add(
    "gauge",
    "epp_sidecar_kv_index_told_entries",
    "Cells that the gateway has of it, or will have after the batches that are written.",
    endpointLabels,
    perEndpoint(({ held }) => held),
  );
  add(
    "gauge",
    "epp_sidecar_kv_index_exact",
    "1 = the gateway was told that what it has is all.",
    endpointLabels,
    perEndpoint(({ shownReason }) => (shownReason === null ? 1 : 0)),
  );
  add(
    "gauge",
    "epp_sidecar_kv_index_degraded",
    "1 = why the endpoint is matched by the approximate index.",
    [...endpointLabels, "reason"],
    () =>
      source.kvPushes.flatMap(({ pool, index }) =>
        [...index.endpoints.values()].flatMap(({ address, shownReason: reason }) =>
          reason === null ? [] : [[{ pool, endpoint: address, reason }, 1] as const],
        ),
      ),
  );
  add("counter", "epp_sidecar_kv_index_batches_total", "Batches sent, by outcome.", ["pool", "result"], () =>
    source.kvPushes.flatMap(({ pool, counts }) =>
      (["accepted", "busy", "refused", "failed"] as const).map(
        (result) => [{ pool, result }, counts[result]] as const,
      ),
    ),
  );
  add(
    "counter",
    "epp_sidecar_kv_index_sessions_total",
    "Times that all was told from the beginning.",
    ["pool"],
    perPool(({ counts }) => counts.sessions),
  );
  add(
    "counter",
    "epp_sidecar_kv_index_copies_total",
    "Copies of an endpoint's cells begun.",
    ["pool"],
    perPool(({ composer }) => composer.counts.copies),
  );
  add("counter", "epp_sidecar_kv_index_cells_total", "Cells told, by kind.", ["pool", "kind"], () =>
    source.kvPushes.flatMap(({ pool, composer: { counts } }) => [
      [{ pool, kind: "changed" }, counts.changes] as const,
      [{ pool, kind: "copied" }, counts.copied] as const,
    ]),
  );
  add(
    "gauge",
    "epp_sidecar_kv_index_lag_seconds",
    "From a change to the gateway's answer.",
    ["pool"],
    perPool((push) => push.lagSeconds(source.now())),
  );
  add(
    "gauge",
    "epp_sidecar_kv_index_memory_bytes",
    "Memory of the cells' tables.",
    ["pool"],
    perPool(({ index }) => index.bytes),
  );
}

/** Sentences about what the engines' views do not tell: endpoints left out, and batches that are not taken. */
export function kvIndexFaults({ pool, index, lastError }: KvPush): string[] {
  const faults: string[] = [];
  const reasons = [...index.endpoints.values()].map(({ reason }) => reason);
  for (const reason of OWN_REASONS) {
    const count = reasons.filter((found) => found === reason).length;
    if (count === 0) continue;
    faults.push(
      `pool ${pool}: ${count} of ${reasons.length} endpoints are not in the exact index: ${reason}`,
    );
  }
  if (lastError !== null) faults.push(`pool ${pool}: its exact index is not taken: ${lastError.message}`);
  return faults;
}

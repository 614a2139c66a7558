// Envoy metrics of the exact index by pool; its totals are among the counters'.
import { METRIC_GAUGE } from "../abi/constants";
import { recordMetric } from "../abi/host";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { exactEntries, isExact } from "../prefix/exact-rows";
import { rowOf } from "../pool/rows";
import { perPool } from "./metrics";

const exactIds: usize = memory.data(17 * 4, 4);
const entriesIds: usize = memory.data(17 * 4, 4);

/** Shows how many endpoints of the pool are exact here, and how many entries they have; once a second, from the tick. */
export function meterKv(pool: u32): void {
  let exact: u32 = 0;
  let entries: u32 = 0;
  for (let slot: u32 = 0; slot < <u32>POOL_ENDPOINTS_MAX; slot++) {
    if (isExact(rowOf(pool, slot))) exact++;
    entries += exactEntries(rowOf(pool, slot));
  }
  recordMetric(perPool(exactIds, METRIC_GAUGE, "epp_kv_exact_endpoints", pool), exact);
  recordMetric(perPool(entriesIds, METRIC_GAUGE, "epp_kv_entries", pool), entries);
}

// Hosts that failed are set aside, on all workers: with data-parallel ranks all those that share the host.
import { markBusy, markChanged } from "../flow/reservations";
import { noteFailure } from "../pool/health";
import { rowAddressPtr } from "../pool/labels";
import { COLUMN_GENERATION, rowU32 } from "../pool/rows";
import { configRetryBackoffMaxMs, configRetryBackoffMinMs } from "../schema/settings";
import { configDataParallel } from "../schema/stage-settings";
import { POOL_ENDPOINTS_MAX } from "../wire/limits";
import { hostBytes } from "./stages";

/** The row's host refused the connection, or broke it before it answered. */
export function setHostAside(row: u32, config: u32, now: f64): void {
  if (!configDataParallel(config)) return setAside(row, config, now);
  const first = row - (row % POOL_ENDPOINTS_MAX);
  for (let one = first; one < first + POOL_ENDPOINTS_MAX; one++) {
    if (rowU32(COLUMN_GENERATION, one) != 0 && isSamePod(one, row)) setAside(one, config, now);
  }
}

function setAside(row: u32, config: u32, now: f64): void {
  noteFailure(row, now, configRetryBackoffMinMs(config), configRetryBackoffMaxMs(config));
  markBusy(row);
  markChanged();
}

function isSamePod(one: u32, other: u32): bool {
  const bytes = hostBytes(one);
  return bytes == hostBytes(other) && memory.compare(rowAddressPtr(one), rowAddressPtr(other), bytes) == 0;
}

// Whether the sidecar does its job, and if not fully, why.
import { labelOf, ROLE_LABEL, ROLE_VALUES } from "../discovery/endpoint.ts";
import type { KvPush } from "../kv-index/kv-push.ts";
import type { Pool } from "../pool.ts";
import type { Pusher } from "../push/pusher.ts";
import { kvEventsFaults } from "./kv-events-metrics.ts";
import { kvIndexFaults } from "./kv-index-metrics.ts";
import { promptFaults } from "./prompt-metrics.ts";

/** What /readyz answers. */
export interface Readiness {
  /** Every pool's snapshot is taken over by the gateway, and fresh: this sidecar's, or another's that brings the pool. */
  readonly ready: boolean;
  readonly status: "ready" | "standby" | "degraded" | "not-ready" | "stopping";
  /** One sentence a fault; empty when the status is "ready". */
  readonly reasons: readonly string[];
}

/**
 * Not ready: a pool whose snapshot the gateway does not take. Degraded, but ready: the snapshot is taken and
 * says less than it could, because discovery or endpoints fail. Standby: another sidecar brings a pool, and this one waits.
 */
export function readinessOf(
  pushers: readonly Pusher[],
  kvPushes: readonly KvPush[],
  stopping: boolean,
  nowMs: number,
): Readiness {
  if (stopping) return { ready: false, status: "stopping", reasons: ["the sidecar is stopping"] };
  const missing = pushers
    .filter((pusher) => pusher.standbyBehind === null && !pusher.upToDate(nowMs))
    .map((pusher) => pushFault(pusher, nowMs));
  const degraded = pushers.flatMap(({ pool, policy, prompts }) => [
    ...(policy.lastError === null ? [] : [refusal(pool, "policy was", policy.lastError)]),
    ...(prompts.lastError === null ? [] : [refusal(pool, "prompt programs were", prompts.lastError)]),
    ...poolFaults(pool),
  ]);
  const waiting = pushers.filter(({ standbyBehind }) => standbyBehind !== null).map(standbyNote);
  const ready = missing.length === 0;
  const faults = [...missing, ...degraded, ...kvPushes.flatMap(kvIndexFaults)];
  const reasons = [...faults, ...waiting];
  if (!ready) return { ready, status: "not-ready", reasons };
  const status = faults.length > 0 ? "degraded" : waiting.length > 0 ? "standby" : "ready";
  return { ready, status, reasons };
}

function standbyNote({ pool, standbyBehind }: Pusher): string {
  return `pool ${pool.name}: sidecar ${standbyBehind} brings it to the gateway; this one takes over when that is silent`;
}

function pushFault(pusher: Pusher, nowMs: number): string {
  const { pool, lastError, acceptedAtMs } = pusher;
  const since = Number.isFinite(acceptedAtMs)
    ? `was last taken by the gateway ${Math.round(nowMs - acceptedAtMs)} ms ago`
    : "was never taken by the gateway";
  return `pool ${pool.name}: its snapshot ${since}${lastError === null ? "" : `: ${lastError.message}`}`;
}

function refusal(pool: Pool, what: string, error: Error): string {
  return `pool ${pool.name}: its ${what} refused, the last good one stays: ${error.message}`;
}

function poolFaults(pool: Pool): string[] {
  const faults: string[] = [];
  if (pool.discoveryError !== null) faults.push(`pool ${pool.name}: ${pool.discoveryError.message}`);
  if (pool.policyError !== null) faults.push(`pool ${pool.name}: policy: ${pool.policyError.message}`);
  if (pool.drops.surplusEndpoints > 0) {
    faults.push(
      `pool ${pool.name}: ${pool.drops.surplusEndpoints} endpoints are beyond the limit and left out`,
    );
  }
  const total = pool.monitors.size;
  const notReady = total - pool.readyEndpoints;
  if (total === 0) faults.push(`pool ${pool.name}: it has no endpoints`);
  else if (notReady > 0) faults.push(`pool ${pool.name}: ${notReady} of ${total} endpoints are not ready`);
  let withoutLoad = 0;
  for (const monitor of pool.monitors.values()) if (monitor.usable && !monitor.hasLoad) withoutLoad += 1;
  if (withoutLoad > 0) faults.push(`pool ${pool.name}: ${withoutLoad} of ${total} endpoints publish no load`);
  const roleless = [...pool.monitors.values()].filter(({ description }) => description.roles === 0);
  if (roleless.length > 0) {
    const value = JSON.stringify(labelOf(roleless[0]!.description, ROLE_LABEL));
    faults.push(
      `pool ${pool.name}: ${roleless.length} of ${total} endpoints have no known role: ` +
        `label ${ROLE_LABEL}: ${value}: expected one of ${ROLE_VALUES}`,
    );
  }
  return [...faults, ...kvEventsFaults(pool), ...promptFaults(pool)];
}

// Metrics and faults of the KV events that the sidecar follows.
import type { FollowedEngine } from "../kv-events/monitor.ts";
import { DEGRADED_REASONS } from "../kv-events/replica-state.ts";
import type { Pool } from "../pool.ts";
import type { Add, Row } from "./metric-adder.ts";

const ENGINE_LABELS = ["pool", "endpoint", "rank"];

type Figure = (engine: FollowedEngine) => number;

/** Counters of one engine, by name. */
const COUNTERS: readonly (readonly [name: string, help: string, figure: Figure])[] = [
  ["epp_kv_events_batches_total", "Batches of events applied.", ({ counts }) => counts.batches],
  ["epp_kv_events_bad_messages_total", "Messages that could not be read.", ({ counts }) => counts.bad],
  [
    "epp_kv_events_duplicates_total",
    "Batches that came again, or late from a process that is gone.",
    ({ counts }) => counts.duplicates,
  ],
  ["epp_kv_events_gaps_total", "Times that batches were missing.", ({ counts }) => counts.gaps],
  [
    "epp_kv_events_replays_total",
    "Times that the engine was asked for batches.",
    ({ counts }) => counts.replays,
  ],
  [
    "epp_kv_events_replayed_batches_total",
    "Batches applied from replays.",
    ({ counts }) => counts.replayedBatches,
  ],
  [
    "epp_kv_events_replay_failures_total",
    "Replays not answered to their end.",
    ({ counts }) => counts.replayFailures,
  ],
  [
    "epp_kv_events_restarts_total",
    "Times that the engine was another process.",
    ({ counts }) => counts.restarts,
  ],
  [
    "epp_kv_events_histories_lost_total",
    "Times that batches were missed for good.",
    ({ counts }) => counts.historiesLost,
  ],
  [
    "epp_kv_events_unmatched_removals_total",
    "Removals of blocks not known to be there.",
    ({ counts }) => counts.unmatched,
  ],
  [
    "epp_kv_events_ignored_total",
    "Events of other attention groups and of foreign media.",
    ({ counts }) => counts.ignored,
  ],
];

/** Adds the `epp_kv_events_*` metrics; pools that follow no events have none. */
export function addKvEventsMetrics(add: Add, { pools }: { readonly pools: readonly Pool[] }): void {
  const perEngine = (figure: Figure) => (): Row[] =>
    enginesOf(pools)
      .map(([labels, engine]) => [labels, figure(engine)] as const)
      .filter(([, value]) => !Number.isNaN(value));
  for (const [name, help, figure] of COUNTERS) {
    add("counter", name, help, ENGINE_LABELS, perEngine(figure));
  }
  add("counter", "epp_kv_events_total", "Events applied, by kind.", [...ENGINE_LABELS, "event"], () =>
    enginesOf(pools).flatMap(([labels, { counts }]) =>
      (["stored", "removed", "cleared"] as const).map(
        (event) => [{ ...labels, event }, counts[event]] as const,
      ),
    ),
  );
  add(
    "gauge",
    "epp_kv_events_exact",
    "1 = the view of the engine's cache is exact.",
    ENGINE_LABELS,
    perEngine(({ state }) => (state.degraded === null ? 1 : 0)),
  );
  add("gauge", "epp_kv_events_degraded", "1 = why the view is not exact.", [...ENGINE_LABELS, "reason"], () =>
    enginesOf(pools).flatMap(
      ([
        labels,
        {
          state: { degraded: reason },
        },
      ]) => (reason === null ? [] : [[{ ...labels, reason }, 1] as const]),
    ),
  );
  add(
    "gauge",
    "epp_kv_events_blocks",
    "Blocks known of the engine.",
    ENGINE_LABELS,
    perEngine(({ blocks }) => blocks.size),
  );
  add(
    "gauge",
    "epp_kv_events_lag_seconds",
    "From the engine's writing to our applying of its last batch, by both clocks.",
    ENGINE_LABELS,
    perEngine(({ lagSeconds }) => lagSeconds),
  );
  add("gauge", "epp_kv_events_known_tokens", "Token ids whose bytes are known.", ["pool"], () =>
    pools.flatMap(({ name, kvEvents }) =>
      kvEvents === null ? [] : [[{ pool: name }, kvEvents.knownTokens] as const],
    ),
  );
}

/** One sentence if some of a pool's views are not exact: how many, and why, as "history-lost (2)". */
export function kvEventsFaults({ name, kvEvents }: Pool): string[] {
  if (kvEvents === null) return [];
  const engines = [...kvEvents.engines];
  const degraded = engines.map(({ state }) => state.degraded);
  const reasons = DEGRADED_REASONS.map(
    (reason) => [reason, degraded.filter((found) => found === reason).length] as const,
  ).filter(([, count]) => count > 0);
  if (reasons.length === 0) return [];
  const total = reasons.reduce((sum, [, count]) => sum + count, 0);
  const why = reasons.map(([reason, count]) => `${reason} (${count})`).join(", ");
  return [
    `pool ${name}: the KV caches of ${total} of ${engines.length} engines are not known exactly: ${why}`,
  ];
}

function enginesOf(pools: readonly Pool[]): (readonly [Record<string, string>, FollowedEngine])[] {
  return pools.flatMap(({ name, kvEvents }) =>
    [...(kvEvents?.engines ?? [])].map((engine) => {
      const { address, rank } = engine.replica;
      return [{ pool: name, endpoint: address, rank: String(rank) }, engine] as const;
    }),
  );
}

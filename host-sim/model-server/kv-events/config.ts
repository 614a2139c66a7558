// How a replica publishes its KV events.

/** vLLM's `hwm`: messages that wait for a subscriber; beyond it they are dropped. */
export const QUEUE_MESSAGES_MAX = 100_000;

/** Where a publisher can be reached: "tcp://host:port". */
export interface EventSource {
  readonly endpoint: string;
  readonly replayEndpoint: string;
}

/** Publishing of one replica; each of its engines has sockets of its own. */
export interface KvEventsConfig {
  /** Port of rank 0's publisher, the other ranks follow; 0 = free ports. */
  readonly port: number;
  /** The same of the replay socket. */
  readonly replayPort: number;
  readonly topic: string;
  /** Events as maps (vLLM 0.32), or as arrays with fewer fields and replays without topics (older engines). */
  readonly encoding: "map" | "array";
  /** Block hashes as unsigned or signed 64-bit integers, or as 32 bytes. */
  readonly hashes: "uint64" | "int64" | "bytes";
  /** Batches kept for replays (vLLM's buffer_steps, 10,000 by default). */
  readonly bufferSteps: number;
}

/** vLLM's defaults, on free ports. */
export function kvEventsConfig(overrides: Partial<KvEventsConfig> = {}): KvEventsConfig {
  return {
    port: 0,
    replayPort: 0,
    topic: "",
    encoding: "map",
    hashes: "uint64",
    bufferSteps: 10_000,
    ...overrides,
  };
}

/** Misbehaviour of publishers: each number is of further batches, and counts down. The replay is never wrong. */
export interface KvEventsFaults {
  /** Not sent. */
  kvEventsDrop: number;
  /** Sent twice. */
  kvEventsDuplicate: number;
  /** Sent with other bytes. */
  kvEventsGarbage: number;
  /** Sent after the one that follows. */
  kvEventsReorder: number;
}

/** A healthy publisher. */
export function noKvEventsFaults(): KvEventsFaults {
  return { kvEventsDrop: 0, kvEventsDuplicate: 0, kvEventsGarbage: 0, kvEventsReorder: 0 };
}

/** The answer of vLLM's GET /kv_event_sources: each rank's publisher. */
export function kvEventSources(config: KvEventsConfig | null, sources: readonly EventSource[]): object {
  if (config === null) return {};
  const entries = sources.map(({ endpoint, replayEndpoint }, rank) => [
    rank,
    {
      enable_kv_cache_events: true,
      publisher: "zmq",
      endpoint,
      replay_endpoint: replayEndpoint,
      buffer_steps: config.bufferSteps,
      hwm: QUEUE_MESSAGES_MAX,
      max_queue_size: QUEUE_MESSAGES_MAX,
      topic: config.topic,
    },
  ]);
  return Object.fromEntries(entries) as object;
}

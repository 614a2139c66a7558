// How a simulated replica is configured, and the faults that can be put into it.
import { type DisaggregationConfig, noDisaggregation } from "./disaggregation/config.ts";
import { type KvEventsConfig, type KvEventsFaults, noKvEventsFaults } from "./kv-events/config.ts";
import { defaultEngineConfig } from "./engine.ts";
import type { GenerationOptions } from "./generation.ts";
import { SIMULATED_MODEL } from "./text-model.ts";

/** Version that the replica claims to be; its behaviour was compared with this one. */
export const VLLM_VERSION = "0.32.0";

/** Configuration of one replica. Defaults: `replicaConfig`. */
export interface ReplicaConfig extends GenerationOptions {
  /** Name told in `x-served-by` and hashed into `system_fingerprint`. */
  readonly name: string;
  readonly modelName: string;
  /** LoRA adapters that can be asked for by name (`--lora-modules`). */
  readonly loraModules: readonly string[];
  /** 127.0.0.1 unless said otherwise; 0 = a free port. */
  readonly host: string;
  readonly port: number;
  /** Answer with the request's `x-request-id` header (`--enable-request-id-headers`). */
  readonly requestIdHeaders: boolean;
  /**
   * Milliseconds between `: keep-alive` comments on a silent stream; 0 = none (`--sse-keep-alive-interval`).
   */
  readonly keepAliveCommentMs: number;
  /** Idle connections are closed after this (uvicorn's timeout_keep_alive, 5 s by default). */
  readonly keepAliveTimeoutMs: number;
  /**
   * Also serve /v1/embeddings, /pooling, /score and /rerank. A real server has either these or the generating
   * APIs, by its model; a simulated one can have both.
   */
  readonly poolingApis: boolean;
  /** How it shares the work of a call with other replicas. */
  readonly disaggregation: DisaggregationConfig;
  /** How it publishes what its caches hold; null = it does not. */
  readonly kvEvents: KvEventsConfig | null;
}

/** A replica's configuration: vLLM's defaults and Llama-3.3-70B, unless overridden. */
export function replicaConfig(overrides: Partial<ReplicaConfig> = {}): ReplicaConfig {
  return {
    name: "replica-0",
    modelName: "meta-llama/Llama-3.3-70B-Instruct",
    loraModules: [],
    host: "127.0.0.1",
    port: 0,
    engine: defaultEngineConfig(),
    dataParallelSize: 1,
    modelTokensMax: 131_072,
    requestsMax: Number.POSITIVE_INFINITY,
    textModel: SIMULATED_MODEL,
    requestIdHeaders: false,
    keepAliveCommentMs: 0,
    keepAliveTimeoutMs: 5000,
    poolingApis: true,
    disaggregation: noDisaggregation(),
    kvEvents: null,
    ...overrides,
  };
}

/** Misbehaviour of a replica. All off by default. */
export interface Faults extends KvEventsFaults {
  /** Answer this many further API requests with `errorStatus`; counts down. */
  errors: number;
  errorStatus: number;
  /** Reset the connection after this many tokens of a response; −1 = never. */
  resetAfterTokens: number;
  /** Reset the connection as soon as a request's headers are read. */
  resetOnRequest: boolean;
  /** Hold every API request back this long before it is looked at. */
  delayMs: number;
  /** Steps take this many times as long. */
  slowdown: number;
}

/** A healthy replica. */
export function noFaults(): Faults {
  return {
    errors: 0,
    errorStatus: 500,
    resetAfterTokens: -1,
    resetOnRequest: false,
    delayMs: 0,
    slowdown: 1,
    ...noKvEventsFaults(),
  };
}

// What each inference engine calls its metrics: one table entry an engine, no code.

/** A metric and the label values its lines must have: `name{label=value}`. */
export interface MetricSpec {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** How the KV cache's size is published: as labels of an info metric, or as gauges. */
export interface CacheSpec {
  readonly info: MetricSpec | null;
  readonly blockTokensLabel: string;
  readonly blocksLabel: string;
  readonly blockTokens: MetricSpec | null;
  readonly blocks: MetricSpec | null;
}

/** One engine. A list of specs is in order of preference: the first that is on the page counts. */
export interface EngineSpec {
  /** llm-d's engine name: the value of the label `llm-d.ai/engine-type`. */
  readonly name: string;
  readonly waiting: readonly MetricSpec[];
  readonly running: readonly MetricSpec[];
  /** Share of the KV cache in use, 0–1. */
  readonly kvUsage: readonly MetricSpec[];
  readonly caches: readonly CacheSpec[];
  readonly lora: MetricSpec | null;
  readonly preemptions: MetricSpec | null;
  readonly promptTokens: MetricSpec | null;
  readonly generationTokens: MetricSpec | null;
  /** Counters that fall only at a restart, besides the two token counters. */
  readonly restartCounters: readonly MetricSpec[];
  /** Gauge whose `sleep_state="awake"` line is 0 while the engine sleeps. */
  readonly sleepState: MetricSpec | null;
  /** Label that tells independent schedulers on one page apart; null = every line is one. */
  readonly rankLabel: string | null;
  /** GPU figures that the engine's own page has; DCGM's are preferred where both are known. */
  readonly gpuUtilization: MetricSpec | null;
  readonly gpuMemoryUsed: MetricSpec | null;
  readonly gpuMemoryTotal: MetricSpec | null;
}

const NOTHING = {
  waiting: [],
  running: [],
  kvUsage: [],
  caches: [],
  lora: null,
  preemptions: null,
  promptTokens: null,
  generationTokens: null,
  restartCounters: [],
  sleepState: null,
  rankLabel: null,
  gpuUtilization: null,
  gpuMemoryUsed: null,
  gpuMemoryTotal: null,
} as const satisfies Omit<EngineSpec, "name">;

/** An engine with only a name: what configuration adds to is all it has. */
export function emptyEngine(name: string): EngineSpec {
  return { name, ...NOTHING };
}

function metric(name: string, labels: Record<string, string> = {}): MetricSpec {
  return { name, labels };
}

function cacheInfo(name: string, blockTokensLabel: string, blocksLabel: string): CacheSpec {
  return { info: metric(name), blockTokensLabel, blocksLabel, blockTokens: null, blocks: null };
}

function cacheGauges(blockTokens: MetricSpec, blocks: MetricSpec): CacheSpec {
  return { info: null, blockTokensLabel: "", blocksLabel: "", blockTokens, blocks };
}

/** vLLM; `gpu_cache_usage_perc` is the name before 0.10, `lora_requests_info` needs --enable-lora. */
export const VLLM: EngineSpec = {
  ...NOTHING,
  name: "vllm",
  waiting: [metric("vllm:num_requests_waiting")],
  running: [metric("vllm:num_requests_running")],
  kvUsage: [metric("vllm:kv_cache_usage_perc"), metric("vllm:gpu_cache_usage_perc")],
  caches: [cacheInfo("vllm:cache_config_info", "block_size", "num_gpu_blocks")],
  lora: metric("vllm:lora_requests_info"),
  preemptions: metric("vllm:num_preemptions_total"),
  promptTokens: metric("vllm:prompt_tokens_total"),
  generationTokens: metric("vllm:generation_tokens_total"),
  sleepState: metric("vllm:engine_sleep_state", { sleep_state: "awake" }),
};

/** SGLang; every tensor-parallel rank may publish the same scheduler's figures, hence the rank label. */
export const SGLANG: EngineSpec = {
  ...NOTHING,
  name: "sglang",
  waiting: [metric("sglang:num_queue_reqs")],
  running: [metric("sglang:num_running_reqs")],
  kvUsage: [metric("sglang:token_usage")],
  caches: [
    cacheGauges(metric("sglang:page_size"), metric("sglang:num_pages")),
    cacheInfo("sglang:cache_config_info", "page_size", "num_pages"),
  ],
  promptTokens: metric("sglang:prompt_tokens_total"),
  generationTokens: metric("sglang:generation_tokens_total"),
  rankLabel: "dp_rank",
};

/** TensorRT-LLM's own server; its Prometheus page is at /prometheus/metrics (/metrics is JSON there). */
export const TRTLLM_SERVE: EngineSpec = {
  ...NOTHING,
  name: "trtllm-serve",
  waiting: [metric("trtllm_num_requests_waiting")],
  running: [metric("trtllm_num_requests_running")],
  kvUsage: [metric("trtllm_kv_cache_utilization")],
  caches: [cacheGauges(metric("trtllm_kv_cache_tokens_per_block"), metric("trtllm_kv_cache_max_blocks"))],
  promptTokens: metric("trtllm_prompt_tokens_total"),
  generationTokens: metric("trtllm_generation_tokens_total"),
  restartCounters: [metric("trtllm_request_success_total")],
};

const TRITON_GPU = {
  restartCounters: [metric("nv_inference_request_success")],
  gpuUtilization: metric("nv_gpu_utilization"),
  gpuMemoryUsed: metric("nv_gpu_memory_used_bytes"),
  gpuMemoryTotal: metric("nv_gpu_memory_total_bytes"),
} as const;

/** Triton with the TensorRT-LLM backend. */
export const TRITON_TENSORRT_LLM: EngineSpec = {
  ...NOTHING,
  ...TRITON_GPU,
  name: "triton-tensorrt-llm",
  waiting: [metric("nv_trt_llm_request_metrics", { request_type: "waiting" })],
  running: [metric("nv_trt_llm_request_metrics", { request_type: "scheduled" })],
  kvUsage: [metric("nv_trt_llm_kv_cache_block_metrics", { kv_cache_block_type: "fraction" })],
  caches: [
    cacheGauges(
      metric("nv_trt_llm_kv_cache_block_metrics", { kv_cache_block_type: "tokens_per" }),
      metric("nv_trt_llm_kv_cache_block_metrics", { kv_cache_block_type: "max" }),
    ),
  ],
};

/**
 * Plain Triton. llm-d reads `nv_inference_exec_count` as running requests; that is a counter of executions
 * since start, so it is not read here: Triton publishes no gauge of running requests.
 */
export const TRITON: EngineSpec = {
  ...NOTHING,
  ...TRITON_GPU,
  name: "triton",
  waiting: [metric("nv_inference_pending_request_count")],
};

/** In order of detection: a Triton-TRT-LLM page also has plain Triton's metrics. */
export const BUILT_IN_ENGINES: readonly EngineSpec[] = [
  VLLM,
  SGLANG,
  TRTLLM_SERVE,
  TRITON_TENSORRT_LLM,
  TRITON,
];

/** Label on an endpoint that names its engine (llm-d's default engineLabelKey). */
export const ENGINE_LABEL = "llm-d.ai/engine-type";

/**
 * Parses llm-d's metric specification `name` or `name{label=value,…}`, quotes optional; "" is null.
 * @throws Error with the offending text
 */
export function parseMetricSpec(text: string): MetricSpec | null {
  const trimmed = text.trim();
  if (trimmed === "") return null;
  const parts = /^([A-Za-z_:][A-Za-z0-9_:]*)\s*(?:\{(.*)\})?$/s.exec(trimmed);
  if (parts === null)
    throw new Error(`${JSON.stringify(text)} is not a metric specification like name{label=value}`);
  const labels: Record<string, string> = {};
  let rest = (parts[2] ?? "").trim();
  while (rest !== "") {
    const label = /^([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^",}\s]+))\s*(?:,\s*|$)/.exec(
      rest,
    );
    if (label === null)
      throw new Error(`${JSON.stringify(text)} has a label that is not name=value: ${rest}`);
    labels[label[1]!] = label[3] ?? label[2]!.replace(/\\(.)/g, "$1");
    rest = rest.slice(label[0].length);
  }
  return { name: parts[1]!, labels };
}

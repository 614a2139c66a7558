// The /metrics page of a replica: vLLM 0.32.0's metric names and label sets.
import type { KvConnector } from "./disaggregation/leg.ts";
import type { Engine } from "./engine.ts";
import { Exposition, type Labels } from "./exposition.ts";
import type { SequenceEngine } from "./generation-types.ts";
import type { HttpMetrics } from "./http-metrics.ts";
import { type EngineMetrics, FINISH_REASONS, type Histogram } from "./metrics.ts";

/** Label sets of `vllm:lora_requests_info` kept; vLLM never drops one, here the oldest goes. */
const LORA_LABEL_SETS_MAX = 64;

/** What the page is made from. */
export interface PageSource {
  readonly modelName: string;
  readonly engines: readonly SequenceEngine[];
  readonly http: HttpMetrics;
  readonly rejections: number;
  readonly lorasMax: number;
  /** Whether the server has LoRA enabled: without it there is no lora_requests_info. */
  readonly loraEnabled: boolean;
  /** Unix seconds at which the counters started. */
  readonly startSeconds: number;
  /** Writes what the replica's connector measures; undefined: it has none. */
  readonly connector: Pick<KvConnector, "writeMetrics"> | undefined;
}

/** Writes the page and remembers LoRA label sets, which stay on it with the time they were last true. */
export class MetricsPage {
  private readonly loraSets = new Map<string, { labels: Labels; seconds: number }>();

  render(source: PageSource, nowSeconds: number): string {
    const page = new Exposition(source.startSeconds);
    writeProcess(page, source.startSeconds);
    writeGauges(page, source);
    writeCounters(page, source);
    writeHistograms(page, source);
    page.gauge(
      "vllm:cache_config_info",
      "Configuration of the KV cache.",
      perEngine(source, () => 1, cacheLabels),
    );
    source.connector?.writeMetrics(page, source.modelName);
    if (source.loraEnabled) this.writeLoras(page, source, nowSeconds);
    source.http.write(page);
    return page.text();
  }

  private writeLoras(page: Exposition, source: PageSource, nowSeconds: number): void {
    const names = (of: "running" | "waiting"): string =>
      [...new Set(source.engines.flatMap(({ engine }) => engine.loraNames(of)))].join(",");
    const labels: Labels = {
      max_lora: String(source.lorasMax),
      running_lora_adapters: names("running"),
      waiting_lora_adapters: names("waiting"),
    };
    const key = `${labels["running_lora_adapters"]} ${labels["waiting_lora_adapters"]}`;
    this.loraSets.delete(key);
    this.loraSets.set(key, { labels, seconds: nowSeconds });
    if (this.loraSets.size > LORA_LABEL_SETS_MAX) this.loraSets.delete(this.loraSets.keys().next().value!);
    const samples = [...this.loraSets.values()].map(({ labels: set, seconds }) => [set, seconds] as const);
    page.gauge(
      "vllm:lora_requests_info",
      "Adapters of running and waiting requests; the newest set counts.",
      samples,
    );
  }
}

type Sample = readonly [Labels, number];

function perEngine(
  source: PageSource,
  value: (engine: Engine, metrics: EngineMetrics) => number,
  more: (engine: Engine) => Labels = () => ({}),
): Sample[] {
  return source.engines.map(({ engine, metrics }, rank) => {
    const extra = more(engine);
    const name: Labels = "block_size" in extra ? {} : { model_name: source.modelName };
    return [{ engine: String(rank), ...name, ...extra }, value(engine, metrics)];
  });
}

function perEngineAnd(
  source: PageSource,
  label: string,
  values: Readonly<Record<string, (engine: Engine, metrics: EngineMetrics) => number>>,
): Sample[] {
  return source.engines.flatMap(({ engine, metrics }, rank) =>
    Object.entries(values).map(([name, value]): Sample => {
      return [{ engine: String(rank), model_name: source.modelName, [label]: name }, value(engine, metrics)];
    }),
  );
}

const zero = (): number => 0;

function writeProcess(page: Exposition, startSeconds: number): void {
  const memory = process.memoryUsage();
  const cpu = process.cpuUsage();
  page.gauge("process_virtual_memory_bytes", "Virtual memory.", [[{}, memory.rss + memory.external]]);
  page.gauge("process_resident_memory_bytes", "Resident memory.", [[{}, memory.rss]]);
  page.gauge("process_start_time_seconds", "Start of the process, Unix time.", [[{}, startSeconds]]);
  page.counter("process_cpu_seconds", "CPU time spent.", [[{}, (cpu.user + cpu.system) / 1e6]], false);
  page.gauge("process_open_fds", "Open file descriptors.", [[{}, process.getActiveResourcesInfo().length]]);
  page.gauge("process_max_fds", "Limit of open file descriptors.", [[{}, 1_048_576]]);
}

function writeGauges(page: Exposition, source: PageSource): void {
  page.gauge(
    "vllm:num_requests_running",
    "Requests in the batch.",
    perEngine(source, (e) => e.runningCount),
  );
  page.gauge(
    "vllm:num_requests_waiting",
    "Requests waiting.",
    perEngine(source, (e) => e.waitingCount),
  );
  page.gauge(
    "vllm:num_requests_waiting_by_reason",
    "Waiting requests by reason: capacity, or deferred for want of a LoRA slot or of remote KV.",
    perEngineAnd(source, "reason", {
      capacity: (e) => e.waitingCount - e.waitingForLoraCount - e.pullingCount,
      deferred: (e) => e.waitingForLoraCount + e.pullingCount,
    }),
  );
  page.gauge(
    "vllm:engine_sleep_state",
    "1 for the state that the engine is in.",
    perEngineAnd(source, "sleep_state", { awake: () => 1, weights_offloaded: zero, discard_all: zero }),
  );
  page.gauge(
    "vllm:kv_cache_usage_perc",
    "KV blocks in use, 0 to 1.",
    perEngine(source, (e) => e.cache.usage),
  );
}

function writeCounters(page: Exposition, source: PageSource): void {
  const count = (name: string, help: string, value: (e: Engine) => number): void => {
    page.counter(`vllm:${name}`, help, perEngine(source, value));
  };
  const hits = (e: Engine): number => e.counters.prefixCacheHitTokens;
  const pulled = (e: Engine): number => e.counters.pulledPromptTokens;
  const external = (e: Engine): number => e.counters.externalHitTokens;
  const hasConnector = source.connector !== undefined;
  count("estimated_flops_per_gpu", "Floating point operations; not estimated.", zero);
  count("estimated_read_bytes_per_gpu", "Bytes read; not estimated.", zero);
  count("estimated_write_bytes_per_gpu", "Bytes written; not estimated.", zero);
  count(
    "prefix_cache_queries",
    "Tokens looked up in the prefix cache.",
    (e) => e.counters.prefixCacheQueryTokens,
  );
  count("prefix_cache_hits", "Tokens found in the prefix cache.", hits);
  count("external_prefix_cache_queries", "Tokens looked up in other instances.", (e) => {
    return hasConnector ? e.counters.externalQueryTokens : 0;
  });
  count("external_prefix_cache_hits", "Tokens found in other instances.", external);
  count("mm_cache_queries", "Multi-modal items looked up.", zero);
  count("mm_cache_hits", "Multi-modal items found.", zero);
  count("num_preemptions", "Requests put back because the KV cache was full.", (e) => e.counters.preemptions);
  count("prompt_tokens", "Prompt tokens processed.", (e) => e.counters.promptTokens);
  page.counter(
    "vllm:prompt_tokens_by_source",
    "Prompt tokens by where their KV came from.",
    perEngineAnd(source, "source", {
      local_compute: (e) => Math.max(0, e.counters.promptTokens - hits(e) - pulled(e)),
      local_cache_hit: hits,
      external_kv_transfer: pulled,
    }),
  );
  count("prompt_tokens_cached", "Prompt tokens found in a cache.", (e) => hits(e) + pulled(e));
  page.counter(
    "vllm:prompt_tokens_cached_by_source",
    "Cached prompt tokens by tier.",
    perEngineAnd(source, "source", {
      device: hits,
      host: zero,
      p2p: external,
      disk: zero,
      external_unspecified: zero,
    }),
  );
  count("generation_tokens", "Tokens generated.", (e) => e.counters.generatedTokens);
  const finishes = FINISH_REASONS.map((reason) => {
    return [reason, (_: Engine, metrics: EngineMetrics) => metrics.finishes.get(reason)!] as const;
  });
  page.counter(
    "vllm:request_success",
    "Requests that ended, by reason.",
    perEngineAnd(source, "finished_reason", Object.fromEntries(finishes)),
  );
  page.counter("vllm:admission_rejections", "Requests refused by a queue limit.", [
    [{ model_name: source.modelName, reason: "max_num_queued_reqs" }, source.rejections],
    [{ model_name: source.modelName, reason: "max_num_queued_tokens" }, 0],
  ]);
}

const HISTOGRAMS: readonly (readonly [
  name: string,
  help: string,
  of: (metrics: EngineMetrics) => Histogram,
])[] = [
  ["request_prompt_tokens", "Prompt length.", (m) => m.promptTokens],
  ["request_generation_tokens", "Tokens generated a request.", (m) => m.generatedTokens],
  ["iteration_tokens_total", "Tokens of a step.", (m) => m.stepTokens],
  ["request_max_num_generation_tokens", "Longest choice of a request.", (m) => m.generatedTokensMax],
  ["request_params_n", "The parameter n.", (m) => m.choicesPerRequest],
  ["request_params_max_tokens", "The parameter max_tokens.", (m) => m.maxTokensParameter],
  ["time_to_first_token_seconds", "Arrival to first token.", (m) => m.timeToFirstToken],
  ["inter_token_latency_seconds", "Time between two tokens.", (m) => m.interTokenLatency],
  ["request_time_per_output_token_seconds", "Mean time a token, by request.", (m) => m.timePerOutputToken],
  ["e2e_request_latency_seconds", "Arrival to last token.", (m) => m.requestLatency],
  ["request_queue_time_seconds", "Time waiting.", (m) => m.queueTime],
  ["request_inference_time_seconds", "Time running.", (m) => m.inferenceTime],
  ["request_prefill_time_seconds", "Time in prefill.", (m) => m.prefillTime],
  ["request_decode_time_seconds", "Time in decode.", (m) => m.decodeTime],
  ["request_num_preemptions", "Preemptions of a request.", (m) => m.preemptionsPerRequest],
  ["request_prefill_kv_computed_tokens", "Prompt tokens not found cached.", (m) => m.computedPromptTokens],
];

function writeHistograms(page: Exposition, source: PageSource): void {
  for (const [name, help, of] of HISTOGRAMS) {
    const samples = source.engines.map(({ metrics }, rank) => {
      return [{ engine: String(rank), model_name: source.modelName }, of(metrics)] as const;
    });
    page.histogram(`vllm:${name}`, help, samples);
  }
}

// What cannot differ in a simulation has vLLM's default.
function cacheLabels(engine: Engine): Labels {
  const { blockSize, blockCount, prefixCaching } = engine.config;
  return {
    ...FIXED_CACHE_LABELS,
    block_size: String(blockSize),
    effective_attention_block_size: String(blockSize),
    enable_prefix_caching: prefixCaching ? "True" : "False",
    kv_cache_size_tokens: String(blockSize * blockCount),
    num_gpu_blocks: String(blockCount),
    num_gpu_blocks_override: String(blockCount),
  };
}

const FIXED_CACHE_LABELS: Labels = {
  _block_size_resolved: "True",
  cache_dtype: "fp8",
  cache_hit_alignment_tokens: "None",
  enable_mamba_shared_prefix_checkpoint: "False",
  gpu_memory_utilization: "0.92",
  hash_block_size: "None",
  is_attention_free: "False",
  kv_cache_dtype_skip_layers: "[]",
  kv_cache_layout: "None",
  kv_cache_max_concurrency: "None",
  kv_cache_memory_bytes: "None",
  kv_offloading_backend: "native",
  kv_offloading_size: "None",
  kv_sharing_fast_prefill: "False",
  mamba_block_size: "None",
  mamba_cache_dtype: "auto",
  mamba_cache_mode: "none",
  mamba_page_size_padded: "None",
  mamba_ssm_cache_dtype: "float32",
  num_cpu_blocks: "None",
  prefix_cache_retention_interval: "0",
  prefix_caching_hash_algo: "sha256",
  prefix_match_unit: "None",
  replayssm_buffer_len: "16",
  skip_page_size_padded: "None",
  sliding_window: "None",
  swa_bounded_replay: "True",
  use_kda_recoverssm: "False",
  use_replayssm: "False",
  user_specified_block_size: "False",
};

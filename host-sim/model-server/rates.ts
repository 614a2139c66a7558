// How long one engine step takes: the rates of a real model on real GPUs, and where they were published.

/** Time model of one engine step. All durations are milliseconds. */
export interface EngineRates {
  /** What these rates describe, with the source of the measurement. */
  readonly description: string;
  /** Fixed cost of a step: scheduling, kernel launches, sampling. */
  readonly overheadMs: number;
  /** Reading the weights once. Hidden behind prefill compute when that takes longer. */
  readonly weightsMs: number;
  /** Compute per prefill token. */
  readonly prefillMsPerToken: number;
  /** Cost of one decoding sequence in the batch, its context apart. */
  readonly decodeMsPerSequence: number;
  /** Reading the KV cache: cost per context token of the decoding sequences. */
  readonly contextMsPerToken: number;
}

/** What one step computes. */
export interface StepWork {
  readonly prefillTokens: number;
  readonly decodeSequences: number;
  /** Sum over the decoding sequences of the tokens in their KV cache. */
  readonly contextTokens: number;
}

/**
 * Llama-3.3-70B-Instruct, FP8, on 2 × H100 80 GB (tensor parallel 2).
 *
 * Source: NVIDIA NIM for LLMs benchmarking guide 1.0.0, "Performance", NIM 1.8.0
 * (https://docs.nvidia.com/nim/benchmarking/llm/1.0.0/performance), closed loop, no prefix reuse:
 *
 * | in / out   | concurrency | TTFT ms | ITL ms | output tokens/s |
 * |------------|-------------|---------|--------|-----------------|
 * | 5000 / 500 | 1           | 406.77  | 18.58  | 51.67           |
 * | 5000 / 500 | 5           | 546.70  | 21.83  | 218.48          |
 * | 5000 / 500 | 25          | 688.69  | 38.75  | 623.40          |
 * | 5000 / 500 | 50          | 834.51  | 59.73  | 814.37          |
 * | 5000 / 500 | 100         | 7996.25 | 92.91  | 917.26          |
 * | 500 / 2000 | 1           | 47.77   | 18.91  | 52.85           |
 *
 * How the rates follow: the two TTFTs at concurrency 1 give 79.8 µs a prefill token and 7.9 ms of overhead;
 * the ITL at concurrency 1 gives the weights; what is left of a second at 25 and 50 after prefill and base
 * gives about 75 µs a decoding sequence of 5,250 tokens, split so that the KV read has 10 ns a token. That
 * every row comes out again when the engine runs the same closed loop is a test (test/sim/rates.test.ts). An
 * independent fit of vLLM itself agrees: BLIS (github.com/inference-sim/inference-sim, defaults.yaml at
 * 1a6eb353) has 76.4 µs a prefill token and 66.8 µs a decode token for Llama-3.3-70B on 4 × H100, vLLM 0.8.4.
 */
export const LLAMA_3_3_70B_FP8_2XH100: EngineRates = {
  description: "Llama-3.3-70B-Instruct FP8 on 2 × H100 80 GB, as NVIDIA measured it with NIM 1.8.0",
  overheadMs: 7.9,
  weightsMs: 10.6,
  prefillMsPerToken: 0.0798,
  decodeMsPerSequence: 0.022,
  contextMsPerToken: 0.00001,
};

/**
 * KV tokens of that deployment. At concurrency 100 and above the table's rates mean 85.5 requests of
 * 5,000–5,500 tokens in service while the rest waits in the 8 s TTFT: about 460,000 tokens, which is also
 * what 2 × 80 GB × 0.9 less 71 GB of weights leaves for an FP8 cache of 160 KiB a token, less activations.
 */
export const LLAMA_3_3_70B_FP8_2XH100_KV_TOKENS = 460_000;

/** KV of a token in FP8: 80 layers × 8 KV heads × 128 dimensions × key and value × 1 byte = 160 KiB. */
export const LLAMA_3_3_70B_FP8_KV_BYTES_PER_TOKEN = 163_840;

/**
 * Speed of a KV transfer, bytes a millisecond: 20 GB/s. Mooncake's transfer engine reaches 87 GB/s on four
 * 200 Gbit/s RoCE adapters (github.com/kvcache-ai/Mooncake, README), 22 GB/s an adapter; a little is left for
 * what else crosses it.
 */
export const KV_TRANSFER_BYTES_PER_MS = 20_000_000;

/**
 * What a KV transfer takes beyond its bytes, ms: the mean vllm:nixl_xfer_time_seconds of 7 pulls of 100 KiB
 * between two vLLM 0.32.0 on one machine (CPU, NIXL over UCX over TCP) was 5.8 ms.
 */
export const KV_TRANSFER_BASE_MS = 5.8;

/** How long a prefiller holds blocks for a decoder (vLLM 0.32.0, kv_lease_duration of NixlConnector: 30 s). */
export const KV_HOLD_MS = 30_000;

/**
 * Duration of a step in milliseconds, ≥ overheadMs.
 * The weight read hides behind prefill compute, as both TTFTs in the table above need: an additive weight
 * read would give 58 ms for 500 tokens where 47.8 ms was measured.
 */
export function stepDurationMs(rates: EngineRates, work: StepWork): number {
  const compute = work.prefillTokens * rates.prefillMsPerToken;
  return (
    rates.overheadMs +
    Math.max(rates.weightsMs, compute) +
    work.decodeSequences * rates.decodeMsPerSequence +
    work.contextTokens * rates.contextMsPerToken
  );
}

// Engines that a simulated fleet may be made of, by name, with where their figures come from.
import type { EngineConfig } from "../model-server/engine-types.ts";
import { defaultEngineConfig } from "../model-server/engine.ts";
import { LLAMA_3_3_70B_FP8_2XH100 } from "../model-server/rates.ts";

/** One engine under a name. */
export interface EnginePreset {
  readonly name: string;
  /** What it stands for, and the source of its figures. */
  readonly description: string;
  readonly config: EngineConfig;
}

/** Tokens of one step, tokens a second of pure prefill, and tokens of KV cache of the coarse engine. */
const COARSE_STEP_TOKENS = 2_048;
const COARSE_PREFILL_TOKENS_PER_SECOND = 10_000;
const COARSE_KV_TOKENS = 500_000;
const COARSE_BLOCK_TOKENS = 512;

/**
 * Steps of 2,048 tokens that take 204.8 ms when they are full of prefill, so that prefill runs at 10,000 tokens a
 * second, the step's overhead included. Decoding costs what it costs LLAMA_3_3_70B_FP8_2XH100.
 */
function coarseEngine(): EngineConfig {
  const stepMs = (COARSE_STEP_TOKENS / COARSE_PREFILL_TOKENS_PER_SECOND) * 1000;
  const { overheadMs } = LLAMA_3_3_70B_FP8_2XH100;
  return {
    ...defaultEngineConfig(),
    blockSize: COARSE_BLOCK_TOKENS,
    // One block is vLLM's null block.
    blockCount: Math.ceil(COARSE_KV_TOKENS / COARSE_BLOCK_TOKENS) + 1,
    batchedTokensMax: COARSE_STEP_TOKENS,
    rates: {
      ...LLAMA_3_3_70B_FP8_2XH100,
      description: "10,000 prefill tokens a second in steps of 2,048",
      prefillMsPerToken: (stepMs - overheadMs) / COARSE_STEP_TOKENS,
    },
  };
}

/** The engines to choose from; the first is the default. */
export const ENGINE_PRESETS: readonly EnginePreset[] = [
  {
    name: "llama-70b-fp8-2xh100",
    description:
      "vLLM V1's defaults on 2 × H100 with the rates and the cache that NVIDIA's NIM 1.8.0 figures give " +
      "(model-server/rates.ts): 12,400 prefill tokens/s, steps of 8,192 tokens, 460,000 KV tokens",
    config: defaultEngineConfig(),
  },
  {
    name: "chunked-10k",
    description:
      "a round engine for studies of routing: chunked prefill in steps of 2,048 tokens, 10,000 prefill tokens/s, " +
      "500,000 KV tokens in blocks of 512, the block of Mooncake's traces (FAST'25)",
    config: coarseEngine(),
  },
];

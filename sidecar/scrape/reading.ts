// What was last read from one endpoint: plain numbers and names, overwritten by each scrape.

/** NaN and empty lists mean "never read". */
export interface Reading {
  /** Engine whose metrics were found; "" before the first page. */
  engine: string;
  /** Requests queued in the engine, all its data-parallel ranks together. */
  waiting: number;
  /** Requests running in the engine, all its data-parallel ranks together. */
  running: number;
  /** Share of the KV cache in use, 0–1: the mean over data-parallel ranks. */
  kvUsage: number;
  /** KV cache size in tokens, all ranks together; 0 = unknown. */
  kvCapacityTokens: number;
  /** Tokens of one KV block; 0 = unknown. */
  blockTokens: number;
  /** LoRA adapters the engine holds at once; 0 = unknown. */
  loraMax: number;
  loraActive: readonly string[];
  loraWaiting: readonly string[];
  hasLora: boolean;
  preemptions: number;
  promptTokens: number;
  generationTokens: number;
  /** Unix time at which the engine's process started, seconds; 0 = not published. */
  startTimeSeconds: number;
  /** The engine sleeps (vLLM's sleep mode) and would not answer. */
  asleep: boolean;
  /** GPU busy, 0–1; NaN = unknown. */
  gpuUtilization: number;
  /** GPU framebuffer in use, 0–1; NaN = unknown. */
  gpuMemory: number;
}

/** A reading before the first page. */
export function emptyReading(): Reading {
  return {
    engine: "",
    waiting: 0,
    running: 0,
    kvUsage: 0,
    kvCapacityTokens: 0,
    blockTokens: 0,
    loraMax: 0,
    loraActive: [],
    loraWaiting: [],
    hasLora: false,
    preemptions: 0,
    promptTokens: 0,
    generationTokens: 0,
    startTimeSeconds: 0,
    asleep: false,
    gpuUtilization: Number.NaN,
    gpuMemory: Number.NaN,
  };
}

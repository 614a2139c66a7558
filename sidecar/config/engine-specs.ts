// Turns llm-d's engineConfigs into the engines that pages are searched for.
import {
  BUILT_IN_ENGINES,
  emptyEngine,
  ENGINE_LABEL,
  type EngineSpec,
  parseMetricSpec,
} from "../scrape/engines.ts";
import type { EngineConfig } from "./schema.ts";
import type { EngineSettings } from "./settings.ts";

/**
 * Configured engines come first, then the built-in ones that were not redefined. An engine named like a
 * built-in one takes its place with the metrics given; what has no field in engineConfigs (counters, sleep
 * state) stays.
 * @throws Error naming the field, its value and what is expected
 */
export function engineSettings(config: {
  readonly engineLabelKey: string;
  readonly defaultEngine: string;
  readonly engineConfigs: readonly EngineConfig[];
}): EngineSettings {
  const names = new Set<string>();
  for (const { name } of config.engineConfigs) {
    if (names.has(name)) throw new Error(`engineConfigs: ${JSON.stringify(name)}: expected each name once`);
    names.add(name);
  }
  const specs = [
    ...config.engineConfigs.map(engineSpec),
    ...BUILT_IN_ENGINES.filter((engine) => !names.has(engine.name)),
  ];
  if (config.defaultEngine !== "" && !specs.some(({ name }) => name === config.defaultEngine)) {
    const known = specs.map(({ name }) => name).join(", ");
    throw new Error(`defaultEngine: ${JSON.stringify(config.defaultEngine)}: expected one of ${known}`);
  }
  return {
    label: config.engineLabelKey === "" ? ENGINE_LABEL : config.engineLabelKey,
    preferred: config.defaultEngine,
    specs,
  };
}

function engineSpec(config: EngineConfig): EngineSpec {
  const base = BUILT_IN_ENGINES.find(({ name }) => name === config.name) ?? emptyEngine(config.name);
  const list = (text: string): EngineSpec["waiting"] => {
    const spec = parseMetricSpec(text);
    return spec === null ? [] : [spec];
  };
  const info = parseMetricSpec(config.cacheInfoSpec);
  const blockTokens = parseMetricSpec(config.cacheBlockSizeSpec);
  return {
    ...base,
    waiting: list(config.queuedRequestsSpec),
    running: list(config.runningRequestsSpec),
    kvUsage: list(config.kvUsageSpec),
    lora: parseMetricSpec(config.loraSpec),
    caches:
      info === null && blockTokens === null
        ? []
        : [
            {
              info,
              blockTokensLabel: config.cacheBlockSizeLabelName || "block_size",
              blocksLabel: config.cacheNumBlocksLabelName || "num_gpu_blocks",
              blockTokens,
              blocks: parseMetricSpec(config.cacheNumBlocksSpec),
            },
          ],
  };
}

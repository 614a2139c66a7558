// The `scaling` field of a pool: what autoscalers' figures are measured against.
import { z } from "zod";
import { SCALING_DEFAULTS, type ScalingSettings } from "../role-load.ts";
import { fields } from "./issues.ts";

const TTFT_MS_MAX = 3_600_000;
const TPOT_MS_MAX = 60_000;
const QUEUE_DEPTH_MAX = 1_000_000;

const positive = (max: number): z.ZodNumber =>
  z.number().gt(0, `expected more than 0, at most ${max}`).max(max, `expected at most ${max}`);

/** Wished times in ms, and the thresholds under llm-d's names with its defaults. */
export const scaling = fields({
  ttftMs: positive(TTFT_MS_MAX).optional(),
  tpotMs: positive(TPOT_MS_MAX).optional(),
  queueDepthThreshold: positive(QUEUE_DEPTH_MAX).default(SCALING_DEFAULTS.queueDepthThreshold),
  kvCacheUtilThreshold: positive(1).default(SCALING_DEFAULTS.kvCacheUtilThreshold),
});

/** The checked field as the parts are given it. */
export function scalingSettings(config: z.output<typeof scaling>): ScalingSettings {
  return { ...config, ttftMs: config.ttftMs ?? null, tpotMs: config.tpotMs ?? null };
}

// Which stages the deciders of a configuration want for a request, by what is known of it.
import { deciderWants } from "../schedule/disaggregate";
import {
  configEncodePlan,
  configNonCachedTokens,
  configPrefillDecider,
  configPrefillPlan,
  configPromptTokens,
} from "./stage-settings";

// Bits: what runs beside decode.
export const RUNS_PREFILL: u32 = 1;
export const RUNS_ENCODE: u32 = 2;

/**
 * RUNS_* bits. `promptTokens`: of the whole prompt; `uncached`: those that the decode endpoint would have to compute;
 * `isMultimodal`: the prompt has images, audio or video.
 */
export function wantedStages(config: u32, promptTokens: f64, uncached: f64, isMultimodal: bool): u32 {
  let runs: u32 = 0;
  if (configEncodePlan(config) != 0 && isMultimodal) runs |= RUNS_ENCODE;
  if (configPrefillPlan(config) == 0) return runs;
  const nonCached = configNonCachedTokens(config);
  const least = configPromptTokens(config);
  if (deciderWants(configPrefillDecider(config), nonCached, least, promptTokens, uncached))
    runs |= RUNS_PREFILL;
  return runs;
}

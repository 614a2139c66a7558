// Whether a prompt is computed at another endpoint than the one that decodes.
//
//   decider: uncached tokens at the decode endpoint ≥ nonCachedTokens, and the prompt has promptTokens
//            (llm-d-router pkg/epp/framework/plugins/scheduling/profilehandler/disagg @ ebab6879)
//   price:   stay = the latency picker's cost of the decode endpoint, its decode interference included
//            go   = the same of the prefill endpoint + transfer of what the decode endpoint lacks + its first step
//
// Only a decider of a threshold is priced, and only once prefill was measured in the pool: before that all costs are
// guesses, and "always" is the operator's word. A saturated prefill endpoint costs its queue, and is so passed by.
import { candidateCount, candidateRow } from "./candidates";
import { costOf } from "./latency-cost";
import { latencyChoose } from "./latency-picker";
import { planPicker } from "./plan";
import { PLUGIN_LATENCY_PICKER, PLUGIN_PREFIX_PD_DECIDER } from "./plugin-types";

/**
 * The decider's answer. `decider`: PLUGIN_*_DECIDER, 0 = always. Tokens of the whole prompt and of those that the
 * decode endpoint lacks; `nonCachedTokens` 0 = never.
 */
export function deciderWants(
  decider: u32,
  nonCachedTokens: f64,
  promptTokensLeast: f64,
  promptTokens: f64,
  uncached: f64,
): bool {
  if (decider != PLUGIN_PREFIX_PD_DECIDER) return true;
  if (nonCachedTokens <= 0 || promptTokens < promptTokensLeast) return false;
  return uncached >= nonCachedTokens;
}

/** Whether the decider's answer is checked against what it costs; `isMeasured`: how fast the pool's prefill is. */
export function isPriced(decider: u32, isMeasured: bool): bool {
  return decider == PLUGIN_PREFIX_PD_DECIDER && isMeasured;
}

/**
 * What the latency picker takes the row to cost, ms. Right after schedule(plan): the row is among the candidates that
 * the plan's filters left. Infinity: it is not.
 */
export function costAfter(plan: usize, pool: u32, row: u32): f64 {
  if (planPicker(plan) != PLUGIN_LATENCY_PICKER) latencyChoose(0, pool);
  for (let i: u32 = 0, count = candidateCount(); i < count; i++) if (candidateRow(i) == row) return costOf(i);
  return Infinity;
}

/** Whether the prefill elsewhere is sooner by `minGainMs`; all in ms. */
export function isWorthIt(stayMs: f64, goMs: f64, transferMs: f64, stepMs: f64, minGainMs: f64): bool {
  return stayMs - (goMs + transferMs + stepMs) > minGainMs;
}

// The plan where the configuration names none: epp-wasm-latency-picker with its defaults, and no filter.
//
// Unknown load counts as the mean of the others: an endpoint that was never scraped must not draw all traffic.
import { planReset, planSetPickerInstance, planSetUnknownMean } from "../schedule/plan";
import { PLUGIN_LATENCY_PICKER } from "../schedule/plugin-types";
import { SETTING_DESTINATIONS, SETTING_UNKNOWN_MEAN } from "./gateway-parameters";
import { latencyDefaults } from "./latency-parameters";
import { slotInstance, slotPlan, slotSettings } from "./slots";

/** Compiles the default plan into the slot. */
export function defaultPlan(slot: usize): void {
  const plan = slotPlan(slot);
  planReset(plan, PLUGIN_LATENCY_PICKER, load<u32>(slotSettings(slot), SETTING_DESTINATIONS));
  planSetUnknownMean(plan, true);
  store<u8>(slotSettings(slot), 1, SETTING_UNKNOWN_MEAN);
  const picker = slotInstance(slot, PLUGIN_LATENCY_PICKER);
  latencyDefaults(picker);
  planSetPickerInstance(plan, picker);
}

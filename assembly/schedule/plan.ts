// A plan: one scheduling profile, compiled. Laid down by the configuration, read by the scheduler.

/** Filters of one profile. A profile with more is refused when the configuration is loaded. */
export const PLAN_FILTERS_MAX: u32 = 16;
/** Scorers of one profile. A profile with more is refused when the configuration is loaded. */
export const PLAN_SCORERS_MAX: u32 = 16;
/** Endpoints that one decision can name; a picker that asks for more is cut to this. */
export const RESULTS_MAX: u32 = 16;

//   ┌ plan, 336 bytes, 8-byte aligned ──────────────────────────────────────────────────┐
//   │ 0 u8 filters  1 u8 scorers  2 u8 unknown load is the mean  4 u32 picker type       │
//   │ 8 u32 results wanted   12 u32 picker's instance   16 u32 filter instance[16]       │
//   │ 80 { u32 instance, u32 zero, f64 weight }[16]                                      │
//   └────────────────────────────────────────────────────────────────────────────────────┘
export const PLAN_BYTES: usize = 336;
const AT_FILTERS: usize = 0;
const AT_SCORERS: usize = 1;
const AT_UNKNOWN_MEAN: usize = 2;
const AT_PICKER: usize = 4;
const AT_RESULTS: usize = 8;
const AT_PICKER_INSTANCE: usize = 12;
const AT_FILTER_LIST: usize = 16;
const AT_SCORER_LIST: usize = 80;

//   ┌ instance of a plugin, 64 bytes, 8-byte aligned ───────────────────────────────────┐
//   │ 0 u16 type   2 u8 header index (255 = none)   3 u8 mode   4 u32 serial             │
//   │ 8 f64 a   16 f64 b   24 f64 c   32 f64 d   (parameters, see each plugin's file)    │
//   │ 40 u32 text, 44 u32 bytes   48 u32 list, 52 u32 count   56 u32 name, 60 u32 bytes  │
//   └────────────────────────────────────────────────────────────────────────────────────┘
export const INSTANCE_BYTES: usize = 64;
export const INSTANCE_AT_TYPE: usize = 0;
/** Which of the request's noted headers (request.ts) the plugin reads; NO_HEADER = none. */
export const INSTANCE_AT_HEADER: usize = 2;
export const INSTANCE_AT_MODE: usize = 3;
/** Unique over all instances ever made by this VM: key of what is cached per instance. */
export const INSTANCE_AT_SERIAL: usize = 4;
export const INSTANCE_AT_A: usize = 8;
export const INSTANCE_AT_B: usize = 16;
export const INSTANCE_AT_C: usize = 24;
export const INSTANCE_AT_D: usize = 32;
export const INSTANCE_AT_TEXT: usize = 40;
export const INSTANCE_AT_TEXT_BYTES: usize = 44;
export const INSTANCE_AT_LIST: usize = 48;
export const INSTANCE_AT_COUNT: usize = 52;
export const INSTANCE_AT_NAME: usize = 56;
export const INSTANCE_AT_NAME_BYTES: usize = 60;
export const NO_HEADER: u32 = 255;

let serials: u32 = 0;

/** Makes the 64 bytes at `instance` an instance of `type` with zero parameters and a serial of its own. */
export function instanceReset(instance: usize, type: u32): void {
  memory.fill(instance, 0, INSTANCE_BYTES);
  store<u16>(instance, <u16>type, INSTANCE_AT_TYPE);
  store<u8>(instance, <u8>NO_HEADER, INSTANCE_AT_HEADER);
  store<u32>(instance, ++serials, INSTANCE_AT_SERIAL);
}

export function instanceType(instance: usize): u32 {
  return <u32>load<u16>(instance, INSTANCE_AT_TYPE);
}

/** Empties a plan: no filter, no scorer; `picker` picks `results` endpoints. */
export function planReset(plan: usize, picker: u32, results: u32): void {
  memory.fill(plan, 0, PLAN_BYTES);
  planSetPicker(plan, picker, results);
}

/** Sets the picker (PLUGIN_*_PICKER) and how many endpoints it names, 1…RESULTS_MAX. */
export function planSetPicker(plan: usize, picker: u32, results: u32): void {
  store<u32>(plan, picker, AT_PICKER);
  store<u32>(plan, min<u32>(max<u32>(results, 1), RESULTS_MAX), AT_RESULTS);
}

/** Sets the picker's instance, for a picker that has parameters beside how many it names; 0 = none. */
export function planSetPickerInstance(plan: usize, instance: usize): void {
  store<u32>(plan, <u32>instance, AT_PICKER_INSTANCE);
}

/** Whether an endpoint of unknown load counts as averagely loaded; else as idle, which is llm-d's reading. */
export function planSetUnknownMean(plan: usize, mean: bool): void {
  store<u8>(plan, mean ? 1 : 0, AT_UNKNOWN_MEAN);
}

/** Appends a filter; false when PLAN_FILTERS_MAX are there. Filters run in this order. */
export function planAddFilter(plan: usize, instance: usize): bool {
  const count = planFilters(plan);
  if (count >= PLAN_FILTERS_MAX) return false;
  store<u32>(plan + ((<usize>count) << 2), <u32>instance, AT_FILTER_LIST);
  store<u8>(plan, <u8>(count + 1), AT_FILTERS);
  return true;
}

/** Appends a scorer with its weight, any finite number; false when PLAN_SCORERS_MAX are there. */
export function planAddScorer(plan: usize, instance: usize, weight: f64): bool {
  const count = planScorers(plan);
  if (count >= PLAN_SCORERS_MAX) return false;
  const at = plan + ((<usize>count) << 4);
  store<u32>(at, <u32>instance, AT_SCORER_LIST);
  store<f64>(at, weight, AT_SCORER_LIST + 8);
  store<u8>(plan, <u8>(count + 1), AT_SCORERS);
  return true;
}

export function planFilters(plan: usize): u32 {
  return <u32>load<u8>(plan, AT_FILTERS);
}

export function planScorers(plan: usize): u32 {
  return <u32>load<u8>(plan, AT_SCORERS);
}

export function planUnknownMean(plan: usize): bool {
  return load<u8>(plan, AT_UNKNOWN_MEAN) != 0;
}

export function planPicker(plan: usize): u32 {
  return load<u32>(plan, AT_PICKER);
}

export function planPickerInstance(plan: usize): usize {
  return <usize>load<u32>(plan, AT_PICKER_INSTANCE);
}

export function planResults(plan: usize): u32 {
  return load<u32>(plan, AT_RESULTS);
}

export function planFilter(plan: usize, index: u32): usize {
  return <usize>load<u32>(plan + ((<usize>index) << 2), AT_FILTER_LIST);
}

export function planScorer(plan: usize, index: u32): usize {
  return <usize>load<u32>(plan + ((<usize>index) << 4), AT_SCORER_LIST);
}

export function planWeight(plan: usize, index: u32): f64 {
  return load<f64>(plan + ((<usize>index) << 4), AT_SCORER_LIST + 8);
}

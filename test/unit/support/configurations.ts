// Loads configurations into the harness, and reads back what was compiled.
import { Scheduler, TYPES } from "./scheduler.ts";

export interface Loaded {
  config: number;
  error: string;
  notice: string;
}

export function loadText(wasm: Scheduler, text: string): Loaded {
  const { ptr, len } = wasm.put(text);
  const config = wasm.call("configLoad", ptr, len);
  const error = wasm.text(wasm.call("schemaErrorPtr"), wasm.call("schemaErrorBytes"));
  const notice = wasm.text(wasm.call("schemaNoticePtr"), wasm.call("schemaNoticeBytes"));
  if ((config === 0) !== (error !== "")) throw new Error(`configuration ${config} with the error "${error}"`);
  return { config, error, notice };
}

export function load(wasm: Scheduler, document: unknown): Loaded {
  return loadText(wasm, JSON.stringify(document));
}

/** The compiled plan of the decode stage, or `plan`, by plugin type and weight. */
export function planOf(wasm: Scheduler, config: number, plan = wasm.call("configPlan", config)) {
  const name = (type: number) => Object.entries(TYPES).find(([, number]) => number === type)?.[0];
  const instance = (at: number) => {
    const { view } = wasm;
    return {
      type: name(view.getUint16(at, true)),
      name: wasm.text(view.getUint32(at + 56, true), view.getUint32(at + 60, true)),
      mode: view.getUint8(at + 3),
      values: [8, 16, 24, 32].map((offset) => view.getFloat64(at + offset, true)),
      text: wasm.text(view.getUint32(at + 40, true), view.getUint32(at + 44, true)),
      list: view.getUint32(at + 48, true),
      count: view.getUint32(at + 52, true),
    };
  };
  return {
    filters: Array.from({ length: wasm.call("planFilters", plan) }, (_, i) =>
      instance(wasm.call("planFilter", plan, i)),
    ),
    scorers: Array.from({ length: wasm.call("planScorers", plan) }, (_, i) => ({
      ...instance(wasm.call("planScorer", plan, i)),
      weight: wasm.call("planWeight", plan, i),
    })),
    picker: name(wasm.call("planPicker", plan)),
    results: wasm.call("planResults", plan),
    unknownMean: wasm.call("planUnknownMean", plan) !== 0,
  };
}

const DECIDERS: Record<number, string> = {
  97: "prefix-based-pd-decider",
  98: "always-disagg-pd-decider",
  99: "always-disagg-multimodal-decider",
};

/** What runs beside the decode stage, and when. */
export function stagesOf(wasm: Scheduler, config: number) {
  const plan = (name: string) => {
    const at = wasm.call(name, config);
    return at === 0 ? undefined : planOf(wasm, config, at);
  };
  return {
    prefill: plan("configPrefillPlan"),
    encode: plan("configEncodePlan"),
    prefillFirst: wasm.call("configPrefillFirst", config) !== 0,
    decider: DECIDERS[wasm.call("configPrefillDecider", config)],
    nonCachedTokens: wasm.call("configNonCachedTokens", config),
    promptTokens: wasm.call("configPromptTokens", config),
    dataParallel: wasm.call("configDataParallel", config) !== 0,
    primaryPort: wasm.call("configPrimaryPort", config),
  };
}

/** The request headers that a configuration reads. */
export function headers(wasm: Scheduler, config: number): string[] {
  return Array.from({ length: wasm.call("configHeaderCount", config) }, (_, i) => {
    const ptr = wasm.call("configHeaderName", config, i);
    return wasm.text(ptr, wasm.view.getUint32(ptr - 4, true));
  });
}

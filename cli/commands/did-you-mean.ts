// Adds to what the filter says of an unknown plugin type the type that was probably meant.

/** Types that a document may name: those that run in the filter, and those that it takes without effect. */
export const PLUGIN_TYPES: readonly string[] = [
  ...["active-request-scorer", "always-disagg-multimodal-decider", "always-disagg-pd-decider"],
  ...["anthropic-parser", "approx-prefix-cache-producer", "by-label", "by-label-selector"],
  ...[
    "concurrency-detector",
    "context-length-aware",
    "core-metrics-extractor",
    "data-parallel-profile-handler",
  ],
  ...[
    "dcgm-data-source",
    "dcgm-extractor",
    "decode-filter",
    "disagg-headers-handler",
    "disagg-profile-handler",
  ],
  ...["edf-ordering-policy", "encode-filter", "endpoint-notification-source", "epp-wasm-disaggregation"],
  ...["epp-wasm-gateway", "epp-wasm-latency-picker", "fcfs-ordering-policy", "file-discovery"],
  ...["global-strict-fairness-policy", "gpu-memory-scorer", "gpu-utilization-scorer"],
  ...["header-based-testing-filter", "header-label-affinity-scorer", "inflight-load-producer"],
  ...["k8s-notification-source", "kv-cache-utilization-scorer", "label-selector-filter", "load-aware-scorer"],
  ...["lora-affinity-scorer", "max-score-picker", "metrics-data-source", "models-data-extractor"],
  ...["models-data-source", "no-hit-lru-scorer", "openai-parser", "passthrough-parser", "pd-profile-handler"],
  ...["prefill-filter", "prefill-header-handler", "prefix-based-pd-decider", "prefix-cache-affinity-filter"],
  ...["prefix-cache-scorer", "priority-holdback-policy", "priority-then-time-eviction-order-policy"],
  ...["program-aware-fairness", "queue-scorer", "random-picker", "round-robin-fairness-policy"],
  ...["running-requests-size-scorer", "session-affinity-filter", "session-affinity-scorer"],
  ...["sglanghttp-parser", "sheddable-eviction-filter", "single-profile-handler"],
  ...["slo-deadline-ordering-policy", "soft-reflective-ceiling-policy", "static-usage-limit-policy"],
  ...["token-load-scorer", "token-producer", "tokenizer", "topology-extractor", "utilization-detector"],
  ...["utilization-filter", "vllmhttp-parser", "weighted-random-picker"],
];
const UNKNOWN_TYPE = /^plugins\[\d+\]\.type: "(.*)" — unknown plugin type$/;
/** Longest text that is compared: no type has more. */
const TYPE_CHARS_MAX = 64;
/** A word of so many letters may differ in one. */
const LETTERS_PER_EDIT = 5;
/** Names that are told; of more nearest ones the first, and none of more that have the words. */
const MEANT_MAX = 2;

/** The filter's word on a fault, and for an unknown type what is known and near, if anything is. */
export function withMeant(fault: string): string {
  const type = UNKNOWN_TYPE.exec(fault)?.[1];
  const meant = type === undefined ? [] : meantTypes(type);
  return meant.length === 0 ? fault : `${fault}; did you mean ${meant.join(" or ")}?`;
}

/** The types whose letters are nearest, if they are near; failing that the few that have all of the words. */
export function meantTypes(type: string): string[] {
  if (type.length > TYPE_CHARS_MAX) return [];
  const written = type
    .replace(/([a-z])([A-Z])/g, "$1-$2")
    .replace(/[_\s]+/g, "-")
    .toLowerCase();
  const edits = PLUGIN_TYPES.map((known) => editsBetween(written, known));
  const least = Math.min(...edits);
  const near = PLUGIN_TYPES.filter((_, index) => edits[index] === least);
  if (least <= Math.ceil(written.length / LETTERS_PER_EDIT)) return near.slice(0, MEANT_MAX);
  const words = written.split("-").filter((word) => word !== "");
  const wider = words.length < 2 ? [] : PLUGIN_TYPES.filter((known) => hasInOrder(known.split("-"), words));
  return wider.length > MEANT_MAX ? [] : wider;
}

/** Letters to put in, take out, change or swap with their neighbour (optimal string alignment). */
function editsBetween(a: string, b: string): number {
  let [before, row]: [number[], number[]] = [[], Array.from({ length: b.length + 1 }, (_, at) => at)];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwap = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      next[j] = Math.min(change, row[j]! + 1, next[j - 1]! + 1, isSwap ? before[j - 2]! + 1 : change);
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}

function hasInOrder(words: readonly string[], wanted: readonly string[]): boolean {
  let at = 0;
  for (const word of words) if (word === wanted[at]) at++;
  return at === wanted.length;
}

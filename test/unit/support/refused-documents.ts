// Documents that are refused, with the text that must stand in the error.

export function documentOf(plugins: unknown[], more: object = {}): object {
  return { apiVersion: "llm-d.ai/v1alpha1", kind: "EndpointPickerConfig", plugins, ...more };
}

export function pluginOf(type: string, parameters?: unknown): object {
  return documentOf([{ type, ...(parameters === undefined ? {} : { parameters }) }]);
}

const Q = { type: "queue-scorer" };
function profiles(...list: unknown[]): object {
  return documentOf([Q, { type: "max-score-picker" }, { type: "random-picker" }], {
    schedulingProfiles: list,
  });
}

/** What is wrong, the document (a string is its text), part of the error. */
export const REFUSED_DOCUMENTS: [string, unknown, string][] = [
  ["a list as document", [], "configuration: […] — expected an object: an EndpointPickerConfig"],
  [
    "another version",
    { apiVersion: "v1", kind: "EndpointPickerConfig" },
    'apiVersion: "v1" — expected "llm-d.ai/v1alpha1"',
  ],
  ["no version", { kind: "EndpointPickerConfig" }, 'apiVersion: (missing) — expected "llm-d.ai/v1alpha1"'],
  [
    "another kind",
    { apiVersion: "llm-d.ai/v1alpha1", kind: "Pod" },
    'kind: "Pod" — expected "EndpointPickerConfig"',
  ],
  [
    "an unknown section",
    documentOf([], { extra: 1 }),
    "extra: 1 — unknown field, expected one of apiVersion, kind,",
  ],
  ["plugins as an object", { ...documentOf([]), plugins: {} }, "plugins: {…} — expected an array"],
  [
    "a plugin as a string",
    documentOf(["x"]),
    'plugins[0]: "x" — expected an object with type, name and parameters',
  ],
  ["no type", documentOf([{ name: "x" }]), "plugins[0].type: (missing) — expected a plugin type"],
  [
    "a name twice",
    documentOf([Q, Q]),
    'plugins[1].name: "queue-scorer" — expected a name that no other plugin has',
  ],
  ["an unknown type", pluginOf("queue-scorrer"), 'plugins[0].type: "queue-scorrer" — unknown plugin type'],
  [
    "an unsupported type",
    pluginOf("precise-prefix-cache-scorer"),
    'plugins[0].type: "precise-prefix-cache-scorer" — known in llm-d and not supported; the nearest that is: prefix-cache-scorer, exact with the sidecar\'s kvEvents',
  ],
  [
    "an unknown plugin field",
    documentOf([{ type: "queue-scorer", params: {} }]),
    "plugins[0].params: {…} — unknown field, expected one of type, name, parameters",
  ],
  [
    "an unknown parameter",
    pluginOf("load-aware-scorer", { treshold: 3 }),
    "plugins[0].parameters.treshold: 3 — unknown field, expected one of threshold",
  ],
  [
    "a parameter where there is none",
    pluginOf("queue-scorer", { a: 1 }),
    "plugins[0].parameters.a: 1 — unknown field, expected none",
  ],
  [
    "a text for a number",
    documentOf([
      Q,
      { type: "max-score-picker" },
      { type: "load-aware-scorer", parameters: { threshold: "abc" } },
    ]),
    'plugins[2].parameters.threshold: "abc" — expected a whole number',
  ],
  [
    "a number out of range",
    pluginOf("utilization-filter", { conditions: [{ metric: "waiting-queue", maxValue: -1 }] }),
    "plugins[0].parameters.conditions[0].maxValue: -1 — expected a number ≥ 0",
  ],
  [
    "a share above 1",
    pluginOf("utilization-filter", { conditions: [{ metric: "kv-cache-utilization", maxValue: 80 }] }),
    "plugins[0].parameters.conditions[0].maxValue: 80 — expected a share, 0 to 1",
  ],
  [
    "an unknown metric",
    pluginOf("utilization-filter", { conditions: [{ metric: "x", maxValue: 1 }] }),
    'plugins[0].parameters.conditions[0].metric: "x" — expected active-requests, running-requests,',
  ],
  [
    "no condition",
    pluginOf("utilization-filter"),
    "plugins[0].parameters.conditions: (missing) — expected at least one condition",
  ],
  [
    "the latency predictor",
    pluginOf("prefix-cache-affinity-filter", { ttftSource: "latencyPredictor" }),
    'plugins[0].parameters.ttftSource: "latencyPredictor" — the latency predictor is known in llm-d and not supported; the nearest is prefillThroughput',
  ],
  [
    "In without values",
    pluginOf("label-selector-filter", { matchExpressions: [{ key: "a", operator: "In" }] }),
    "plugins[0].parameters.matchExpressions[0].values: (missing) — expected at least one value for In and NotIn",
  ],
  [
    "Exists with values",
    pluginOf("label-selector-filter", {
      matchExpressions: [{ key: "a", operator: "Exists", values: ["b"] }],
    }),
    "plugins[0].parameters.matchExpressions[0].values: […] — expected no values for Exists and DoesNotExist",
  ],
  [
    "a label's name that is none",
    pluginOf("label-selector-filter", { matchLabels: { "-a": "b" } }),
    'plugins[0].parameters.matchLabels.-a: "b" — expected a label\'s name before this value',
  ],
  [
    "a label's value that is none",
    pluginOf("label-selector-filter", { matchLabels: { a: "b c" } }),
    'plugins[0].parameters.matchLabels.a: "b c" — expected a label\'s value',
  ],
  ["a duplicate field", '{"kind":"a","kind":"b"}', 'kind: "b" — this field stands twice in one object'],
  [
    "a profile without a name",
    profiles({ plugins: [] }),
    "schedulingProfiles[0].name: (missing) — expected a profile's name",
  ],
  [
    "two profiles of one name",
    profiles({ name: "a" }, { name: "a" }),
    'schedulingProfiles[1].name: "a" — expected a name that no other profile has',
  ],
  [
    "two profiles without a handler",
    profiles({ name: "a" }, { name: "b" }),
    "schedulingProfiles: […] — several profiles need a profile handler",
  ],
  [
    "a reference to nothing",
    profiles({ name: "a", plugins: [{ pluginRef: "x" }] }),
    'schedulingProfiles[0].plugins[0].pluginRef: "x" — expected the name of a declared plugin',
  ],
  [
    "no reference",
    profiles({ name: "a", plugins: [{ weight: 1 }] }),
    "schedulingProfiles[0].plugins[0].pluginRef: (missing) — expected the name of a declared plugin",
  ],
  [
    "a weight that is no number",
    profiles({ name: "a", plugins: [{ pluginRef: "queue-scorer", weight: "2" }] }),
    'schedulingProfiles[0].plugins[0].weight: "2" — expected a number, -1000000 to 1000000',
  ],
  [
    "two pickers",
    profiles({ name: "a", plugins: [{ pluginRef: "max-score-picker" }, { pluginRef: "random-picker" }] }),
    "schedulingProfiles[0].plugins[1]: {…} — a second picker; a profile has one",
  ],
  [
    "two profile handlers",
    documentOf([{ type: "single-profile-handler" }, { type: "single-profile-handler", name: "b" }]),
    "plugins[1].parameters: (missing) — a second profile handler; one is allowed",
  ],
  [
    "two profiles for the handler of one",
    documentOf([Q, { type: "single-profile-handler" }], {
      schedulingProfiles: [{ name: "a" }, { name: "b" }],
    }),
    "schedulingProfiles: […] — single-profile-handler and data-parallel-profile-handler run one profile only",
  ],
  [
    "an unknown gate",
    documentOf([], { featureGates: ["x"] }),
    'featureGates[0]: "x" — expected flowControl or haPopulateNonLeaderDatastore',
  ],
  [
    "a gate of no truth",
    documentOf([], { featureGates: ["flowControl=qwerty"] }),
    'featureGates[0]: "flowControl=qwerty" — expected a gate with =true or =false, or alone',
  ],
  [
    "flow control",
    documentOf([], { featureGates: ["haPopulateNonLeaderDatastore", "flowControl=TRUE"] }),
    'featureGates[1]: "flowControl=TRUE" — flow control is known in llm-d and not supported; the nearest that is: flowControl=false',
  ],
  [
    "a source that is no source",
    documentOf([Q], { dataLayer: { sources: [{ pluginRef: "queue-scorer", extractors: [] }] } }),
    'dataLayer.sources[0].pluginRef: "queue-scorer" — expected a declared data source',
  ],
  [
    "an extractor that is not declared",
    documentOf([{ type: "metrics-data-source" }], {
      dataLayer: { sources: [{ pluginRef: "metrics-data-source", extractors: [{ pluginRef: "x" }] }] },
    }),
    'dataLayer.sources[0].extractors[0].pluginRef: "x" — expected a declared extractor',
  ],
  [
    "discovery by something else",
    documentOf([Q], { dataLayer: { discovery: { pluginRef: "queue-scorer" } } }),
    'dataLayer.discovery.pluginRef: "queue-scorer" — expected a declared discovery plugin',
  ],
  [
    "a parser that is none",
    documentOf([Q], { requestHandler: { parsers: [{ pluginRef: "queue-scorer" }] } }),
    'requestHandler.parsers[0].pluginRef: "queue-scorer" — expected a declared parser',
  ],
  [
    "a detector that is not declared",
    documentOf([], { saturationDetector: { pluginRef: "concurrency-detector" } }),
    'saturationDetector.pluginRef: "concurrency-detector" — expected a declared saturation detector',
  ],
  [
    "an ordering policy that is none",
    documentOf([Q], {
      flowControl: { priorityBands: [{ priority: 1, orderingPolicyRef: "queue-scorer" }] },
    }),
    'flowControl.priorityBands[0].orderingPolicyRef: "queue-scorer" — expected a declared ordering policy',
  ],
  [
    "a quantity that is none",
    documentOf([], { flowControl: { maxBytes: "1Gb" } }),
    'flowControl.maxBytes: "1Gb" — expected a quantity',
  ],
  [
    "a duration that is none",
    documentOf([], { flowControl: { defaultRequestTTL: "1 m" } }),
    'flowControl.defaultRequestTTL: "1 m" — expected a duration',
  ],
  [
    "a second settings plugin",
    documentOf([{ type: "epp-wasm-gateway" }, { type: "epp-wasm-gateway", name: "b" }]),
    "plugins[1].parameters: (missing) — a second epp-wasm-gateway; one is allowed",
  ],
  [
    "a header too many",
    documentOf(
      Array.from({ length: 9 }, (_, i) => ({
        type: "header-label-affinity-scorer",
        name: `h${i}`,
        parameters: { headerName: `x-${i}`, labelKey: "a" },
      })),
    ),
    'plugins[8].parameters: "x-8" — expected at most 8 different request headers over all plugins',
  ],
  [
    "a scorer too many",
    documentOf(Array.from({ length: 17 }, (_, i) => ({ type: "queue-scorer", name: `q${i}` }))),
    "configuration — expected at most 16 scorers in a profile",
  ],
  [
    "a plugin too many",
    documentOf(Array.from({ length: 65 }, (_, i) => ({ type: "queue-scorer", name: `q${i}` }))),
    "plugins[64]: {…} — expected at most 64 plugins",
  ],
  [
    "more text than fits",
    documentOf([
      {
        type: "label-selector-filter",
        parameters: {
          matchLabels: Object.fromEntries(
            Array.from({ length: 400 }, (_, i) => [`key-${i}`, "v".repeat(60)]),
          ),
        },
      },
    ]),
    "expected a configuration whose texts fit into 16384 bytes",
  ],
  ["what is no JSON", '{"apiVersion": llm', "configuration — no valid JSON at byte 15"],
  [
    "what is longer than 64 KiB",
    `{"kind":"${"x".repeat(65536)}"}`,
    "configuration — the document is longer than 65536 bytes",
  ],
  [
    "what has more than 4,096 values",
    documentOf(Array.from({ length: 5000 }, () => 1)),
    "configuration — the document has more than 4096 values",
  ],
];

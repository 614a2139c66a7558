// Helm values of llm-d's charts: llm-d-router-gateway and -standalone ("router"), inferencepool ("inferenceExtension").
// Names: llm-d-router config/charts/*/values.yaml.
import { at, type Fields, isFields, list, text, texts } from "../documents.ts";
import { configIn, type EppDeployment, takeFlags } from "./found.ts";
import { ConversionError, type Outcomes, SETS_REFUSED } from "./outcome.ts";

const DEFAULT_FILE = "default-plugins.yaml";
const AGNOSTIC_FILE = "payload-agnostic.yaml";
/** Values about the picker's process, which is no more. */
const PROCESS = new Set([
  ...["affinity", "autoscaling", "deploymentStrategy", "env", "extProcPort", "extraContainerPorts"],
  ...["extraServicePorts", "grpcHealthPort", "image", "podAnnotations", "podSecurityContext", "replicas"],
  ...["resources", "securityContext", "sidecar", "tolerations", "enablePprof", "monitoring"],
]);
/** Values that are read. */
const READ = new Set([
  ...[
    "flags",
    "pluginsConfig",
    "pluginsConfigFile",
    "pluginsCustomConfig",
    "metricsDataSource",
    "failureMode",
  ],
  ...["parsers", "parser"],
]);

export function isHelmValues(document: Fields): boolean {
  return (
    document["kind"] === undefined &&
    ["router", "inferenceExtension", "inferencePool"].some((name) => name in document)
  );
}

/** Reads values, and reports each of them. */
export function readHelmValues(values: Fields, found: EppDeployment, outcomes: Outcomes): void {
  const router = isFields(values["router"]) ? values["router"] : undefined;
  const prefix = router === undefined ? "inferenceExtension" : "router.epp";
  const epp = (router === undefined ? values["inferenceExtension"] : router["epp"]) ?? {};
  const pool = router === undefined ? values["inferencePool"] : router["inferencePool"];
  const servers = router === undefined ? (at(pool, "modelServers") ?? pool) : router["modelServers"];
  readPicker(isFields(epp) ? epp : {}, prefix, modelServerType(pool, servers), found, outcomes);
  readServers(pool, servers, found, outcomes);
  const failureMode = text(at(pool, "failureMode") ?? at(epp, "failureMode"));
  if (failureMode === "FailOpen" || failureMode === "FailClose") found.failureMode = failureMode;
  for (const [name, value] of Object.entries(router ?? values)) otherValue(name, value, outcomes);
}

function modelServerType(pool: unknown, servers: unknown): string | undefined {
  return text(at(servers, "type") ?? at(pool, "modelServerType"));
}

function readPicker(
  epp: Fields,
  prefix: string,
  engine: string | undefined,
  found: EppDeployment,
  outcomes: Outcomes,
): void {
  const flags = Object.entries(isFields(epp["flags"]) ? epp["flags"] : {});
  // The charts' way to write --name=value in one word is "name=value": "".
  const named = flags.map(([name, value]): [string, string] => {
    const [before, after] = name.split("=", 2);
    return [before!, after ?? String(value)];
  });
  takeFlags(new Map(named), found, outcomes);
  const file = text(epp["pluginsConfigFile"]) ?? DEFAULT_FILE;
  const custom = isFields(epp["pluginsCustomConfig"]) ? epp["pluginsCustomConfig"] : {};
  const structured = epp["pluginsConfig"];
  for (const [name, content] of Object.entries(custom)) {
    const config = configIn(name, content);
    if (config === undefined)
      outcomes.dropped(`${prefix}.pluginsCustomConfig ${name}`, "it is no EndpointPickerConfig");
    else found.configs.set(name, config);
  }
  if (isFields(structured) && Object.keys(structured).length > 0) found.configs.set(file, structured);
  if (!found.configs.has(file)) {
    const chart = chartConfig(file, epp["metricsDataSource"], engine);
    if (chart === undefined)
      outcomes.dropped(`${prefix}.pluginsConfigFile ${file}`, "no such file is among the values");
    else found.configs.set(file, chart);
  }
  found.flags.set("config-file", file);
  for (const name of Object.keys(epp)) {
    if (name === "parsers" || name === "parser")
      outcomes.notNeeded(`${prefix}.${name}`, "the filter tells the API by its path");
    else if (PROCESS.has(name))
      outcomes.notNeeded(`${prefix}.${name}`, "it is about the picker's own process");
    else if (name === "tracing" || name === "latencyPredictor")
      otherValue(`${prefix}.${name}`, epp[name], outcomes);
    else if (!READ.has(name)) outcomes.dropped(`${prefix}.${name}`, "a value that is not known here");
  }
}

/** The two configurations that the charts themselves bring. */
function chartConfig(file: string, source: unknown, engine: string | undefined): Fields | undefined {
  const head = { apiVersion: "llm-d.ai/v1alpha1", kind: "EndpointPickerConfig" };
  const profile = (weights: Readonly<Record<string, number>>): object[] => [
    {
      name: "default",
      plugins: Object.entries(weights).map(([pluginRef, weight]) => ({ pluginRef, weight })),
    },
  ];
  const plugins = (weights: Readonly<Record<string, number>>): object[] =>
    Object.keys(weights).map((type) => ({ type }));
  if (file === AGNOSTIC_FILE) {
    const weights = { "active-request-scorer": 1, "session-affinity-scorer": 1 };
    return { ...head, plugins: plugins(weights), schedulingProfiles: profile(weights) };
  }
  if (file !== DEFAULT_FILE) return undefined;
  const weights = { "queue-scorer": 2, "kv-cache-utilization-scorer": 2, "prefix-cache-scorer": 3 };
  const extractor =
    engine === undefined || engine === "vllm" ? {} : { parameters: { defaultEngine: engine } };
  return {
    ...head,
    plugins: [
      ...plugins(weights),
      { type: "metrics-data-source", ...(isFields(source) ? { parameters: source } : {}) },
      { type: "core-metrics-extractor", ...extractor },
    ],
    schedulingProfiles: profile(weights),
    dataLayer: {
      sources: [{ pluginRef: "metrics-data-source", extractors: [{ pluginRef: "core-metrics-extractor" }] }],
    },
  };
}

function readServers(pool: unknown, servers: unknown, found: EppDeployment, outcomes: Outcomes): void {
  if (list(at(servers, "matchExpressions")).length > 0)
    throw new ConversionError(`model servers' matchExpressions: ${SETS_REFUSED}`);
  const labels = at(servers, "matchLabels");
  if (isFields(labels)) {
    found.selector = texts(labels);
  }
  const ports = list(at(servers, "targetPorts") ?? at(pool, "targetPorts"));
  const single = at(pool, "targetPortNumber") ?? at(pool, "targetPort");
  found.ports.push(
    ...[...ports, ...(single === undefined ? [] : [single])].map((port) =>
      Number(at(port, "number") ?? port),
    ),
  );
  const protocol = text(at(servers, "protocol") ?? at(pool, "modelServerProtocol"));
  if (protocol !== undefined && protocol !== "http")
    outcomes.dropped(`model servers' protocol ${protocol}`, "only HTTP APIs are read");
}

function otherValue(name: string, value: unknown, outcomes: Outcomes): void {
  if (["epp", "inferenceExtension", "inferencePool", "modelServers"].includes(name)) return;
  const isOn = at(value, "enabled") === true;
  const last = name.split(".").at(-1)!;
  if (last === "latencyPredictor" && isOn) {
    outcomes.dropped(
      name,
      "there is no predictor; the nearest is token-load-scorer with active-request-scorer",
    );
  } else if (last === "tokenizer" && isOn) {
    outcomes.notNeeded(name, "prompts are matched by their bytes");
  } else if (last === "tracing" && isOn) {
    outcomes.dropped(
      name,
      "there are no spans of the picker; exposeDecision puts each decision into the access log",
    );
  } else if (last === "inferenceObjectives" && list(value).length > 0) {
    outcomes.kept(name, "the objects stay in the cluster: the sidecar watches them");
  } else if (last === "proxy" && isOn) {
    outcomes.dropped(name, "`epp-wasm init --kind plain` writes the Envoy's configuration anew");
  } else if (isFields(value) || list(value).length > 0 || isOn) {
    outcomes.notNeeded(name, "it is about the chart's own objects");
  }
}

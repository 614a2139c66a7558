// Finds the parts of an llm-d endpoint picker in Kubernetes manifests and Helm values.
import { at, type Fields, isFields, list, text, texts } from "../documents.ts";
import { kindOf } from "../validate.ts";
import { parseFlags } from "./flags.ts";
import { configIn, type EppDeployment, takeFlags } from "./found.ts";
import { isHelmValues, readHelmValues } from "./helm.ts";
import type { Outcomes } from "./outcome.ts";

const NO_SERVER = "nothing calls the picker over the network any more";
const STAYS = "stays in the cluster as it is: the sidecar watches it";

/** Objects that came with the picker, and what becomes of them. */
const KINDS: Readonly<Record<string, readonly ["kept" | "not-needed" | "dropped", string]>> = {
  ClusterRole: ["not-needed", "the sidecar's own rights come with its manifests"],
  ClusterRoleBinding: ["not-needed", "the sidecar's own rights come with its manifests"],
  DestinationRule: ["not-needed", NO_SERVER],
  EnvoyExtensionPolicy: ["dropped", "`epp-wasm init` writes the gateway's policies anew"],
  EnvoyFilter: ["dropped", "`epp-wasm init` writes the gateway's filters anew"],
  GCPBackendPolicy: ["dropped", "it is for a gateway that has no Wasm"],
  GCPInferencePoolImportPolicy: ["dropped", "it is for a gateway that has no Wasm"],
  HTTPRoute: ["dropped", "`epp-wasm init` writes the route anew; carry its matches over"],
  HealthCheckPolicy: ["dropped", "it is for a gateway that has no Wasm"],
  HorizontalPodAutoscaler: ["not-needed", "the picker scales with Envoy"],
  InferenceModel: ["dropped", "llm-d has InferenceObjective and InferenceModelRewrite in its place"],
  InferenceModelRewrite: ["kept", STAYS],
  InferenceObjective: ["kept", STAYS],
  Namespace: ["kept", "stays in the cluster as it is"],
  PodMonitoring: ["not-needed", "Envoy's and the sidecar's pages have the metrics"],
  Role: ["not-needed", "the sidecar's own rights come with its manifests"],
  RoleBinding: ["not-needed", "the sidecar's own rights come with its manifests"],
  Secret: ["not-needed", "it is the picker's metrics token or certificate"],
  Service: ["not-needed", NO_SERVER],
  ServiceAccount: ["not-needed", "the sidecar runs in the gateway's pods"],
  ServiceMonitor: ["not-needed", "Envoy's and the sidecar's pages have the metrics"],
};

/** Reads all documents, in order, and reports what each is worth. */
export function readDeployment(documents: readonly unknown[], outcomes: Outcomes): EppDeployment {
  const found: EppDeployment = { flags: new Map(), configs: new Map(), ports: [] };
  for (const document of documents) {
    if (!isFields(document)) outcomes.dropped("a document", "it is no mapping");
    else if (kindOf(document) === "EndpointPickerConfig") found.configs.set("", document);
    else if (isHelmValues(document)) readHelmValues(document, found, outcomes);
    else readObject(document, found, outcomes);
  }
  return found;
}

function readObject(object: Fields, found: EppDeployment, outcomes: Outcomes): void {
  const kind = String(object["kind"]);
  const name = String(at(object, "metadata", "name") ?? "");
  const what = `${kind} ${name}`.trim();
  if (kind === "ConfigMap") readConfigMap(object, what, found, outcomes);
  else if (kind === "InferencePool") readPool(object, what, found, outcomes);
  else if (["Deployment", "StatefulSet", "DaemonSet", "Pod"].includes(kind)) {
    readWorkload(object, what, found, outcomes);
  } else {
    const fate = KINDS[kind];
    if (fate?.[0] === "kept") outcomes.kept(what, fate[1]);
    else if (fate?.[0] === "not-needed") outcomes.notNeeded(what, fate[1]);
    else outcomes.dropped(what, fate?.[1] ?? "a kind of object that is not known here");
  }
}

function readConfigMap(map: Fields, what: string, found: EppDeployment, outcomes: Outcomes): void {
  for (const [file, content] of Object.entries(isFields(map["data"]) ? map["data"] : {})) {
    const document = configIn(`${what} ${file}`, content);
    if (document !== undefined) found.configs.set(file, document);
    else outcomes.dropped(`${what} ${file}`, "it is no EndpointPickerConfig");
  }
}

function readPool(pool: Fields, what: string, found: EppDeployment, outcomes: Outcomes): void {
  outcomes.kept(what, "discovery.kubernetes.inferencePool; the object stays in the cluster");
  found.poolName ??= String(at(pool, "metadata", "name"));
  const namespace = text(at(pool, "metadata", "namespace"));
  if (namespace !== undefined) found.namespace ??= namespace;
  // v1alpha2 has the labels in selector itself.
  const selector = at(pool, "spec", "selector");
  const labels = at(selector, "matchLabels") ?? selector;
  if (isFields(labels) && Object.values(labels).every((value) => typeof value === "string"))
    found.poolSelector ??= texts(labels);
  const port = at(pool, "spec", "targetPorts", 0, "number") ?? at(pool, "spec", "targetPortNumber");
  if (typeof port === "number") found.poolPort ??= port;
  const failureMode = text(at(pool, "spec", "endpointPickerRef", "failureMode"));
  if (failureMode === "FailOpen" || failureMode === "FailClose") found.failureMode = failureMode;
  if (at(pool, "spec", "endpointPickerRef") !== undefined)
    outcomes.notNeeded(`${what} spec.endpointPickerRef`, NO_SERVER);
}

function readWorkload(workload: Fields, what: string, found: EppDeployment, outcomes: Outcomes): void {
  const pod = workload["kind"] === "Pod" ? workload["spec"] : at(workload, "spec", "template", "spec");
  const containers = list(at(pod, "containers"));
  const epp = containers.find(isPicker);
  if (epp === undefined) {
    outcomes.dropped(what, "no container of it is an endpoint picker");
    return;
  }
  outcomes.notNeeded(what, "the picker runs inside Envoy; its flags and configuration are read");
  const namespace = text(at(workload, "metadata", "namespace"));
  if (namespace !== undefined) found.namespace ??= namespace;
  for (const container of containers) {
    if (container !== epp)
      outcomes.dropped(
        `${what} container ${String(at(container, "name"))}`,
        "only the picker's container is read",
      );
  }
  for (const variable of list(at(epp, "env"))) {
    outcomes.notNeeded(`${what} env ${String(at(variable, "name"))}`, "it is the picker process's own");
  }
  takeFlags(parseFlags([...list(at(epp, "command")), ...list(at(epp, "args"))]), found, outcomes);
}

/** By its flags, or by the name of its image. */
function isPicker(container: unknown): boolean {
  const flags = parseFlags([...list(at(container, "command")), ...list(at(container, "args"))]);
  const hasFlag = ["pool-name", "config-file", "config-text", "endpoint-selector"].some((name) =>
    flags.has(name),
  );
  return (
    hasFlag || /(endpoint-picker|inference-scheduler|\/epp)[:@\w.-]*$/.test(String(at(container, "image")))
  );
}

// Parameters of the plugins that are accepted without effect: checked as llm-d checks them, and forgotten.
//
// A mistake in the sidecar's part of the document is told here too, where Envoy's start shows it.
import {
  NO_NODE,
  treeFind,
  treeFirst,
  treeNext,
  treeNumber,
  treeTextIs,
  treeTextLen,
  treeTextPtr,
} from "../json/tree";
import { isRefused, pathBack, pathElement, pathMark, pathMember } from "./errors";
import {
  arrayField,
  boolField,
  choiceField,
  durationField,
  field,
  numberField,
  objectBegin,
  objectEnd,
  objectField,
  positiveDurationField,
  refuseField,
  scalarField,
  textField,
  wholeField,
} from "./fields";
import {
  CHECK_APPROX_PREFIX,
  CHECK_CONCURRENCY_DETECTOR,
  CHECK_DCGM_SOURCE,
  CHECK_FILE_DISCOVERY,
  CHECK_HEADERS_HANDLER,
  CHECK_INFLIGHT_LOAD,
  CHECK_METRICS_EXTRACTOR,
  CHECK_METRICS_SOURCE,
  CHECK_MODELS_SOURCE,
  CHECK_NOTIFICATION_SOURCE,
  CHECK_PRIORITY_HOLDBACK,
  CHECK_PROGRAM_AWARE,
  CHECK_STATIC_USAGE_LIMIT,
  CHECK_TOKEN_PRODUCER,
  CHECK_TOPOLOGY,
  CHECK_UTILIZATION_DETECTOR,
} from "./plugin-table";

const MOST: f64 = 9007199254740991;
/** Smallest positive number: "> 0" as a range. */
const ABOVE_ZERO: f64 = 5e-324;

/** Checks the parameters `node` (NO_NODE: none) of what CHECK_* stands for. False: refused. */
export function acceptedParameters(node: i32, check: u32): bool {
  objectBegin(node);
  switch (check) {
    case CHECK_UTILIZATION_DETECTOR:
      wholeField("queueDepthThreshold", 5, 1, MOST, "a whole number > 0");
      numberField("kvCacheUtilThreshold", 0.8, ABOVE_ZERO, 1, "a number, > 0 and ≤ 1");
      positiveDurationField("metricsStalenessThreshold");
      numberField("headroom", 0, 0, MOST, "a number ≥ 0");
      break;
    case CHECK_CONCURRENCY_DETECTOR:
      concurrencyDetector();
      break;
    case CHECK_PROGRAM_AWARE:
      programAware();
      break;
    case CHECK_STATIC_USAGE_LIMIT:
      numberField("threshold", 1, 0, 1, "a number, 0 to 1");
      break;
    case CHECK_PRIORITY_HOLDBACK:
      priorityHoldback();
      break;
    case CHECK_APPROX_PREFIX:
      approxPrefix();
      break;
    case CHECK_TOKEN_PRODUCER:
      tokenProducer();
      break;
    case CHECK_INFLIGHT_LOAD:
      boolField("addEstimatedOutputTokens", false);
      numberField("outputRatio", 1.5, 0, MOST, "a number ≥ 0");
      wholeField("maxEstimatedOutputTokens", 0, 0, MOST, "a whole number ≥ 0");
      boolField("syncCrossReplicaState", false);
      textField("prefixMatchInfoProducerName");
      textField("tokenProducerName");
      break;
    case CHECK_METRICS_SOURCE:
    case CHECK_MODELS_SOURCE:
    case CHECK_DCGM_SOURCE:
      httpSource(check);
      break;
    case CHECK_METRICS_EXTRACTOR:
      metricsExtractor();
      break;
    case CHECK_NOTIFICATION_SOURCE:
      textField("group");
      requiredText("version");
      requiredText("kind");
      break;
    case CHECK_FILE_DISCOVERY:
      requiredText("path");
      boolField("watchFile", false);
      break;
    case CHECK_HEADERS_HANDLER:
      textField("prefillProfile");
      textField("encodeProfile");
      break;
    case CHECK_TOPOLOGY:
      textField("hostname");
      textField("rack");
      textField("zone");
      textField("region");
      break;
  }
  return objectEnd();
}

function requiredText(name: string): void {
  const node = textField(name);
  if (node < 0 && !isRefused()) refuseField(name, field(name), "a text that is not empty");
}

function concurrencyDetector(): void {
  const mode = field("concurrencyMode");
  if (mode >= 0 && !isOneOf(mode, "requests", "tokens", "hybrid")) {
    refuseField("concurrencyMode", mode, '"requests", "tokens" or "hybrid"');
  }
  wholeField("maxConcurrency", 100, 1, MOST, "a whole number > 0");
  wholeField("maxTokenConcurrency", 1000000, 1, MOST, "a whole number > 0");
  numberField("headroom", 0, 0, MOST, "a number ≥ 0");
  textField("inFlightLoadProducerName");
}

function programAware(): void {
  const strategy = textField("strategy");
  if (strategy >= 0 && !isOneOf(strategy, "las", "las", "las")) refuseField("strategy", strategy, '"las"');
  numberField("lasWeightService", 0.8, 0, MOST, "a number ≥ 0");
  numberField("lasWeightHeadWait", 0.2, 0, MOST, "a number ≥ 0");
  numberField("lasHalfLifeSeconds", 60, 0, MOST, "a number ≥ 0");
  numberField("evictionTtlSeconds", 3600, 0, MOST, "a number ≥ 0");
  numberField("evictionSweepSeconds", 300, ABOVE_ZERO, MOST, "a number > 0");
}

function priorityHoldback(): void {
  const shape = field("shape");
  if (shape >= 0 && !isOneOf(shape, "linear", "linear", "linear")) refuseField("shape", shape, '"linear"');
  choiceField("domain", "rank", "value", '"rank" or "value"');
  const least = field("minCeiling");
  const floor = treeNumber(least);
  if (!(floor >= 0 && floor < 1)) refuseField("minCeiling", least, "a number, ≥ 0 and < 1");
  const ceiling = numberField("maxCeiling", 1, ABOVE_ZERO, 1, "a number, > 0 and ≤ 1");
  if (floor >= ceiling) refuseField("minCeiling", least, "a number below maxCeiling");
}

function approxPrefix(): void {
  boolField("autoTune", true);
  wholeField("blockSize", 0, 0, MOST, "a whole number ≥ 0");
  wholeField("blockSizeTokens", 16, 0, MOST, "a whole number ≥ 0");
  wholeField("maxPrefixTokensToMatch", 131072, 0, MOST, "a whole number ≥ 0");
  wholeField("maxPrefixBlocksToMatch", 2048, 0, MOST, "a whole number ≥ 0");
  wholeField("lruCapacityPerServer", 31250, 0, MOST, "a whole number ≥ 0");
  textField("tokenProducerName");
}

function tokenProducer(): void {
  const model = textField("modelName");
  const estimate = objectField("estimate");
  const vllm = objectField("vllm");
  const socket = objectField("udsTokenizerConfig");
  const backends = (estimate >= 0 ? 1 : 0) + (vllm >= 0 ? 1 : 0) + (socket >= 0 ? 1 : 0);
  if (backends > 1) refuseField("vllm", vllm, "only one of estimate, vllm and udsTokenizerConfig");
  if ((vllm >= 0 || socket >= 0) && model < 0) refuseField("modelName", NO_NODE, "a model's name");
  const mark = pathMark();
  pathMember("vllm");
  objectBegin(vllm);
  scalarField("url");
  scalarField("http");
  positiveDurationField("timeout");
  positiveDurationField("mmTimeout");
  objectEnd();
  pathBack(mark);
  pathMember("estimate");
  objectBegin(estimate);
  checkMode("image");
  checkMode("video");
  objectEnd();
  pathBack(mark);
}

function checkMode(name: string): void {
  const media = objectField(name);
  const mark = pathMark();
  pathMember(name);
  objectBegin(media);
  choiceField("mode", "dynamic", "static", '"dynamic" or "static"');
  objectField("static");
  objectField("dynamic");
  objectEnd();
  pathBack(mark);
}

function httpSource(check: u32): void {
  choiceField("scheme", "http", "https", '"http" or "https"');
  textField("path");
  boolField("insecureSkipVerify", true);
  if (check != CHECK_MODELS_SOURCE) wholeField("port", 1, 1, 65535, "a port, 1 to 65535");
  if (check == CHECK_DCGM_SOURCE) {
    boolField("useNodeAddress", false);
    return;
  }
  textField("caCertPath");
  textField("clientCertPath");
  textField("clientKeyPath");
  textField("serverName");
  durationField("interval");
}

function metricsExtractor(): void {
  textField("engineLabelKey");
  const fallback = textField("defaultEngine");
  const engines = arrayField("engineConfigs");
  const mark = pathMark();
  let isFound = fallback < 0 || isKnownEngine(fallback);
  let engine = treeFirst(engines);
  for (let i: u32 = 0; engine >= 0 && !isRefused(); i++) {
    pathMember("engineConfigs");
    pathElement(i);
    engineConfig(engine, engines);
    isFound = isFound || sameText(treeFind(engine, "name"), fallback);
    pathBack(mark);
    engine = treeNext(engine);
  }
  if (!isFound && !isRefused()) {
    refuseField(
      "defaultEngine",
      fallback,
      "vllm, sglang, trtllm-serve, triton-tensorrt-llm, triton or one of engineConfigs",
    );
  }
}

function engineConfig(node: i32, engines: i32): void {
  objectBegin(node);
  requiredText("name");
  const name = treeFind(node, "name");
  if (treeTextIs(name, "default")) refuseField("name", name, "a name other than default, which is reserved");
  let other = treeFirst(engines);
  while (other != node && other >= 0) {
    if (sameText(treeFind(other, "name"), name)) refuseField("name", name, "a name that no other engine has");
    other = treeNext(other);
  }
  scalarField("queuedRequestsSpec");
  scalarField("runningRequestsSpec");
  scalarField("kvUsageSpec");
  scalarField("loraSpec");
  scalarField("cacheInfoSpec");
  const metrics = arrayField("customMetrics");
  const mark = pathMark();
  let metric = treeFirst(metrics);
  for (let i: u32 = 0; metric >= 0 && !isRefused(); i++) {
    pathMember("customMetrics");
    pathElement(i);
    objectBegin(metric);
    requiredText("attributeKey");
    requiredText("metricSpec");
    objectEnd();
    pathBack(mark);
    metric = treeNext(metric);
  }
  objectEnd();
}

function isKnownEngine(node: i32): bool {
  return (
    isOneOf(node, "vllm", "sglang", "trtllm-serve") ||
    isOneOf(node, "triton-tensorrt-llm", "triton", "triton")
  );
}

function isOneOf(node: i32, first: string, second: string, third: string): bool {
  return treeTextIs(node, first) || treeTextIs(node, second) || treeTextIs(node, third);
}

function sameText(a: i32, b: i32): bool {
  const bytes = treeTextLen(a);
  return (
    a >= 0 && b >= 0 && bytes == treeTextLen(b) && memory.compare(treeTextPtr(a), treeTextPtr(b), bytes) == 0
  );
}

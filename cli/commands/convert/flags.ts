// The picker's command line: which flags mean something here. llm-d-router pkg/epp/server/options.go @ 03fdf919.
import { list, text } from "../documents.ts";
import type { Outcomes, Verdict } from "./outcome.ts";

const NO_SERVER = "there is no gRPC server: the picker runs inside Envoy";
const ENVOY_METRICS = "the metrics are on Envoy's admin listener and the sidecar's /metrics";
const ENVOY_LOG = "Envoy's --component-log-level wasm:… and the sidecar's log.level decide";
const ENGINE_CONFIGS = "llm-d refuses it too: name the metric in engineConfigs of core-metrics-extractor";

/** Flags that are read for what they say; the conversion reports them where it uses them. */
const USED = new Set([
  "config-file",
  "config-text",
  "endpoint-selector",
  "endpoint-target-ports",
  "pool-name",
  "pool-namespace",
  "refresh-metrics-interval",
  "model-server-metrics-port",
  "model-server-metrics-path",
  "model-server-metrics-scheme",
]);

const FATES: Readonly<Record<string, readonly [Exclude<Verdict, "kept">, string]>> = {
  "allow-experimental-plugins": ["not-needed", "every plugin that is here may be used"],
  "cache-info-metric": ["dropped", ENGINE_CONFIGS],
  "cert-path": ["not-needed", NO_SERVER],
  "disable-endpoint-subset-filter": ["dropped", "subset hints are always honoured"],
  "drain-timeout": ["not-needed", "streams drain with Envoy"],
  "enable-cert-reload": ["not-needed", NO_SERVER],
  "enable-grpc-stream-metrics": ["not-needed", NO_SERVER],
  "enable-pprof": ["not-needed", "Envoy and Node have their own profilers"],
  "grpc-health-port": ["not-needed", NO_SERVER],
  "grpc-max-recv-msg-size": ["not-needed", NO_SERVER],
  "grpc-max-send-msg-size": ["not-needed", NO_SERVER],
  "grpc-port": ["not-needed", NO_SERVER],
  "ha-enable-leader-election": ["not-needed", "every gateway picks for itself: there is no leader"],
  "health-checking": ["not-needed", "the sidecar has /healthz and /readyz"],
  "kv-cache-usage-percentage-metric": ["dropped", ENGINE_CONFIGS],
  "lora-info-metric": ["dropped", ENGINE_CONFIGS],
  "metrics-cert-dir": ["not-needed", ENVOY_METRICS],
  "metrics-client-ca-file": ["not-needed", ENVOY_METRICS],
  "metrics-endpoint-auth": ["not-needed", ENVOY_METRICS],
  "metrics-port": ["not-needed", ENVOY_METRICS],
  "metrics-staleness-threshold": ["dropped", "the nearest is snapshotAgeMaxMs of epp-wasm-gateway"],
  "pool-group": ["not-needed", "InferencePool v1 of inference.networking.k8s.io is what is watched"],
  "refresh-prometheus-metrics-interval": ["not-needed", ENVOY_METRICS],
  "secure-serving": ["not-needed", NO_SERVER],
  "total-queued-requests-metric": ["dropped", ENGINE_CONFIGS],
  "total-running-requests-metric": ["dropped", ENGINE_CONFIGS],
  tracing: [
    "dropped",
    "there are no spans of the picker; exposeDecision puts each decision into the access log",
  ],
  v: ["not-needed", ENVOY_LOG],
};

/** Flags by their names without dashes, in kebab case; a flag alone is "true". */
export type FlagValues = Map<string, string>;

/** Reads "--pool-name x", "--pool-name=x" and the older "-poolName x". */
export function parseFlags(args: readonly unknown[]): FlagValues {
  const words = list(args).map((word) => text(word) ?? String(word));
  const flags: FlagValues = new Map();
  for (let index = 0; index < words.length; index++) {
    const match = /^--?([A-Za-z][\w-]*)(?:=([\s\S]*))?$/.exec(words[index]!);
    if (match === null) continue;
    const next = words[index + 1];
    const takesNext = match[2] === undefined && next !== undefined && !/^--?[A-Za-z]/.test(next);
    flags.set(kebab(match[1]!), match[2] ?? (takesNext ? next : "true"));
    if (takesNext) index++;
  }
  return flags;
}

function kebab(name: string): string {
  return name.replace(/([a-z])([A-Z])/g, "$1-$2").toLowerCase();
}

/** Reports every flag that the conversion itself does not read. */
export function judgeFlags(flags: FlagValues, outcomes: Outcomes): void {
  for (const [name, value] of flags) {
    if (USED.has(name)) continue;
    const [verdict, why] = FATES[name] ?? (name.startsWith("zap-") ? ["not-needed", ENVOY_LOG] : []);
    const what = `--${name}=${value}`;
    if (verdict === "not-needed" || (verdict === "dropped" && value === "false")) {
      outcomes.notNeeded(what, why ?? "");
    } else outcomes.dropped(what, why ?? "a flag that is not known");
  }
}

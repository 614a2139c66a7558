// Findings about the way from the picker to the replica: the route's limits, the cluster that must obey the pick.
import { at, type Fields, list } from "../documents.ts";
import type { Observation } from "./collect.ts";
import { error, type Finding, warning } from "./finding.ts";
import { number, type PluginUse, type RouteUse, seconds } from "./gateway-view.ts";

const DESTINATION = "x-gateway-destination-endpoint";
const HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/** Streams may be silent for long: a shorter limit ends answers that are merely slow. */
const TIMEOUT_MIN_S = 600;
/** A longer wait before the next replica on the list is time the client loses. Envoy's default is 25 ms. */
const BACKOFF_BASE_MAX_S = 0.01;
const BACKOFF_DEFAULT_S = 0.025;
/** A replica that does not answer SYNs costs this much before the next is tried. Envoy's default is 5 s. */
const CONNECT_TIMEOUT_MAX_S = 1;
const CONNECT_TIMEOUT_DEFAULT_S = 5;
/** Requests at once to a pool of streams that last minutes; Envoy's default is 1,024. */
const REQUESTS_WANTED = 4_096;
const REQUESTS_DEFAULT = 1_024;
/** Requests that one dying replica sends elsewhere at once; Envoy's default is 3. */
const RETRIES_WANTED = 100;
const RETRIES_DEFAULT = 3;
const RETRY_BUDGET_PERCENT_DEFAULT = 20;

/** Faults of the routes with the picker, and of the clusters behind them, each told once. */
export function routeFindings({ view }: Observation): Finding[] {
  const pickers = view.plugins.filter(({ role }) => role === "picker");
  const findings = pickers.flatMap((plugin) =>
    plugin.routes.flatMap((route) => [...timeoutFindings(plugin, route), ...retryFindings(route)]),
  );
  const names = new Set(pickers.flatMap(({ routes }) => routes.flatMap(({ clusters }) => clusters)));
  for (const name of names) {
    const cluster = view.clusters.get(name);
    if (cluster === undefined) {
      findings.push(
        error(
          "cluster-missing",
          `a route with the picker names cluster ${name}, which Envoy does not have`,
          "Look for the backend that the gateway could not resolve.",
        ),
      );
    } else {
      findings.push(...clusterFindings(name, cluster));
    }
  }
  return findings;
}

function timeoutFindings({ listener, streamIdleTimeoutS }: PluginUse, route: RouteUse): Finding[] {
  const findings: Finding[] = [];
  if (route.timeoutS > 0 && route.timeoutS < TIMEOUT_MIN_S) {
    findings.push(
      error(
        "route-timeout",
        `route ${route.name} ends every answer after ${route.timeoutS} s`,
        "Set timeout: 0s on the route (HTTPRoute: timeouts.request: 0s).",
      ),
    );
  }
  const idleS = route.idleTimeoutS ?? streamIdleTimeoutS;
  if (idleS > 0 && idleS < TIMEOUT_MIN_S) {
    findings.push(
      warning(
        "stream-idle-timeout",
        `listener ${listener}, route ${route.name}: a stream that is silent for ${idleS} s is cut, which a long answer ` +
          "without streaming is",
        "Set stream_idle_timeout: 3600s on the connection manager, or idle_timeout on the route.",
      ),
    );
  }
  return findings;
}

function retryFindings(route: RouteUse): Finding[] {
  const findings: Finding[] = [];
  if (route.removedHeaders.includes(DESTINATION)) {
    findings.push(
      error(
        "pick-removed",
        `route ${route.name} removes ${DESTINATION} before the cluster reads it`,
        "Take it out of request_headers_to_remove; an upstream filter may remove it (envoy/plain/envoy.yaml).",
      ),
    );
  }
  if (route.retryPolicy === null) {
    findings.push(
      warning(
        "retry-policy",
        `route ${route.name} has no retry_policy: requests without a decision are not retried, and others wait up to 25 ms`,
        "Set retry_on connect-failure,refused-stream,reset, num_retries 2 and retry_back_off base_interval 0.001s.",
      ),
    );
    return findings;
  }
  const base = seconds(at(route.retryPolicy, "retry_back_off", "base_interval")) ?? BACKOFF_DEFAULT_S;
  if (base > BACKOFF_BASE_MAX_S) {
    findings.push(
      warning(
        "retry-backoff",
        `route ${route.name}: the next replica on the list is tried only after up to ${base * 1000} ms`,
        "Set retry_back_off: { base_interval: 0.001s, max_interval: 0.010s }: each attempt goes to another replica.",
      ),
    );
  }
  return findings;
}

function clusterFindings(name: string, cluster: Fields): Finding[] {
  const findings: Finding[] = [];
  if (!readsPick(cluster)) {
    findings.push(
      error(
        "override-host",
        `cluster ${name} does not choose by ${DESTINATION}: the pick has no effect`,
        "Give it the load balancing policy override_host with that header (Envoy Gateway: BackendTrafficPolicy " +
          "loadBalancer.endpointOverride.extractFrom).",
      ),
    );
  } else if (!removesPick(cluster)) {
    findings.push(
      warning(
        "pick-passed-on",
        `cluster ${name} sends ${DESTINATION} on to the replicas`,
        "Remove it with an upstream filter, as envoy/plain/envoy.yaml does. Under Envoy Gateway an EnvoyPatchPolicy does " +
          "that: look at its status (Programmed), and that it names each rule's cluster.",
      ),
    );
  }
  const connectS = seconds(cluster["connect_timeout"]) ?? CONNECT_TIMEOUT_DEFAULT_S;
  if (connectS > CONNECT_TIMEOUT_MAX_S) {
    findings.push(
      warning(
        "connect-timeout",
        `cluster ${name} waits ${connectS} s for a connection before the next replica is tried`,
        "Set connect_timeout: 0.25s.",
      ),
    );
  }
  return [...findings, ...breakerFindings(name, cluster)];
}

function readsPick(cluster: Fields): boolean {
  return list(at(cluster, "load_balancing_policy", "policies")).some((policy) => {
    const config = at(policy, "typed_extension_config", "typed_config");
    return (
      String(at(config, "@type")).endsWith(".OverrideHost") &&
      list(at(config, "override_host_sources")).some(
        (source) => String(at(source, "header")).toLowerCase() === DESTINATION,
      )
    );
  });
}

/** Whether a filter of the cluster takes the header away, behind the choice of a host. */
function removesPick(cluster: Fields): boolean {
  const filters = at(cluster, "typed_extension_protocol_options", HTTP_OPTIONS, "http_filters");
  return list(filters).some((filter) =>
    list(at(filter, "typed_config", "mutations", "request_mutations")).some(
      (mutation) => String(at(mutation, "remove")).toLowerCase() === DESTINATION,
    ),
  );
}

function breakerFindings(name: string, cluster: Fields): Finding[] {
  const thresholds = list(at(cluster, "circuit_breakers", "thresholds"));
  const usual = thresholds.find((entry) => (at(entry, "priority") ?? "DEFAULT") === "DEFAULT");
  const findings: Finding[] = [];
  const limits = ["max_connections", "max_pending_requests", "max_requests"].map(
    (field) => [field, number(at(usual, field)) ?? REQUESTS_DEFAULT] as const,
  );
  const small = limits.filter(([, limit]) => limit < REQUESTS_WANTED);
  if (small.length > 0) {
    findings.push(
      warning(
        "circuit-breakers",
        `cluster ${name}: ${small.map(([field, limit]) => `${field} is ${limit}`).join(", ")}: streams beyond are ` +
          "answered 503",
        "Set each to 65536 for the priority DEFAULT.",
      ),
    );
  }
  if (retriesAtOnce(usual) < RETRIES_WANTED) {
    findings.push(
      error(
        "retry-circuit-breaker",
        `cluster ${name} allows ${retriesAtOnce(usual)} retries at once: when a replica dies the other requests get 503`,
        "Set retry_budget: { budget_percent: { value: 100 }, min_retry_concurrency: 1024 }, or max_retries: 1024.",
      ),
    );
  }
  return findings;
}

/** A budget of all requests allows any number of retries. */
function retriesAtOnce(threshold: unknown): number {
  const budget = at(threshold, "retry_budget");
  if (budget === undefined) return number(at(threshold, "max_retries")) ?? RETRIES_DEFAULT;
  const percent = number(at(budget, "budget_percent", "value")) ?? RETRY_BUDGET_PERCENT_DEFAULT;
  if (percent >= 100) return Number.POSITIVE_INFINITY;
  return number(at(budget, "min_retry_concurrency")) ?? RETRIES_DEFAULT;
}

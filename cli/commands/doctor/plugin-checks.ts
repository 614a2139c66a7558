// Findings about the module in Envoy: is it there, does it live, may it see bodies, do both roles share their state.
import { at, list } from "../documents.ts";
import type { Observation } from "./collect.ts";
import { error, type Finding, warning } from "./finding.ts";
import { number, parameterOf, type PluginUse } from "./gateway-view.ts";

/** Oldest Envoy: request_body_buffer_limit, and override_host that reads a header. */
const ENVOY_OLDEST = [1, 36] as const;
/** The filter's own default of decisionBytesMax and snapshotAgeMaxMs. */
const DECISION_BYTES_DEFAULT = 28_672;
const SNAPSHOT_AGE_MAX_DEFAULT_MS = 3_000;
/** Body that a retry should still be able to send again: what the filter takes by default. */
const RETRY_BYTES_WANTED = 16_777_216;
/** Labels of the filter's metrics. */
const STATS_TAGS = ["pool", "kind", "reason"];

export const METRIC = "wasmcustom.epp_";

/** Envoy itself: version, and what it refused. */
export function envoyFindings({ version, view }: Observation): Finding[] {
  const findings: Finding[] = view.refused.map(({ resource, details }) =>
    error(
      "config-refused",
      `Envoy refused what its control plane sent for ${resource}: ${details}`,
      "Read the reason; it is often a policy that contradicts another, such as failOpen with failure_policy.",
    ),
  );
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const isNewEnough = major > ENVOY_OLDEST[0] || (major === ENVOY_OLDEST[0] && minor >= ENVOY_OLDEST[1]);
  if (!isNewEnough) {
    const oldest = ENVOY_OLDEST.join(".");
    findings.push(
      error(
        "envoy-version",
        `Envoy is ${version}`,
        `Use ${oldest} or newer: older ones lack what picks by header and what lets a filter hold headers.`,
      ),
    );
  }
  return findings;
}

/** Both roles: there, alive, shared, restartable, with their flag. */
export function pluginFindings(observation: Observation): Finding[] {
  const { plugins } = observation.view;
  const pickers = plugins.filter(({ role }) => role === "picker");
  const ingests = plugins.filter(({ role }) => role === "ingest");
  const findings: Finding[] = [];
  if (pickers.length === 0) {
    findings.push(
      error(
        "picker-missing",
        "no listener has the filter with root_id picker",
        "Add it to the listener of the inference traffic (envoy/plain/envoy.yaml shows it); with a gateway, see " +
          "whether its policy was accepted.",
      ),
    );
  }
  if (ingests.length === 0) {
    findings.push(
      error(
        "ingest-missing",
        "no listener has the filter with root_id ingest: the sidecar cannot tell the gateway anything",
        "Add the control listener (epp-control in envoy/plain/envoy.yaml) to the bootstrap.",
      ),
    );
  }
  findings.push(...plugins.flatMap(flagFindings), ...sharedStateFindings(pickers, ingests));
  if (pickers.length > 0) findings.push(...lifeFindings(observation, plugins));
  return findings;
}

function flagFindings(plugin: PluginUse): Finding[] {
  const findings: Finding[] = [];
  const where = `${plugin.role} on listener ${plugin.listener}`;
  if (!plugin.stopIteration) {
    findings.push(
      error(
        "stop-iteration",
        `${where}: allow_on_headers_stop_iteration is not set, so no body reaches the filter`,
        "Set allow_on_headers_stop_iteration: true. Under Envoy Gateway an EnvoyPatchPolicy does that: look at its " +
          "status (Programmed), and that enableEnvoyPatchPolicy is on.",
      ),
    );
  }
  if (plugin.failurePolicy !== "FAIL_RELOAD") {
    findings.push(
      error(
        "failure-policy",
        `${where}: failure_policy is ${plugin.failurePolicy}: after one trap it is dead until it is reconfigured`,
        "Set failure_policy: FAIL_RELOAD (with failOpen left false).",
      ),
    );
  }
  return findings;
}

function sharedStateFindings(pickers: readonly PluginUse[], ingests: readonly PluginUse[]): Finding[] {
  const heard = new Set(ingests.map(({ vmId }) => vmId));
  if (ingests.length === 0) return [];
  return pickers
    .filter(({ vmId }) => !heard.has(vmId))
    .map(({ vmId, listener }) =>
      error(
        "vm-id",
        `picker on listener ${listener} has vm_id ${JSON.stringify(vmId)}, the control listener ` +
          `${[...heard].map((id) => JSON.stringify(id)).join(", ")}: what the sidecar pushes never reaches the picker`,
        "Give both roles the same fixed vm_id, such as epp.",
      ),
    );
}

/** What the statistics tell of the running VMs. */
function lifeFindings({ stats }: Observation, plugins: readonly PluginUse[]): Finding[] {
  const findings: Finding[] = [];
  for (const name of new Set(plugins.map((plugin) => plugin.name))) {
    const failed = stats.get(`wasm.${name}.vm_reload_failure`) ?? 0;
    const reloaded = stats.get(`wasm.${name}.vm_reload_success`) ?? 0;
    if (failed > 0) {
      findings.push(
        error(
          "vm-dead",
          `${name}: ${failed} times its VM could not be made anew after a trap`,
          SEE_ENVOYS_LOG,
        ),
      );
    } else if (reloaded > 0) {
      findings.push(
        warning("vm-trapped", `${name}: its VM trapped and was made anew ${reloaded} times`, SEE_ENVOYS_LOG),
      );
    }
  }
  if (stats.get("wasm.envoy.wasm.runtime.v8.active") === 0) {
    findings.push(error("vm-dead", "the filter is configured, and no Wasm VM runs", SEE_ENVOYS_LOG));
  }
  const headerOnly = stats.get(`${METRIC}header_only`) ?? 0;
  const isFlagSet = plugins.every(({ stopIteration }) => stopIteration);
  if (headerOnly > 0 && isFlagSet) {
    findings.push(
      error(
        "header-only",
        "the filter decides without bodies (epp_header_only): none reached it although the flag is set",
        "Restart this Envoy if the flag was set after the filter started, and look for filters before it that hold bodies.",
      ),
    );
  }
  return findings;
}

const SEE_ENVOYS_LOG = "Envoy's log has the reason (component wasm); please report traps.";

/** Bytes that Envoy lets a filter hold, and a router keep. */
export function bufferFindings({ view }: Observation): Finding[] {
  return pickers(view.plugins).flatMap((plugin) => {
    const { listener, bufferLimitBytes } = plugin;
    const held = gatewaySetting(plugin, "decisionBytesMax") ?? DECISION_BYTES_DEFAULT;
    if (held > bufferLimitBytes) {
      return [
        error(
          "buffer-limit",
          `listener ${listener} holds ${bufferLimitBytes} bytes and the filter waits for ${held} (decisionBytesMax): ` +
            "Envoy answers 413 to bodies between",
          "Raise per_connection_buffer_limit_bytes (Envoy Gateway: ClientTrafficPolicy connection.bufferLimit), or " +
            "lower decisionBytesMax.",
        ),
      ];
    }
    const kept = Math.min(
      ...plugin.routes.map((route) => Math.max(bufferLimitBytes, route.bufferLimitBytes ?? 0)),
    );
    if (kept >= RETRY_BYTES_WANTED) return [];
    return [
      warning(
        "retry-buffer",
        `listener ${listener}: a body of more than ${kept} bytes cannot go to a second replica when the first fails`,
        `Set per_connection_buffer_limit_bytes to ${RETRY_BYTES_WANTED}.`,
      ),
    ];
  });
}

/** What the sidecar pushed, as the gateway has it. */
export function snapshotFindings({ status, view }: Observation): Finding[] {
  if (status === null) return [];
  if ("failure" in status) {
    // Something answers: module-checks.ts tells what that means.
    if (status.answered === 404) return [];
    return [
      error(
        "control-unreachable",
        `the control listener ${status.target} gives no status: ${status.failure}`,
        "See that doctor may open it (--control, EPP_CONTROL_TOKEN), that Envoy listens there, and the socket's mode " +
          "and group where the sidecar is another container.",
      ),
    ];
  }
  const pools = list(at(status.value, "pools"));
  const withSnapshot = pools.filter((pool) => number(at(pool, "snapshotAgeMs")) !== null);
  if (withSnapshot.length === 0) {
    return [
      error(
        "snapshot-missing",
        "the gateway never got a snapshot: Envoy balances without the picker",
        "Start the sidecar on this control listener; its log and /readyz say what hinders it.",
      ),
    ];
  }
  const limits = pickers(view.plugins).map(
    (plugin) => gatewaySetting(plugin, "snapshotAgeMaxMs") ?? SNAPSHOT_AGE_MAX_DEFAULT_MS,
  );
  const ageMaxMs = limits.length === 0 ? SNAPSHOT_AGE_MAX_DEFAULT_MS : Math.min(...limits);
  return withSnapshot.flatMap((pool) => poolFindings(pool, ageMaxMs));
}

function poolFindings(pool: unknown, ageMaxMs: number): Finding[] {
  const name = String(at(pool, "name"));
  const ageMs = Math.round(number(at(pool, "snapshotAgeMs")) ?? 0);
  const findings: Finding[] = [];
  if (ageMs > ageMaxMs) {
    findings.push(
      error(
        "snapshot-old",
        `pool ${name}: its snapshot is ${ageMs} ms old, more than ${ageMaxMs}: load figures are ignored`,
        "The sidecar died or cannot reach the control listener; its log and /readyz say which.",
      ),
    );
  }
  if (number(at(pool, "readyEndpoints")) === 0) {
    findings.push(
      error(
        "no-ready-endpoint",
        `pool ${name} has no ready endpoint: every request is answered 503`,
        "See /readyz of the sidecar: discovery finds none, or none answers its metrics page.",
      ),
    );
  }
  return findings;
}

/** Two faults that only figures tell. */
export function statisticsFindings({ stats, view }: Observation): Finding[] {
  const findings: Finding[] = [];
  const unknown = stats.get(`${METRIC}unknown_upstream_total`) ?? 0;
  if (unknown > 0) {
    findings.push(
      warning(
        "unknown-upstream",
        `${unknown} requests were answered by an address that the filter had not named`,
        "The cluster and the sidecar must know the same addresses and ports: compare /clusters with GET /status.",
      ),
    );
  }
  const missing = STATS_TAGS.filter((tag) => !view.statsTags.includes(tag));
  if (missing.length > 0) {
    findings.push(
      warning(
        "stats-tags",
        `the bootstrap's stats_config has no stats_tags for ${missing.join(", ")}: the filter's metrics have no labels`,
        "Copy stats_config from envoy/plain/envoy.yaml into the bootstrap.",
      ),
    );
  }
  return findings;
}

/** The sidecar's own word. */
export function readinessFindings({ readiness }: Observation): Finding[] {
  if (readiness === null) return [];
  if ("failure" in readiness) {
    return [
      error(
        "sidecar-unreachable",
        `the sidecar's /readyz does not answer: ${readiness.failure}`,
        "Start it, with --listen or http.listen at this address.",
      ),
    ];
  }
  const { status, body } = readiness.value;
  const reasons = list(at(body, "reasons")).map(String).join("; ");
  if (status !== 200) {
    return [
      error(
        "sidecar-not-ready",
        `the sidecar is not ready: ${reasons || `status ${status}`}`,
        "Mend what it names.",
      ),
    ];
  }
  if (at(body, "status") !== "degraded") return [];
  return [
    warning(
      "sidecar-degraded",
      `the sidecar works with less than it should know: ${reasons}`,
      "Mend what it names.",
    ),
  ];
}

function pickers(plugins: readonly PluginUse[]): PluginUse[] {
  return plugins.filter(({ role }) => role === "picker");
}

/** A number among the parameters of epp-wasm-gateway; undefined = not set. */
function gatewaySetting(plugin: PluginUse, name: string): number | undefined {
  return number(parameterOf(plugin, "epp-wasm-gateway", name)) ?? undefined;
}

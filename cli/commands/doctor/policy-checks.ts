// What doctor finds about pool policies: refused ones, and rewrites that could not be made.
import type { Observation } from "./collect.ts";
import { type Finding, warning } from "./finding.ts";
import { METRIC } from "./plugin-checks.ts";

/** Each counts since the start of Envoy. */
export function policyFindings({ stats }: Observation): Finding[] {
  const findings: Finding[] = [];
  const count = (metric: string): number => stats.get(METRIC + metric) ?? 0;
  const refused = count("policies_refused_total");
  if (refused > 0) {
    findings.push(
      warning(
        "policy-refused",
        `the gateway refused a pool's policy ${refused} times: the last good one is in force, if there was one`,
        "Envoy's log and the sidecar's /readyz name the field; run the module and the sidecar of one release.",
      ),
    );
  }
  const missed = count("rewrites_missed_total");
  if (missed > 0) {
    findings.push(
      warning(
        "rewrites-missed",
        `${missed} requests went on with the client's model, which stands behind the bytes that are held`,
        "Raise rewriteBytesMax of epp-wasm-gateway, and keep it below the listener's buffer limit.",
      ),
    );
  }
  const unrestored = count("responses_not_restored_total");
  if (unrestored > 0) {
    findings.push(
      warning(
        "responses-not-restored",
        `${unrestored} answers name the model that was asked for, and not the client's: they are compressed or too large`,
        "Let replicas answer uncompressed, and Envoy's own compressor filter stand before the picker.",
      ),
    );
  }
  return findings;
}

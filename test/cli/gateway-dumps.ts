// Gateways as doctor sees them: the shipped configuration as Envoy dumps it, to be broken by tests.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { judge } from "../../cli/commands/doctor.ts";
import type { Observation } from "../../cli/commands/doctor/collect.ts";
import { readConfigDump } from "../../cli/commands/doctor/gateway-view.ts";
import { ROOT } from "../../cli/envoy.ts";

// biome-ignore lint/suspicious/noExplicitAny: Envoy's resources, taken apart on purpose.
export type Any = any;

/** A section of a dump. */
export const section = (name: string, fields: object): object => ({
  "@type": `type.googleapis.com/envoy.admin.v3.${name}ConfigDump`,
  ...fields,
});

/** The shipped configuration, as a plain Envoy dumps it. */
export function shipped(): Any {
  return parse(readFileSync(join(ROOT, "envoy", "plain", "envoy.yaml"), "utf8"));
}

/** What Envoy dumps of a bootstrap. */
export function dumpOf(bootstrap: Any): { configs: object[] } {
  const { listeners, clusters } = bootstrap.static_resources;
  return {
    configs: [
      section("Bootstrap", { bootstrap }),
      section("Listeners", { static_listeners: listeners.map((listener: Any) => ({ listener })) }),
      section("Clusters", { static_clusters: clusters.map((cluster: Any) => ({ cluster })) }),
    ],
  };
}

/** The connection manager of the listener that carries inference. */
export const managerOf = (bootstrap: Any): Any =>
  bootstrap.static_resources.listeners[0].filter_chains[0].filters[0].typed_config;

/** All that doctor collected of a healthy gateway, but for these fields. */
export function observation(fields: Partial<Observation> = {}, bootstrap = shipped()): Observation {
  return {
    version: "1.40.0",
    view: readConfigDump(dumpOf(bootstrap)),
    stats: new Map(),
    status: {
      target: "x",
      value: { version: 1, pools: [{ name: "pool", snapshotAgeMs: 5, readyEndpoints: 2 }] },
    },
    moduleSha256: "ours",
    readiness: { value: { status: 200, body: { ready: true, status: "ready", reasons: [] } } },
    ...fields,
  };
}

/** A pool of the gateway's status. */
export const SNAPSHOT = { name: "pool", snapshotAgeMs: 5, readyEndpoints: 2 };
/** Codes of what doctor finds. */
export const codes = (seen: Observation): string[] => judge(seen).findings.map(({ code }) => code);

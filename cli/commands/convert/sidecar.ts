// The sidecar's configuration for a converted deployment: where endpoints come from, how they are scraped.
import { readPickerConfig } from "../../../sidecar/config/picker-config.ts";
import type { DiscoverySettings, FetchSettings, PoolSettings } from "../../../sidecar/config/settings.ts";
import { at, type Fields, list } from "../documents.ts";
import type { EppDeployment } from "./found.ts";
import { ConversionError, type Outcomes, SETS_REFUSED } from "./outcome.ts";

const CONTROL_SOCKET = "/run/epp/control.sock";
const LISTEN = "0.0.0.0:9902";

/** What the command line adds. */
export interface SidecarFlags {
  readonly pool: string;
  /** "ip:port,…": a fixed pool instead of the deployment's. */
  readonly endpoints?: string | undefined;
}

/**
 * Makes the sidecar's document.
 * @param config the EndpointPickerConfig without what is not supported
 * @param kvEvents how the engines' events are followed; null = not at all
 * @throws ConversionError when nothing says where the endpoints are; ConfigError when the data layer is wrong
 */
export function convertSidecar(
  config: Fields,
  kvEvents: Fields | null,
  found: EppDeployment,
  flags: SidecarFlags,
  outcomes: Outcomes,
): Fields {
  const hasOwn = at(config, "dataLayer", "discovery") !== undefined;
  const none: DiscoverySettings = { kind: "static", endpoints: [] };
  const { pool, notes } = readPickerConfig(config, "the configuration", flags.pool, hasOwn ? null : none);
  for (const note of notes) outcomes.notNeeded(note.split(":")[0]!, note.slice(note.indexOf(":") + 2));
  const extractor = list(config["plugins"]).find((plugin) => at(plugin, "type") === "core-metrics-extractor");
  const engines = at(extractor, "parameters");
  return {
    control: { socket: CONTROL_SOCKET },
    http: { listen: LISTEN },
    pools: [
      {
        name: flags.pool,
        discovery: discoveryOf(pool, hasOwn, found, flags, outcomes),
        ...withScrape(pool, found, outcomes),
        ...(engines === undefined || engines === null ? {} : { engines }),
        ...(pool.dcgm === null ? {} : { dcgm: dcgmOf(pool.dcgm) }),
        ...(kvEvents === null ? {} : { kvEvents }),
      },
    ],
  };
}

function discoveryOf(
  pool: PoolSettings,
  hasOwn: boolean,
  found: EppDeployment,
  { endpoints }: SidecarFlags,
  outcomes: Outcomes,
): Fields {
  if (endpoints !== undefined)
    return { static: { endpoints: endpoints.split(",").map((one) => one.trim()) } };
  if (hasOwn && pool.discovery.kind === "file") {
    const { path, watch } = pool.discovery;
    return { file: { path, watch } };
  }
  const namespace = found.flags.get("pool-namespace") ?? found.namespace;
  const where = namespace === undefined ? {} : { namespace };
  const selector = selectorOf(found, outcomes);
  const poolName = found.flags.get("pool-name") ?? found.poolName;
  if (poolName !== undefined) {
    outcomes.kept(`InferencePool ${poolName}`, "discovery.kubernetes.inferencePool");
    return { kubernetes: { ...where, inferencePool: poolName } };
  }
  if (selector !== undefined) {
    const ports = portsOf(found);
    outcomes.kept("the model servers' labels and ports", "discovery.kubernetes.selector and ports");
    return { kubernetes: { ...where, selector, ports } };
  }
  throw new ConversionError(
    "nothing says where the endpoints are: expected --pool-name or --endpoint-selector in the deployment, an " +
      "InferencePool, model servers in Helm values, file-discovery, or --endpoints",
  );
}

/** "app=vllm,role in (decode)"; sets of more than one value, negation and existence have no counterpart. */
function selectorOf(found: EppDeployment, outcomes: Outcomes): Readonly<Record<string, string>> | undefined {
  const written = found.flags.get("endpoint-selector");
  if (written === undefined) return found.selector;
  const labels: Record<string, string> = {};
  for (const term of written.split(/,(?![^(]*\))/)) {
    const match =
      /^\s*([^\s=!]+)\s*==?\s*([^\s=]+)\s*$/.exec(term) ??
      /^\s*([^\s=!]+)\s+in\s*\(\s*([^\s,()]+)\s*\)\s*$/.exec(term);
    if (match === null)
      throw new ConversionError(
        `--endpoint-selector: ${JSON.stringify(term.trim())}: expected key=value; ${SETS_REFUSED}`,
      );
    labels[match[1]!] = match[2]!;
  }
  outcomes.kept(`--endpoint-selector=${written}`, "discovery.kubernetes.selector");
  return labels;
}

function portsOf(found: EppDeployment): number[] {
  const written = found.flags.get("endpoint-target-ports");
  const ports = written === undefined ? found.ports : written.split(",").map(Number);
  const bad = ports.find((port) => !Number.isInteger(port) || port < 1 || port > 65_535);
  if (ports.length === 0 || bad !== undefined) {
    throw new ConversionError(
      `target ports: ${JSON.stringify(ports)}: expected port numbers (--endpoint-target-ports, or targetPorts in values)`,
    );
  }
  return [...new Set(ports)];
}

/** Only what differs from the sidecar's defaults is written. */
function withScrape(pool: PoolSettings, found: EppDeployment, outcomes: Outcomes): Fields {
  const { flags } = found;
  const flagged: Record<string, unknown> = {};
  const take = (flag: string, field: string, value: (text: string) => unknown): void => {
    const given = flags.get(flag);
    if (given === undefined) return;
    flagged[field] = value(given);
    outcomes.kept(`--${flag}=${given}`, `scrape.${field}`);
  };
  take("refresh-metrics-interval", "intervalMs", goDurationMs);
  take("model-server-metrics-port", "port", Number);
  take("model-server-metrics-path", "path", String);
  take("model-server-metrics-scheme", "scheme", String);
  const { intervalMs, port } = pool.scrape;
  const scrape = {
    ...fetchOf(pool.scrape, "/metrics"),
    ...(intervalMs === null ? {} : { intervalMs }),
    ...(port === null ? {} : { port }),
    ...flagged,
  };
  const models = pool.models === null || pool.models.path === "/v1/models" ? {} : { path: pool.models.path };
  return {
    ...(Object.keys(scrape).length > 0 ? { scrape } : {}),
    ...(Object.keys(models).length > 0 ? { models } : {}),
  };
}

function fetchOf({ scheme, path, tls }: Omit<FetchSettings, "intervalMs">, usualPath: string): Fields {
  const files = Object.fromEntries(
    Object.entries(tls).filter(([, value]) => value !== null && value !== false),
  );
  return {
    ...(scheme === "http" ? {} : { scheme, tls: files }),
    ...(path === usualPath ? {} : { path }),
  };
}

function dcgmOf(dcgm: NonNullable<PoolSettings["dcgm"]>): Fields {
  const { port, useNodeAddress, intervalMs } = dcgm;
  return {
    ...fetchOf(dcgm, "/metrics"),
    ...(port === null ? {} : { port }),
    ...(useNodeAddress ? { useNodeAddress } : {}),
    intervalMs,
  };
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** The sidecar's shortest interval. */
const INTERVAL_MIN_MS = 10;

function goDurationMs(duration: string): number {
  const parts = [...duration.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (parts.map(([whole]) => whole).join("") !== duration || parts.length === 0)
    throw new ConversionError(
      `--refresh-metrics-interval: ${JSON.stringify(duration)}: expected a duration like 50ms`,
    );
  const total = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * UNIT_MS[unit!]!, 0);
  return Math.max(INTERVAL_MIN_MS, Math.round(total));
}

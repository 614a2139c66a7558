// Makes the settings out of configuration files, command line and environment.
import { readFileSync, statSync } from "node:fs";
import { parse } from "yaml";
import type { KubernetesSettings } from "../discovery/kubernetes/discovery.ts";
import { staticNotes } from "../discovery/label-notes.ts";
import { ConfigError, FileReadError } from "../errors.ts";
import { CONFIG_FILE_BYTES_MAX } from "../limits.ts";
import { engineSettings } from "./engine-specs.ts";
import { issueLines } from "./issues.ts";
import { isPickerConfig, readPickerConfig } from "./picker-config.ts";
import { type PoolConfig, sidecarConfig, type SidecarConfig } from "./schema.ts";
import { scalingSettings } from "./scaling-schema.ts";
import type {
  ControlSettings,
  DcgmSettings,
  DiscoverySettings,
  FetchSettings,
  KvEventsSettings,
  PoolSettings,
  Settings,
} from "./settings.ts";

/** What the command line says; a flag that is not given is undefined. */
export interface Flags {
  readonly config?: string | undefined;
  readonly pickerConfig?: string | undefined;
  readonly pool?: string | undefined;
  readonly endpoints?: string | undefined;
  readonly inferencePool?: string | undefined;
  readonly control?: string | undefined;
  readonly listen?: string | undefined;
  readonly logLevel?: string | undefined;
}

const COMMAND_LINE = "command line";
const DEFAULT_POOL = "default";
const TOKEN_ENV = "EPP_CONTROL_TOKEN";

/**
 * Reads and checks everything. `--config` may be the sidecar's own document or an EndpointPickerConfig.
 * @throws FileReadError, ConfigError naming field, value and expectation
 */
export function loadSettings(flags: Flags, environment: NodeJS.ProcessEnv): Settings {
  const first = flags.config === undefined ? undefined : readYaml(flags.config);
  const firstIsPicker = first !== undefined && isPickerConfig(first);
  if (firstIsPicker && flags.pickerConfig !== undefined) {
    throw new ConfigError(COMMAND_LINE, ["--picker-config: --config is an EndpointPickerConfig already"]);
  }
  const own = readOwn(
    first === undefined || firstIsPicker ? {} : first,
    flags.config ?? "configuration",
    flags,
  );
  const pickerPath = firstIsPicker ? flags.config : flags.pickerConfig;
  const poolName = flags.pool ?? DEFAULT_POOL;
  const flagged = flagDiscovery(flags);
  const pools = own.config.pools.map((pool, index) => poolSettings(pool, `pools[${index}]`, own.source));
  const notes: string[] = [];
  if (pickerPath !== undefined) {
    const reading = readPickerConfig(
      firstIsPicker ? first : readYaml(pickerPath),
      pickerPath,
      poolName,
      flagged,
    );
    pools.push(reading.pool);
    notes.push(...reading.notes);
  } else if (flagged !== null) {
    pools.push(poolSettings(defaultPool(poolName), "--pool", COMMAND_LINE, flagged));
  }
  notes.push(
    ...own.config.pools.flatMap(({ discovery }, index) =>
      staticNotes(discovery.static?.endpoints ?? [], `pools[${index}].discovery.static.endpoints`),
    ),
  );
  checkPools(pools);
  return {
    control: controlSettings(own.config.control, own.source, environment),
    pools,
    http: own.config.http === undefined ? null : hostAndPort(own.config.http.listen),
    logLevel: own.config.log.level,
    notes,
  };
}

interface Own {
  readonly config: SidecarConfig;
  readonly source: string;
}

/** The sidecar's own document with the flags laid over it. */
function readOwn(document: unknown, source: string, flags: Flags): Own {
  const merged = document === null ? {} : document;
  if (typeof merged !== "object" || Array.isArray(merged)) {
    throw new ConfigError(source, [`document: ${JSON.stringify(merged)}: expected a mapping`]);
  }
  const laidOver: Record<string, unknown> = { ...merged };
  if (flags.control !== undefined) laidOver["control"] = controlFlag(flags.control, laidOver["control"]);
  if (flags.listen !== undefined) laidOver["http"] = { listen: flags.listen };
  if (flags.logLevel !== undefined) laidOver["log"] = { level: flags.logLevel };
  const checked = sidecarConfig.safeParse(laidOver);
  if (!checked.success) throw new ConfigError(source, issueLines(checked.error, laidOver));
  return { config: checked.data, source };
}

function controlFlag(flag: string, below: unknown): unknown {
  const rest = { ...(typeof below === "object" ? below : {}) } as Record<string, unknown>;
  delete rest["socket"];
  delete rest["url"];
  return /^https?:/.test(flag) ? { ...rest, url: flag } : { ...rest, socket: flag.replace(/^unix:/, "") };
}

function readYaml(path: string): unknown {
  let text: string;
  try {
    if (statSync(path).size > CONFIG_FILE_BYTES_MAX)
      throw new Error(`it has more than ${CONFIG_FILE_BYTES_MAX} bytes`);
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new FileReadError(path, "configuration", error);
  }
  try {
    return parse(text, { maxAliasCount: 100 });
  } catch (error) {
    throw new ConfigError(path, [(error as Error).message]);
  }
}

/** The source that the command line names; null = none. */
function flagDiscovery({ endpoints, inferencePool }: Flags): DiscoverySettings | null {
  if (endpoints !== undefined && inferencePool !== undefined) {
    throw new ConfigError(COMMAND_LINE, ["--endpoints and --inference-pool: expected one of them"]);
  }
  if (inferencePool !== undefined) return flagInferencePool(inferencePool);
  return endpoints === undefined ? null : flagEndpoints(endpoints);
}

/** "name" or "namespace/name". */
function flagInferencePool(flag: string): DiscoverySettings {
  const [name, namespace, ...more] = flag.split("/").reverse();
  const kubernetes = { inferencePool: name, ...(namespace === undefined ? {} : { namespace }) };
  const document = { pools: [{ name: DEFAULT_POOL, discovery: { kubernetes } }] };
  const checked = sidecarConfig.safeParse(document);
  if (!checked.success || more.length > 0) {
    const quoted = JSON.stringify(flag);
    throw new ConfigError(COMMAND_LINE, [`--inference-pool: ${quoted}: expected [namespace/]name`]);
  }
  return discoverySettings(checked.data.pools[0]!.discovery);
}

function flagEndpoints(list: string): DiscoverySettings {
  const entries = list.split(",").map((entry) => entry.trim());
  const document = { pools: [{ name: DEFAULT_POOL, discovery: { static: { endpoints: entries } } }] };
  const checked = sidecarConfig.safeParse(document);
  if (!checked.success) {
    const issues = issueLines(checked.error, document).map((line) =>
      line.replace(/^pools\[0\]\.discovery\.static\./, "--"),
    );
    throw new ConfigError(COMMAND_LINE, issues);
  }
  return { kind: "static", endpoints: checked.data.pools[0]!.discovery.static!.endpoints };
}

/** A pool of which nothing but its name is configured. */
function defaultPool(name: string): PoolConfig {
  const document = { pools: [{ name, discovery: { static: { endpoints: [] } } }] };
  const checked = sidecarConfig.safeParse(document);
  if (!checked.success) {
    const issues = issueLines(checked.error, document).map((line) =>
      line.replace(/^pools\[0\]\.name/, "--pool"),
    );
    throw new ConfigError(COMMAND_LINE, issues);
  }
  return checked.data.pools[0]!;
}

function checkPools(pools: readonly PoolSettings[]): void {
  if (pools.length === 0) {
    throw new ConfigError(COMMAND_LINE, [
      "expected a pool: --config, --picker-config, --endpoints or --inference-pool",
    ]);
  }
  const names = pools.map(({ name }) => name);
  const repeated = names.find((name, index) => names.indexOf(name) !== index);
  if (repeated !== undefined) {
    throw new ConfigError(COMMAND_LINE, [
      `--pool: ${JSON.stringify(repeated)}: expected a name that no other pool has`,
    ]);
  }
}

function poolSettings(
  config: PoolConfig,
  field: string,
  source: string,
  discovery: DiscoverySettings = discoverySettings(config.discovery),
): PoolSettings {
  return {
    name: config.name,
    discovery,
    scrape: {
      ...fetchSettings(config.scrape),
      intervalMs: config.scrape.intervalMs === "adaptive" ? null : config.scrape.intervalMs,
      port: config.scrape.port ?? null,
      failuresMax: config.scrape.failuresMax,
    },
    models: config.models.enabled ? { path: config.models.path, intervalMs: config.models.intervalMs } : null,
    engines: withField(source, `${field}.engines`, () => engineSettings(config.engines)),
    dcgm: config.dcgm === undefined ? null : dcgmSettings(config.dcgm),
    scaling: scalingSettings(config.scaling),
    kvEvents: config.kvEvents === undefined ? null : kvEventsSettings(config.kvEvents),
  };
}

function withField<T>(source: string, field: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw new ConfigError(source, [`${field}.${(error as Error).message}`]);
  }
}

function fetchSettings(
  config: PoolConfig["scrape"] | NonNullable<PoolConfig["dcgm"]>,
): Omit<FetchSettings, "intervalMs"> {
  const { caFile, certFile, keyFile, serverName, insecureSkipVerify } = config.tls;
  return {
    scheme: config.scheme,
    path: config.path,
    tls: {
      caFile: caFile ?? null,
      certFile: certFile ?? null,
      keyFile: keyFile ?? null,
      serverName: serverName ?? null,
      insecureSkipVerify,
    },
    token:
      config.bearerTokenFile !== undefined
        ? { file: config.bearerTokenFile }
        : config.bearerTokenEnv !== undefined
          ? { env: config.bearerTokenEnv }
          : null,
    timeoutMs: config.timeoutMs,
    bytesMax: config.pageBytesMax,
  };
}

function dcgmSettings(config: NonNullable<PoolConfig["dcgm"]>): DcgmSettings {
  const mappings = Object.entries(config.endpoints).map(
    ([endpoint, { url, gpus }]) => [endpoint, { url: url ?? "", gpus }] as const,
  );
  return {
    ...fetchSettings(config),
    intervalMs: config.intervalMs,
    port: config.port ?? null,
    useNodeAddress: config.useNodeAddress,
    urls: config.urls,
    endpoints: new Map(mappings),
  };
}

function kvEventsSettings(config: NonNullable<PoolConfig["kvEvents"]>): KvEventsSettings {
  const { tokenizer, replayPort, ...rest } = config;
  return { ...rest, replayPort: replayPort ?? null, tokenizerPath: tokenizer ?? null };
}

function discoverySettings(config: PoolConfig["discovery"]): DiscoverySettings {
  if (config.static !== undefined) return { kind: "static", endpoints: config.static.endpoints };
  if (config.file !== undefined) return { kind: "file", ...config.file };
  if (config.dns !== undefined) return { kind: "dns", ...config.dns };
  if (config.kubernetes !== undefined) return kubernetesSettings(config.kubernetes);
  const { name, ...rest } = config.srv!;
  return { kind: "srv", host: name, port: 0, ...rest };
}

function kubernetesSettings(config: NonNullable<PoolConfig["discovery"]["kubernetes"]>): KubernetesSettings {
  const { inferencePool, service, selector, ports, policyGroup } = config;
  const numbers = ports.filter((one) => typeof one === "number");
  return {
    kind: "kubernetes",
    namespace: config.namespace ?? null,
    kubeconfig: config.kubeconfig ?? null,
    context: config.context ?? null,
    members:
      inferencePool !== undefined
        ? {
            kind: "inferencePool",
            name: inferencePool,
            policyGroup: policyGroup === "none" ? null : policyGroup,
          }
        : service !== undefined
          ? { kind: "service", name: service, ports }
          : { kind: "selector", matchLabels: selector!, ports: numbers },
  };
}

/** The control listener may only be on this machine: its token would go over the network in clear text. */
function controlSettings(
  config: SidecarConfig["control"],
  source: string,
  environment: NodeJS.ProcessEnv,
): ControlSettings {
  const { socket, url, tokenEnv = TOKEN_ENV, statusIntervalMs = 2_000 } = config ?? {};
  if ((socket === undefined) === (url === undefined)) {
    throw new ConfigError(source, ["control: expected exactly one of socket and url (or --control)"]);
  }
  const token = (environment[tokenEnv] ?? "").trim();
  if (token !== "" && !/^[\x21-\x7e]+$/.test(token)) {
    throw new ConfigError(`environment variable ${tokenEnv}`, [
      "it is not a token: expected visible ASCII characters",
    ]);
  }
  if (socket !== undefined) return { socketPath: socket, origin: "", token, statusIntervalMs };
  const parsed = URL.canParse(url!) ? new URL(url!) : null;
  const loopback = /^(127(\.\d{1,3}){3}|\[::1\]|localhost)$/;
  if (
    parsed === null ||
    parsed.protocol !== "http:" ||
    parsed.pathname !== "/" ||
    !loopback.test(parsed.hostname)
  ) {
    throw new ConfigError(source, [
      `control.url: ${JSON.stringify(url)}: expected http://, a loopback address and a port`,
    ]);
  }
  if (token === "") {
    throw new ConfigError(source, [
      `control.tokenEnv: "${tokenEnv}": expected this environment variable to hold the token`,
    ]);
  }
  return { socketPath: null, origin: parsed.origin, token, statusIntervalMs };
}

function hostAndPort(listen: string): { host: string; port: number } {
  const colon = listen.lastIndexOf(":");
  return { host: listen.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(listen.slice(colon + 1)) };
}

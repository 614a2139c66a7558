// Reads the discovery and data layer of an llm-d EndpointPickerConfig: the sidecar is that document's other
// reader.
//
// The filter reads scheduling, admission and disaggregation from the same document and judges their plugins.
// Here the data layer's plugins are judged: implemented, needless (accepted, noted), or known and unsupported
// (refused). Field names and defaults: llm-d-router pkg/epp/framework/plugins/datalayer @ ebab6879.
import { z } from "zod";
import { ConfigError } from "../errors.ts";
import { METRICS_PAGE_BYTES_MAX } from "../limits.ts";
import { SCALING_DEFAULTS } from "../role-load.ts";
import { engineSettings } from "./engine-specs.ts";
import { fields, issueLines } from "./issues.ts";
import { engineFields } from "./schema.ts";
import type { DiscoverySettings, PoolSettings, TlsFiles } from "./settings.ts";

/** llm-d's DCGM default. */
const DCGM_INTERVAL_MS = 2_000;
const MODELS_INTERVAL_MS = 10_000;
const TIMEOUT_MS = 1_000;
const FAILURES_MAX = 3;

/** Accepted without effect, and why. */
const NEEDLESS: ReadonlyMap<string, string> = new Map([
  ["topology-extractor", "all labels of an endpoint go to the gateway"],
  ["k8s-notification-source", "discovery watches what it needs itself"],
  ["endpoint-notification-source", "discovery watches what it needs itself"],
]);

/** Refused, with the nearest thing that is supported. */
const UNSUPPORTED: ReadonlyMap<string, string> = new Map([
  ["multicluster-file-discovery", "file-discovery"],
  ["multicluster-metrics-data-source", "metrics-data-source"],
  ["multicluster-metrics-extractor", "core-metrics-extractor"],
]);

const duration = z.string().regex(/^(\d+(\.\d+)?(ms|s|m|h))+$/, 'expected a duration like "50ms" or "1s"');
const pluginRef = fields({ pluginRef: z.string() });

const documentSchema = z.looseObject({
  apiVersion: z.string().optional(),
  kind: z.literal("EndpointPickerConfig"),
  plugins: z
    .array(fields({ type: z.string(), name: z.string().optional(), parameters: z.unknown().optional() }))
    .default([]),
  dataLayer: fields({
    discovery: z.union([pluginRef, fields({ endpoints: pluginRef })]).optional(),
    injectDefaults: z.boolean().default(true),
    sources: z
      .array(
        fields({
          pluginRef: z.string(),
          interval: duration.optional(),
          extractors: z.array(pluginRef).nullish(),
        }),
      )
      .nullish(),
  }).nullish(),
});
type Plugin = z.output<typeof documentSchema>["plugins"][number];

const scheme = z.enum(["http", "https"]).default("http");
const port = z.int("expected a port number").min(1, "expected 1 to 65535").max(65_535, "expected 1 to 65535");
const httpSource = {
  scheme,
  insecureSkipVerify: z.boolean().default(true),
  caCertPath: z.string().optional(),
  clientCertPath: z.string().optional(),
  clientKeyPath: z.string().optional(),
  port: port.optional(),
  interval: duration.optional(),
};

const parameters = {
  "file-discovery": fields({ path: z.string().min(1), watchFile: z.boolean().default(false) }),
  "metrics-data-source": fields({
    ...httpSource,
    path: z.string().default("/metrics"),
    families: z.array(z.string()).optional(),
  }),
  "models-data-source": fields({ ...httpSource, path: z.string().default("/v1/models") }),
  "core-metrics-extractor": fields(engineFields),
  "models-data-extractor": z.looseObject({}),
  "dcgm-data-source": fields({
    scheme,
    path: z.string().default("/metrics"),
    port: port.default(9_400),
    insecureSkipVerify: z.boolean().default(true),
    useNodeAddress: z.boolean().default(false),
    interval: duration.optional(),
  }),
  "dcgm-extractor": z.looseObject({}),
} as const;
type DataLayerType = keyof typeof parameters;

/** What the document says about one pool. */
export interface PickerReading {
  readonly pool: PoolSettings;
  readonly notes: readonly string[];
}

/** Whether a parsed YAML document is an EndpointPickerConfig. */
export function isPickerConfig(document: unknown): boolean {
  return (document as { kind?: unknown } | null)?.kind === "EndpointPickerConfig";
}

/**
 * @param source file name for messages
 * @param discovery overrides the document's; without either it is an error
 * @throws ConfigError with one line a fault
 */
export function readPickerConfig(
  document: unknown,
  source: string,
  poolName: string,
  discovery: DiscoverySettings | null,
): PickerReading {
  const checked = documentSchema.safeParse(document);
  if (!checked.success) throw new ConfigError(source, issueLines(checked.error, document));
  return new PickerReader(checked.data, source).read(poolName, discovery);
}

/** One pass over a document; faults are collected so that all are reported at once. */
class PickerReader {
  private readonly faults: string[] = [];
  private readonly notes: string[] = [];

  constructor(
    private readonly document: z.output<typeof documentSchema>,
    private readonly source: string,
  ) {}

  read(poolName: string, discoveryOverride: DiscoverySettings | null): PickerReading {
    this.judgePlugins();
    const discovery = discoveryOverride ?? this.discovery();
    const pool = this.pool(poolName, discovery);
    if (this.faults.length > 0 || discovery === null || pool === null)
      throw new ConfigError(this.source, this.faults);
    return { pool: { ...pool, discovery }, notes: this.notes };
  }

  private judgePlugins(): void {
    this.document.plugins.forEach(({ type }, index) => {
      const reason = NEEDLESS.get(type);
      if (reason !== undefined) this.notes.push(`plugins[${index}]: ${type} is not needed: ${reason}`);
      const nearest = UNSUPPORTED.get(type);
      if (nearest !== undefined) {
        this.faults.push(
          `plugins[${index}].type: "${type}": is not supported; the nearest that is: ${nearest}`,
        );
      }
    });
  }

  private discovery(): DiscoverySettings | null {
    const entry = this.document.dataLayer?.discovery;
    if (entry === undefined) {
      this.faults.push(
        "dataLayer.discovery: is missing: expected a plugin of type file-discovery, or --inference-pool",
      );
      return null;
    }
    const field =
      "pluginRef" in entry ? "dataLayer.discovery.pluginRef" : "dataLayer.discovery.endpoints.pluginRef";
    const plugin = this.referenced("pluginRef" in entry ? entry.pluginRef : entry.endpoints.pluginRef, field);
    if (plugin === null) return null;
    if (plugin.type !== "file-discovery") {
      this.faults.push(`${field}: plugin of type "${plugin.type}": expected one of type file-discovery`);
      return null;
    }
    const file = this.parametersOf("file-discovery", plugin);
    return file === null ? null : { kind: "file", path: file.path, watch: file.watchFile };
  }

  private pool(name: string, discovery: DiscoverySettings | null): PoolSettings | null {
    const metrics = this.dataSource("metrics-data-source");
    const models = this.dataSource("models-data-source");
    const dcgm = this.dataSource("dcgm-data-source");
    const extractor = this.parametersOf("core-metrics-extractor", this.inForce("core-metrics-extractor"));
    if (this.faults.length > 0 || metrics === null || models === null || dcgm === null || extractor === null)
      return null;
    if (models.used && models.parameters.scheme !== metrics.parameters.scheme) {
      this.faults.push(
        "models-data-source.parameters.scheme: expected the scheme of the metrics-data-source",
      );
    }
    if (metrics.parameters.families !== undefined)
      this.notes.push("metrics-data-source.families: only needed lines are read");
    if (extractor.engineConfigs.some(({ customMetrics }) => customMetrics.length > 0)) {
      this.notes.push("core-metrics-extractor.customMetrics: endpoint attributes do not reach the gateway");
    }
    return {
      name,
      discovery: discovery ?? { kind: "static", endpoints: [] },
      scrape: {
        ...fetchSettings(metrics),
        port: metrics.parameters.port ?? null,
        intervalMs: metrics.intervalMs,
        failuresMax: FAILURES_MAX,
      },
      models: { path: models.parameters.path, intervalMs: models.intervalMs ?? MODELS_INTERVAL_MS },
      engines: this.engines(extractor),
      dcgm: !dcgm.used
        ? null
        : {
            ...fetchSettings(dcgm),
            intervalMs: dcgm.intervalMs ?? DCGM_INTERVAL_MS,
            port: dcgm.parameters.port,
            useNodeAddress: dcgm.parameters.useNodeAddress,
            urls: [],
            endpoints: new Map(),
          },
      scaling: SCALING_DEFAULTS,
      kvEvents: null,
    };
  }

  private engines(
    extractor: z.output<(typeof parameters)["core-metrics-extractor"]>,
  ): PoolSettings["engines"] {
    try {
      return engineSettings(extractor);
    } catch (error) {
      this.faults.push(`core-metrics-extractor.parameters.${(error as Error).message}`);
      return { label: "", preferred: "", specs: [] };
    }
  }

  /** The source of a type: its parameters, its interval, and whether the document asks for it. */
  private dataSource<T extends "metrics-data-source" | "models-data-source" | "dcgm-data-source">(
    type: T,
  ): DataSource<T> | null {
    const sources = this.document.dataLayer?.sources ?? [];
    const entry = sources.find(({ pluginRef: name }) => this.find(name)?.type === type || name === type);
    const plugin = entry === undefined ? null : this.find(entry.pluginRef);
    const values = this.parametersOf(type, plugin ?? this.inForce(type));
    if (values === null) return null;
    const interval = entry?.interval ?? values.interval;
    return {
      parameters: values,
      used: entry !== undefined,
      intervalMs: interval === undefined ? null : toMs(interval),
    };
  }

  /** The plugin of a type that the document declares; null = its defaults are in force. */
  private inForce(type: DataLayerType): Plugin | null {
    return this.document.plugins.find((plugin) => plugin.type === type) ?? null;
  }

  private find(name: string): Plugin | null {
    return this.document.plugins.find((plugin) => (plugin.name ?? plugin.type) === name) ?? null;
  }

  private referenced(name: string, field: string): Plugin | null {
    const plugin = this.find(name);
    if (plugin === null) this.faults.push(`${field}: "${name}": expected the name of an entry of plugins`);
    return plugin;
  }

  private parametersOf<T extends DataLayerType>(
    type: T,
    plugin: Plugin | null,
  ): z.output<(typeof parameters)[T]> | null {
    const input = plugin?.parameters ?? {};
    const checked = parameters[type].safeParse(input);
    if (checked.success) return checked.data as z.output<(typeof parameters)[T]>;
    const index = plugin === null ? -1 : this.document.plugins.indexOf(plugin);
    this.faults.push(...issueLines(checked.error, input, `plugins[${index}].parameters.`));
    return null;
  }
}

interface DataSource<T extends DataLayerType> {
  readonly parameters: z.output<(typeof parameters)[T]>;
  readonly used: boolean;
  readonly intervalMs: number | null;
}

function fetchSettings(source: {
  readonly parameters: {
    readonly scheme: "http" | "https";
    readonly path: string;
    readonly insecureSkipVerify: boolean;
    readonly caCertPath?: string | undefined;
    readonly clientCertPath?: string | undefined;
    readonly clientKeyPath?: string | undefined;
  };
}): {
  scheme: "http" | "https";
  path: string;
  tls: TlsFiles;
  token: null;
  timeoutMs: number;
  bytesMax: number;
} {
  const {
    scheme: used,
    path,
    caCertPath,
    clientCertPath,
    clientKeyPath,
    insecureSkipVerify,
  } = source.parameters;
  return {
    scheme: used,
    path,
    tls: {
      caFile: caCertPath ?? null,
      certFile: clientCertPath ?? null,
      keyFile: clientKeyPath ?? null,
      serverName: null,
      insecureSkipVerify,
    },
    token: null,
    timeoutMs: TIMEOUT_MS,
    bytesMax: METRICS_PAGE_BYTES_MAX,
  };
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
/** Shortest interval that is kept: below it a scrape would overlap the next. */
const INTERVAL_MIN_MS = 10;

/** A Go duration in milliseconds. */
function toMs(text: string): number {
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g))
    total += Number(amount) * UNIT_MS[unit!]!;
  return Math.max(INTERVAL_MIN_MS, total);
}

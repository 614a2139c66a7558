// The sidecar's settings after checking: what every other part is given.
import type { DnsSettings } from "../discovery/dns.ts";
import type { EndpointInput } from "../discovery/endpoint.ts";
import type { KubernetesSettings } from "../discovery/kubernetes/discovery.ts";
import type { ScalingSettings } from "../role-load.ts";
import type { EngineSpec } from "../scrape/engines.ts";
import type { GpuMapping } from "../scrape/gpu-join.ts";

/** PEM files of a TLS client; null = not set. */
export interface TlsFiles {
  readonly caFile: string | null;
  readonly certFile: string | null;
  readonly keyFile: string | null;
  readonly serverName: string | null;
  readonly insecureSkipVerify: boolean;
}

/** Where a bearer token comes from; a file is read again when it changes. */
export type TokenSource = { readonly file: string } | { readonly env: string };

/** How a kind of page is fetched. */
export interface FetchSettings {
  readonly scheme: "http" | "https";
  readonly path: string;
  readonly tls: TlsFiles;
  readonly token: TokenSource | null;
  readonly timeoutMs: number;
  /** Fixed interval; null = adaptive (scrape/pace.ts). */
  readonly intervalMs: number | null;
  readonly bytesMax: number;
}

/** Scraping of the model servers' metrics. */
export interface ScrapeSettings extends FetchSettings {
  /** Port of the metrics page; null = the endpoint's own. */
  readonly port: number | null;
  /** Failures in a row after which an endpoint is not ready. */
  readonly failuresMax: number;
}

/** Scraping of DCGM exporters. */
export interface DcgmSettings extends FetchSettings {
  readonly intervalMs: number;
  /** Port of an exporter beside each endpoint; null = none. */
  readonly port: number | null;
  /** The exporter runs on the endpoint's node, not in its pod. */
  readonly useNodeAddress: boolean;
  /** Exporters that serve several endpoints. */
  readonly urls: readonly string[];
  /** By endpoint address or name. */
  readonly endpoints: ReadonlyMap<string, GpuMapping>;
}

/** Following the KV events of a pool's engines. */
export interface KvEventsSettings {
  /** Port of the publisher of rank 0; rank r's is `port + r`. */
  readonly port: number;
  /** The same of the replay socket; null = engines have none. */
  readonly replayPort: number | null;
  /** Start of the topics to subscribe to; "" = all. */
  readonly topic: string;
  /** Data-parallel engines of an endpoint that discovery does not know by its rank. */
  readonly ranks: number;
  /** A tokenizer.json or a folder with one; null = token bytes are learnt from the servers. */
  readonly tokenizerPath: string | null;
  readonly replayTimeoutMs: number;
  readonly idleCheckMs: number;
  /** How often it is checked that a replica's chat template is still the one that was learnt. */
  readonly promptCheckMs: number;
  /** Blocks kept of one engine at most. */
  readonly blocksMax: number;
}

export type DiscoverySettings =
  | { readonly kind: "static"; readonly endpoints: readonly EndpointInput[] }
  | { readonly kind: "file"; readonly path: string; readonly watch: boolean }
  | DnsSettings
  | KubernetesSettings;

/** Which engines a pool's pages may be of. */
export interface EngineSettings {
  /** Label on an endpoint that names its engine. */
  readonly label: string;
  /** Engine that is tried first where no label names one; "" = plain detection. */
  readonly preferred: string;
  readonly specs: readonly EngineSpec[];
}

/** One pool. */
export interface PoolSettings {
  readonly name: string;
  readonly discovery: DiscoverySettings;
  readonly scrape: ScrapeSettings;
  /** Fetching of the model list: path and interval, the rest as `scrape`; null = off. */
  readonly models: { readonly path: string; readonly intervalMs: number } | null;
  readonly engines: EngineSettings;
  readonly dcgm: DcgmSettings | null;
  readonly scaling: ScalingSettings;
  /** null = off. */
  readonly kvEvents: KvEventsSettings | null;
}

/** Where snapshots go. */
export interface ControlSettings {
  /** Unix socket; null = `origin` is used. */
  readonly socketPath: string | null;
  /** http:// and a loopback address. */
  readonly origin: string;
  /** "" = none. */
  readonly token: string;
  readonly statusIntervalMs: number;
}

/** Everything. */
export interface Settings {
  readonly control: ControlSettings;
  readonly pools: readonly PoolSettings[];
  /** Own HTTP server for /healthz, /readyz and /metrics; null = none. */
  readonly http: { readonly host: string; readonly port: number } | null;
  readonly logLevel: string;
  /** Things that were accepted and do nothing here, for the log. */
  readonly notes: readonly string[];
}

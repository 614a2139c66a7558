// What Envoy's StreamInfo holds of one stream, and the properties read from it.
import type { HeaderMap } from "./header-map.ts";
import {
  metadataValue,
  objectSource,
  type MetadataJson,
  type PropertySource,
  type PropertyValue,
} from "./properties.ts";

/** Bits of `response.flags` (Envoy `StreamInfo::CoreResponseFlag`) that this host can produce. */
export const ResponseFlag = {
  NO_HEALTHY_UPSTREAM: 0x2n,
  UPSTREAM_REQUEST_TIMEOUT: 0x4n,
  LOCAL_RESET: 0x8n,
  UPSTREAM_REMOTE_RESET: 0x10n,
  UPSTREAM_CONNECTION_FAILURE: 0x20n,
  UPSTREAM_CONNECTION_TERMINATION: 0x40n,
  NO_ROUTE_FOUND: 0x100n,
  DOWNSTREAM_CONNECTION_TERMINATION: 0x4000n,
  UPSTREAM_RETRY_LIMIT_EXCEEDED: 0x8000n,
  UPSTREAM_PROTOCOL_ERROR: 0x80_0000n,
  DOWNSTREAM_REMOTE_RESET: 0x1000_0000n,
} as const;

/** What the caller may know of a stream before it starts. */
export interface StreamInfoInput {
  readonly clusterName?: string;
  readonly routeName?: string;
  /** Metadata of the route by namespace. */
  readonly routeMetadata?: Readonly<Record<string, MetadataJson>>;
  /** Dynamic metadata of the request by namespace. */
  readonly filterMetadata?: Readonly<Record<string, MetadataJson>>;
  /** HTTP version text, `HTTP/1.1` when absent. */
  readonly protocol?: string;
  readonly sourceAddress?: string;
  readonly requestId?: string;
  readonly connectionId?: number;
  /** Further top-level properties, or replacements of the built-in ones. */
  readonly properties?: Readonly<Record<string, PropertyValue>>;
}

/** The stream as properties see it. */
export interface StreamView {
  readonly requestHeaderMap: HeaderMap | null;
  readonly responseHeaderMap: HeaderMap | null;
  readonly responseTrailerMap: HeaderMap | null;
}

/** Mutable facts of a stream; the owner (test, simulator, data plane) fills in what concerns the upstream. */
export class StreamInfo {
  readonly filterState = new Map<string, Buffer>();
  responseCode: number | null = null;
  responseCodeDetails: string | null = null;
  responseFlags = 0n;
  /** `ip:port` of the last attempt. */
  upstreamAddress: string | null = null;
  attemptCount: number | null = null;
  requestBytes = 0;
  responseBytes = 0;
  endNs: bigint | null = null;
  private extra: Readonly<Record<string, PropertyValue>>;

  constructor(
    readonly input: StreamInfoInput,
    readonly startNs: bigint,
  ) {
    this.extra = input.properties ?? {};
  }

  /** Adds or replaces top-level properties from now on. */
  setProperties(properties: Readonly<Record<string, PropertyValue>>): void {
    this.extra = { ...this.extra, ...properties };
  }

  /** The value of a top-level property name. */
  property(name: string, view: StreamView): PropertyValue | undefined {
    if (Object.hasOwn(this.extra, name)) return this.extra[name];
    switch (name) {
      case "request":
        return this.request(view);
      case "response":
        return this.response(view);
      case "upstream":
        return this.upstream();
      case "source":
        return objectSource({ address: this.input.sourceAddress });
      case "metadata":
        return objectSource({ filter_metadata: metadataValue(this.input.filterMetadata ?? {}) });
      case "xds":
        return this.xds();
      case "connection_id":
        return this.input.connectionId === undefined ? undefined : BigInt(this.input.connectionId);
      default:
        return this.filterState.get(`wasm.${name}`);
    }
  }

  private request(view: StreamView): PropertySource {
    const headers = view.requestHeaderMap;
    const path = headers?.get(":path");
    const query = path?.indexOf("?") ?? -1;
    return objectSource({
      path,
      url_path: path === undefined || query < 0 ? path : path.slice(0, query),
      query: path === undefined ? undefined : query < 0 ? "" : path.slice(query + 1),
      host: headers?.get(":authority"),
      scheme: headers?.get(":scheme"),
      method: headers?.get(":method"),
      referer: headers?.get("referer"),
      useragent: headers?.get("user-agent"),
      id: headers?.get("x-request-id") ?? this.input.requestId,
      headers: headers === null ? undefined : headerSource(headers),
      protocol: this.input.protocol ?? "HTTP/1.1",
      time: this.startNs,
      duration: this.endNs === null ? undefined : this.endNs - this.startNs,
      size: BigInt(this.requestBytes),
    });
  }

  private response(view: StreamView): PropertySource {
    return objectSource({
      code: this.responseCode === null ? undefined : BigInt(this.responseCode),
      code_details: this.responseCodeDetails ?? undefined,
      flags: this.responseFlags,
      headers: view.responseHeaderMap === null ? undefined : headerSource(view.responseHeaderMap),
      trailers: view.responseTrailerMap === null ? undefined : headerSource(view.responseTrailerMap),
      size: BigInt(this.responseBytes),
    });
  }

  private upstream(): PropertySource {
    const address = this.upstreamAddress;
    return objectSource({
      address: address ?? undefined,
      port: address === null ? undefined : BigInt(address.slice(address.lastIndexOf(":") + 1)),
      request_attempt_count: this.attemptCount === null ? undefined : BigInt(this.attemptCount),
    });
  }

  private xds(): PropertySource {
    const { clusterName, routeName, routeMetadata } = this.input;
    return objectSource({
      cluster_name: clusterName,
      route_name: routeName,
      route_metadata: objectSource({ filter_metadata: metadataValue(routeMetadata ?? {}) }),
    });
  }
}

function headerSource(headers: HeaderMap): PropertySource {
  return {
    field: (name) => {
      const all = headers.all(name);
      return all.length === 0 ? undefined : all.join(",");
    },
    names: () => [...new Set(headers.pairs().map(([name]) => name))],
  };
}

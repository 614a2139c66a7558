// Bootstrap edits and request builders that several behaviour tests share.
import { connectionManager, type Bootstrap, type ConnectionManager } from "../../cli/envoy-config.ts";
import { chat, type Gateway } from "./harness.ts";
import { type Reply, type RequestOptions, send } from "./clients.ts";

export const CHAT_PATH = "/v1/chat/completions";
export const DESTINATION = "x-gateway-destination-endpoint";

/** Text of at least `bytes` bytes that begins differently for each `seed`: a prompt of its own. */
export function text(seed: string | number, bytes = 2_000): string {
  return `${seed} `.repeat(Math.ceil(bytes / (String(seed).length + 1)));
}

/** POST /v1/chat/completions with one user message. */
export function ask(
  gateway: Gateway,
  content: string,
  options: RequestOptions & { readonly fields?: Readonly<Record<string, unknown>> } = {},
): Promise<Reply> {
  const { fields, ...rest } = options;
  return send(gateway.url, { path: CHAT_PATH, method: "POST", ...rest, body: chat(content, fields) });
}

/** Lets the destination header through to the replica, whose echo then shows the filter's list. */
export function showDestination(bootstrap: Bootstrap): void {
  for (const cluster of bootstrap.static_resources.clusters) {
    for (const protocol of Object.values(cluster.typed_extension_protocol_options)) {
      if (protocol.http_filters === undefined) continue;
      protocol.http_filters = protocol.http_filters.filter(
        (filter) => (filter as { name: string }).name !== "envoy.filters.http.header_mutation",
      );
    }
  }
}

/** Has Envoy take the tests' clients for its own network, whose x-envoy-* headers it leaves: the filter alone guards them. */
export function trustClients(bootstrap: Bootstrap): void {
  const loopback = { address_prefix: "127.0.0.0", prefix_len: 8 };
  inference(bootstrap)["internal_address_config"] = { cidr_ranges: [loopback] };
}

/** The connection manager of the listener that carries inference. */
export function inference(bootstrap: Bootstrap): ConnectionManager {
  return connectionManager(bootstrap, "inference");
}

/** Gateway parameters with which a host that fails stays set aside for the whole test, however long the machine takes. */
export const LONG_ASIDE = { retryBackoffMinMs: 600_000, retryBackoffMaxMs: 600_000 };

/** A document that sets the gateway's own parameters and keeps the default profile. */
export function settings(parameters: object, plugins: readonly object[] = []): string {
  return JSON.stringify({
    apiVersion: "llm-d.ai/v1alpha1",
    kind: "EndpointPickerConfig",
    plugins: [{ type: "epp-wasm-gateway", parameters }, ...plugins],
  });
}

/** The replica's echo of a request. */
export interface Echo {
  readonly path: string;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly bodyBytes: number;
  readonly sha256: string;
  readonly text?: string;
}

export function echoOf(reply: Reply): Echo {
  return JSON.parse(reply.text) as Echo;
}

/** The list of addresses that the filter wrote, best first; needs showDestination. */
export function destinationsOf(reply: Reply): string[] {
  return echoOf(reply).headers[DESTINATION]?.split(",") ?? [];
}

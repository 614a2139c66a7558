// Between Node's HTTP messages and header maps: pseudo-headers in, hop-by-hop headers out.
import type { IncomingMessage } from "node:http";
import { HeaderMap } from "../host/index.ts";

/** Headers of one connection, never passed on (Envoy source/common/http/conn_manager_utility.cc). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
  "te",
  "trailer",
]);

/** Request headers that become something else: :authority, and the 100 Continue that the server sends itself. */
const LEFT_OUT: ReadonlySet<string> = new Set(["host", "expect"]);

/** Alternating names and values as pairs without hop-by-hop headers. */
function addRaw(map: HeaderMap, raw: readonly string[], skip: (name: string) => boolean): void {
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = (raw[index] as string).toLowerCase();
    if (!HOP_BY_HOP.has(name) && !skip(name)) map.add(name, raw[index + 1] as string);
  }
}

/** A client's request as Envoy's filters see it; what clients may not set (x-envoy-*) is left out. */
export function requestHeaders(message: IncomingMessage, requestId: string): HeaderMap {
  const map = new HeaderMap();
  map.add(":method", message.method ?? "GET");
  map.add(":path", message.url ?? "/");
  map.add(":authority", message.headers.host ?? "");
  map.add(":scheme", "http");
  addRaw(map, message.rawHeaders, (name) => LEFT_OUT.has(name) || name.startsWith("x-envoy-"));
  const peer = message.socket.remoteAddress;
  const forwarded = map.get("x-forwarded-for");
  if (peer !== undefined) map.set("x-forwarded-for", forwarded === undefined ? peer : `${forwarded},${peer}`);
  map.set("x-forwarded-proto", "http");
  map.set("x-request-id", requestId);
  return map;
}

/** An upstream's response with `:status`. */
export function responseHeaders(message: IncomingMessage): HeaderMap {
  const map = new HeaderMap();
  map.add(":status", String(message.statusCode ?? 0));
  addRaw(map, message.rawHeaders, () => false);
  return map;
}

/** Trailers of a finished message. */
export function trailers(message: IncomingMessage): HeaderMap {
  const map = new HeaderMap();
  addRaw(map, message.rawTrailers, () => false);
  return map;
}

/** Response headers as Node's raw list, without the pseudo-header. */
export function toRawHeaders(map: HeaderMap): string[] {
  return map.pairs().flatMap(([name, value]) => (name.startsWith(":") ? [] : [name, value]));
}

/** Headers for a client request of Node: repeated names as lists. */
export function toRequestHeaders(
  map: HeaderMap,
  remove: readonly string[],
): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  const authority = map.get(":authority");
  if (authority !== undefined && authority !== "") headers["host"] = authority;
  for (const [name, value] of map.pairs()) {
    if (name.startsWith(":") || remove.includes(name)) continue;
    const known = headers[name];
    if (known === undefined) headers[name] = value;
    else headers[name] = Array.isArray(known) ? [...known, value] : [known, value];
  }
  return headers;
}

/** Whether a request announces a body. */
export function hasBody(message: IncomingMessage): boolean {
  return (
    message.headers["transfer-encoding"] !== undefined || Number(message.headers["content-length"] ?? 0) > 0
  );
}

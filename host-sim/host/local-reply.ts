// A reply made inside the proxy: what it consists of, and its headers.
import { HeaderMap } from "./header-map.ts";

/** A reply made inside the proxy. */
export interface LocalReply {
  readonly status: number;
  readonly body: Uint8Array;
  readonly headers: HeaderMap;
  readonly details: string;
}

/** The headers it goes out with: its status, those of its body, and its own. */
export function replyHeaders(reply: LocalReply): HeaderMap {
  const headers = new HeaderMap();
  headers.add(":status", String(reply.status));
  if (reply.body.length > 0) {
    headers.add("content-length", String(reply.body.length));
    headers.add("content-type", "text/plain");
  }
  for (const [name, value] of reply.headers.pairs()) headers.add(name, value);
  return headers;
}

// proxy_http_call to the pool: one attempt at the host that the list names first.
import type { HttpCall } from "../host/index.ts";
import { Attempt } from "./attempt.ts";
import { OverrideList } from "./cluster.ts";
import { responseHeaders, trailers } from "./headers.ts";
import type { RouterSettings } from "./router.ts";

/** Bytes of a reply that are read; a longer one is a reset, as Envoy's async client does at its buffer limit. */
export const CALL_REPLY_BYTES_MAX = 16 * 1024 * 1024;

/** Makes the handler of the pool's cluster. */
export function clusterCalls(settings: RouterSettings): (call: HttpCall) => void {
  return (call) => {
    const { overrideHeader, cluster } = settings;
    const list = new OverrideList(
      overrideHeader === undefined ? undefined : call.headers.get(overrideHeader),
    );
    const host = list.take(cluster, new Set());
    if (host === undefined) {
      call.respond(503, { "content-type": "text/plain" }, "no healthy upstream");
      return;
    }
    const what = {
      headers: call.headers,
      removeHeaders: settings.upstreamHeadersToRemove,
      hasBody: call.body.length > 0 || call.trailers.size > 0,
      connectTimeoutMs: settings.connectTimeoutMs,
    };
    const attempt = new Attempt(host, what, {
      response: (message) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        message.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes <= CALL_REPLY_BYTES_MAX) chunks.push(chunk);
          else {
            attempt.cancel();
            call.reset();
          }
        });
        message.on("end", () => {
          attempt.finish();
          const [, ...headers] = responseHeaders(message).pairs();
          const last = message.rawTrailers.length > 0 ? trailers(message).pairs() : undefined;
          call.respond(message.statusCode ?? 0, headers, Buffer.concat(chunks), last);
        });
      },
      failed: (connected) => {
        if (connected) call.reset();
        else call.refuse();
      },
      broken: () => call.reset(),
      drained: () => {},
    });
    if (!what.hasBody) return;
    attempt.write(call.body);
    attempt.end(call.trailers.size > 0 ? call.trailers : null);
  };
}

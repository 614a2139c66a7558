// The admin listener: readiness and the filter's metrics, at the paths where Envoy has them.
import { createServer, type Server } from "node:http";
import type { MetricStore } from "../host/metrics.ts";

/** An admin server; it is not listening yet. */
export function adminServer(metrics: MetricStore | null, ready: () => boolean): Server {
  return createServer((request, response) => {
    request.resume();
    const path = (request.url ?? "/").split("?")[0];
    if (path === "/ready") {
      response.writeHead(ready() ? 200 : 503, { "content-type": "text/plain" });
      response.end(ready() ? "LIVE\n" : "PRE_INITIALIZING\n");
    } else if (path === "/stats/prometheus") {
      response.writeHead(200, { "content-type": "text/plain; version=0.0.4" });
      response.end(metrics?.prometheus() ?? "");
    } else {
      response.writeHead(404, { "content-type": "text/plain" });
      response.end("invalid path\n");
    }
  });
}

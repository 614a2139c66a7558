// A fixed list of endpoints.
import { collectEndpoints, type Discovery, type DiscoverySink, type EndpointInput } from "./endpoint.ts";

/** Gives its list once. The inputs were checked with the configuration. */
export class StaticDiscovery implements Discovery {
  readonly kind = "static";

  constructor(private readonly inputs: readonly EndpointInput[]) {}

  start(sink: DiscoverySink): void {
    const { endpoints, drops } = collectEndpoints(this.inputs);
    sink.apply(endpoints, drops);
  }

  stop(): void {
    // Nothing runs.
  }
}

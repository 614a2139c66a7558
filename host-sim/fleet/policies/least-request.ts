// Policy "least-request": the ready replica with the fewest own requests under way.
import type { FleetRequest, Policy } from "../types.ts";
import { cheapest } from "./choose.ts";
import { PolicyGateway } from "./gateway.ts";

const NAME = "least-request";

class LeastRequestGateway extends PolicyGateway {
  protected order(_request: FleetRequest, ready: readonly number[]): number[] {
    return cheapest(ready, (replica) => this.ownRequests[replica]!, this.random);
  }

  protected assigned(): undefined {
    return undefined;
  }
}

/** The fewest requests that this gateway itself has under way; equal ones by chance. */
export const LEAST_REQUEST: Policy = {
  name: NAME,
  source:
    "The fewest own requests in flight over all replicas: KubeAI's LeastLoad (substratusai/kubeai," +
    " internal/loadbalancer/balance_least_load.go at a23c4974) and Envoy's LEAST_REQUEST with FULL_SCAN.",
  create: (context) => new LeastRequestGateway(context, NAME),
};

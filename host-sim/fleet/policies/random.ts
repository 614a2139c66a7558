// Policy "random": any ready replica.
import type { FleetRequest, Policy } from "../types.ts";
import { shuffled } from "./choose.ts";
import { PolicyGateway } from "./gateway.ts";

const NAME = "random";

class RandomGateway extends PolicyGateway {
  protected order(_request: FleetRequest, ready: readonly number[]): number[] {
    return shuffled(ready, this.random);
  }

  protected assigned(): undefined {
    return undefined;
  }
}

/** Every request to a replica drawn uniformly, as a Kubernetes Service does. */
export const RANDOM: Policy = {
  name: NAME,
  source:
    "A replica drawn uniformly: Envoy's RANDOM" +
    " (source/extensions/load_balancing_policies/random/random_lb.cc) and a Kubernetes Service in iptables" +
    " mode.",
  create: (context) => new RandomGateway(context, NAME),
};

// Policy "round-robin": the ready replicas in turn.
import type { FleetRequest, GatewayContext, Policy } from "../types.ts";
import { RETRIES_MAX, PolicyGateway } from "./gateway.ts";

const NAME = "round-robin";

class RoundRobinGateway extends PolicyGateway {
  private turn: number;

  constructor(context: GatewayContext) {
    super(context, NAME);
    this.turn = this.random.integer(0, context.replicas.length - 1);
  }

  protected order(_request: FleetRequest, ready: readonly number[]): number[] {
    const first = this.turn % ready.length;
    this.turn = first + 1;
    return [...ready.slice(first), ...ready.slice(0, first)].slice(0, 1 + RETRIES_MAX);
  }

  protected assigned(): undefined {
    return undefined;
  }
}

/** One after the other, each gateway from a position of its own, drawn by the seed. */
export const ROUND_ROBIN: Policy = {
  name: NAME,
  source:
    "The replicas in turn from a random start: Envoy's ROUND_ROBIN" +
    " (source/extensions/load_balancing_policies/round_robin/round_robin_lb.h).",
  create: (context) => new RoundRobinGateway(context),
};

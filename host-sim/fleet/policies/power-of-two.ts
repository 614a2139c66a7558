// Policy "power-of-two": the less loaded of two replicas drawn at random.
import type { FleetRequest, Policy } from "../types.ts";
import { shuffled } from "./choose.ts";
import { PolicyGateway, RETRIES_MAX } from "./gateway.ts";

const NAME = "power-of-two";

class PowerOfTwoGateway extends PolicyGateway {
  protected order(_request: FleetRequest, ready: readonly number[]): number[] {
    const [first, second, ...rest] = shuffled(ready, this.random, 1 + RETRIES_MAX);
    if (second === undefined) return [first!];
    const better = this.ownRequests[second]! < this.ownRequests[first!]!;
    return better ? [second, first!, ...rest] : [first!, second, ...rest];
  }

  protected assigned(): undefined {
    return undefined;
  }
}

/** Two different replicas by chance, of these the one with fewer own requests; equal ones by chance. */
export const POWER_OF_TWO: Policy = {
  name: NAME,
  source:
    "The fewer own requests in flight of two random replicas: SGLang's power_of_two (sgl-project/sglang," +
    " sgl-model-gateway/src/policies/power_of_two.rs at 61c660a3), Envoy's LEAST_REQUEST with" +
    " choice_count 2; Mitzenmacher, The Power of Two Choices, IEEE TPDS 12(10), 2001.",
  create: (context) => new PowerOfTwoGateway(context, NAME),
};

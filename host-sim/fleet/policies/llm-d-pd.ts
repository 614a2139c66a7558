// Policy "llm-d-pd": llm-d's picker over prefill and decode replicas.
import type { FleetRequest, GatewayContext, Policy } from "../types.ts";
import type { PrefillChoice } from "./gateway.ts";
import { LlmDGateway } from "./llm-d.ts";

const NAME = "llm-d-pd";

/**
 * nonCachedTokens of the prefix-based-pd-decider: from so many tokens that the decode pick has not cached, the prompt
 * is computed elsewhere. llm-d has no default for it (0 turns disaggregation off); below about so many, a prefill
 * costs a decoder no more than an eighth of the step budget of 8,192 tokens.
 */
export const NON_CACHED_TOKENS = 1024;

class LlmDPdGateway extends LlmDGateway {
  /** Of the request that is being routed. */
  private uncachedTokens = 0;

  constructor(context: GatewayContext) {
    super(context, NAME);
  }

  protected override order(request: FleetRequest, ready: readonly number[], nowMs: number): number[] {
    this.cleanUp(nowMs);
    const { replica, uncachedTokens } = this.pick(request, ready);
    this.uncachedTokens = uncachedTokens;
    return [replica];
  }

  protected override prefillAt(request: FleetRequest, endpoint: number): PrefillChoice | undefined {
    if (this.uncachedTokens < NON_CACHED_TOKENS) return undefined;
    const candidates = this.prefillers(endpoint);
    if (candidates.length === 0) return undefined;
    const { replica: prefill } = this.pick(request, candidates);
    this.remember(request, prefill);
    return { prefill, prefillBy: "decoder" };
  }
}

/**
 * The decode replica first, by the default scorers among those that decode; where it lacks enough of the prompt, a
 * prefill replica by the same scorers among those that prefill, otherwise (or without one) it does both. The index
 * learns both. The prefill leg is sent by the decode pod's routing sidecar, and what goes wrong with it is the
 * client's failure.
 */
export const LLM_D_PD: Policy = {
  name: NAME,
  source:
    "llm-d-router: disagg-profile-handler (pkg/epp/framework/plugins/scheduling/profilehandler/disagg at 45c38549) with" +
    " prefix-based-pd-decider (at 3a08990d), both profiles with the default scorers and weights; the leg is sent by" +
    " connector nixlv2 (pkg/sidecar/proxy/connector_nixlv2.go at 05457890).",
  create: (context) => new LlmDPdGateway(context),
};

// The policy "epp" for tests: the filter as it was built, and what it says of itself in the middle of a run.
import { readFileSync } from "node:fs";
import { WASM_PATH } from "../../../cli/envoy.ts";
import { type EppGateway, type EppOptions, eppPolicy } from "../../../host-sim/fleet/epp-gateway.ts";
import type { GatewayContext, Policy, ReplicaSpec } from "../../../host-sim/fleet/types.ts";
import { defaultEngineConfig } from "../../../host-sim/model-server/engine.ts";
import { SnapshotEncoder } from "../../../sidecar/snapshot-encoder.ts";

/** build/epp.wasm. */
export const EPP_MODULE = readFileSync(WASM_PATH);

/** The module and a sidecar's encoder, which is a gateway's own: it numbers what it saw. */
export function eppOptions(options: Partial<EppOptions> = {}): EppOptions {
  const encoder = new SnapshotEncoder();
  return { module: EPP_MODULE, encode: (endpoints, id) => encoder.encode(endpoints, id), ...options };
}

/** Replicas of the default engine: 12,400 prompt tokens a second alone, room for 460,000 tokens, tokens 18.5 ms apart. */
export function fastReplicas(count: number): ReplicaSpec[] {
  return Array.from({ length: count }, () => ({ engine: defaultEngineConfig(), role: "both" }));
}

/** What GET /status says, as far as tests ask. Figures that are not known yet are null. */
export interface FilterStatus {
  readonly counters: Readonly<Record<string, number>>;
  readonly pools: readonly {
    readonly endpoints: readonly (Readonly<Record<string, unknown>> & {
      readonly prefillTokensPerSecond: number | null;
      readonly tpotSamples: number;
    })[];
  }[];
}

/** The filter, whose first gateway is asked for its status at times of the run; `statuses` fills as they come. */
export function watchedEpp(
  atMs: readonly number[],
  options: Partial<EppOptions> = {},
): { policy: Policy; statuses: FilterStatus[] } {
  const inner = eppPolicy(eppOptions(options));
  const statuses: FilterStatus[] = [];
  const create = async (context: GatewayContext): Promise<EppGateway> => {
    const gateway = (await inner.create(context)) as EppGateway;
    if (context.gateway > 0) return gateway;
    const advance = gateway.advance.bind(gateway);
    gateway.advance = (nowMs) => {
      advance(nowMs);
      const due = atMs[statuses.length];
      if (due !== undefined && nowMs >= due) statuses.push(gateway.status() as FilterStatus);
    };
    return gateway;
  };
  return { policy: { ...inner, create }, statuses };
}

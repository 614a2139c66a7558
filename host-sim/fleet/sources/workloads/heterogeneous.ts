// Chats and documents on a fleet of two generations of hardware.
import type { EngineConfig } from "../../../model-server/engine-types.ts";
import type { EngineRates } from "../../../model-server/rates.ts";
import type { ReplicaSpec } from "../../types.ts";
import { chats } from "./chats.ts";
import { Mix } from "../mix.ts";
import { DocumentQuestions } from "./rag.ts";
import type { Generator } from "./workload.ts";

/** The second half of the fleet takes so many times as long and has so many times less KV memory. */
export const SLOWER_FACTOR = 2;

function slower(rates: EngineRates): EngineRates {
  return {
    description: `${rates.description}, ${SLOWER_FACTOR} times as slow`,
    overheadMs: rates.overheadMs * SLOWER_FACTOR,
    weightsMs: rates.weightsMs * SLOWER_FACTOR,
    prefillMsPerToken: rates.prefillMsPerToken * SLOWER_FACTOR,
    decodeMsPerSequence: rates.decodeMsPerSequence * SLOWER_FACTOR,
    contextMsPerToken: rates.contextMsPerToken * SLOWER_FACTOR,
  };
}

/** Every second replica is a slow one, so that no block of indices stands for a speed. */
function fleet(engine: EngineConfig, count: number): ReplicaSpec[] {
  const small: EngineConfig = {
    ...engine,
    blockCount: Math.floor(engine.blockCount / SLOWER_FACTOR),
    rates: slower(engine.rates),
  };
  return Array.from({ length: count }, (_, i) => ({ engine: i % 2 === 0 ? engine : small, role: "both" }));
}

export const HETEROGENEOUS: Generator = {
  name: "heterogeneous",
  summary: "Half of the replicas have half the speed and half the KV memory.",
  requests: 8000,
  ratePerSecond: 44,
  warmUpMs: 300_000,
  replicasMin: 2,
  source: (context) =>
    new Mix(context.random, [
      { share: 0.6, source: chats(context) },
      { share: 0.4, source: new DocumentQuestions(context) },
    ]),
  fleet,
};

// What a built-in workload consists of.
import type { EngineConfig } from "../../../model-server/engine-types.ts";
import type { Random } from "../../../workload/random.ts";
import type { FleetEvent, ReplicaSpec } from "../../types.ts";
import type { Stretch } from "../arrivals.ts";
import type { SpanMaker, TurnSource } from "../turns.ts";

/** What the sources of one workload are made with. */
export interface SourceContext {
  readonly random: Random;
  readonly make: SpanMaker;
  /** Length of the workload; arrivals are in [0, durationMs), those of the warm-up before. */
  readonly durationMs: number;
  readonly replicas: number;
}

/** A workload that is drawn, with defaults that load a fleet well. */
export interface Generator {
  /** As written on the command line, e.g. "chats". */
  readonly name: string;
  /** One sentence: who sends what, and what is hard about it. */
  readonly summary: string;
  /** Requests unless a count is asked for: enough for every conversation to come to its end a few times. */
  readonly requests: number;
  /** Mean rate unless one is asked for, for `DEFAULT_REPLICAS` replicas; see `estimateLoad`. */
  readonly ratePerSecond: number;
  /** Time before the first request in which clients were at it already, so that some are mid-conversation. */
  readonly warmUpMs: number;
  /** Fewest replicas that its events need; 1 unless given. */
  readonly replicasMin?: number;
  source(context: SourceContext): TurnSource;
  /** Intensities of arrivals over the run; RAMPED unless given. */
  profile?(random: Random): readonly Stretch[];
  /** What happens to replicas, in order of time. */
  events?(context: SourceContext): readonly FleetEvent[];
  /** The fleet; all replicas equal unless given. */
  fleet?(engine: EngineConfig, count: number): readonly ReplicaSpec[];
}

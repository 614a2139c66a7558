// What a benchmark and its processes tell each other.
import type { BodySize } from "./bodies.ts";

/** A task for the load process. */
export type LoadTask =
  | {
      /** As many requests as go through: each connection sends the next when its answer is complete. */
      readonly kind: "closed";
      readonly port: number;
      readonly size: BodySize;
      readonly connections: number;
      readonly seconds: number;
      /** Server-sent events asked of the replica; 0 = one JSON answer. */
      readonly chunks: number;
    }
  | {
      /** Requests at fixed times, however long the answers take. */
      readonly kind: "open";
      readonly port: number;
      readonly size: BodySize;
      readonly perSecond: number;
      readonly seconds: number;
    };

export interface LoadResult {
  readonly requests: number;
  /** Answers other than 200, and connections that broke. */
  readonly errors: number;
  /** From the first request's start to the last answer's end. */
  readonly seconds: number;
  /** Time to the last byte of an answer, ms. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Reads from the sockets: for streams, how many pieces of answer arrived. */
  readonly reads: number;
  /** CPU time of the load process, as a share of one core. */
  readonly utilisation: number;
}

/** The replicas' first and only message. */
export interface ReplicasReady {
  readonly ports: readonly number[];
}

/** Asks the replica for a stream of so many events. */
export const CHUNKS_HEADER = "x-bench-chunks";

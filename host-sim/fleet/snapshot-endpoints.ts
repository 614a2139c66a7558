// Scrapes of the simulated fleet as the endpoints of a pool snapshot, and what the endpoints are called.
import {
  ENDPOINT_HAS_LOAD,
  ENDPOINT_HAS_LORA,
  ENDPOINT_READY,
  ROLE_DECODE,
  ROLE_PREFILL,
} from "../../assembly/wire/snapshot.ts";
import type { ReplicaRole, Scrape } from "./types.ts";

/** One endpoint as the sidecar's encoder takes it. */
export interface FleetEndpoint {
  readonly slot: number;
  readonly generation: number;
  readonly flags: number;
  readonly roles: number;
  readonly address: string;
  readonly name: string;
  readonly waiting: number;
  readonly running: number;
  readonly kvUsage: number;
  readonly gpuUtilization: number;
  readonly gpuMemory: number;
  readonly metricsAgeMs: number;
  readonly kvCapacityTokens: number;
  readonly blockTokens: number;
  readonly loraMax: number;
  readonly rank: number | null;
  readonly models: readonly string[];
  readonly labels: readonly (readonly [string, string])[];
  readonly loraActive: readonly string[];
  readonly loraWaiting: readonly string[];
  readonly preemptions: number;
  readonly promptTokens: number;
  readonly generationTokens: number;
}

/** Encodes endpoints, slots ascending, as a snapshot with an id; the bytes are used before the next call. */
export type EncodeSnapshot = (endpoints: readonly FleetEndpoint[], id: number) => Uint8Array;

const PORT = 8000;
const ROLES: Readonly<Record<ReplicaRole, number>> = {
  both: ROLE_DECODE | ROLE_PREFILL,
  prefill: ROLE_PREFILL,
  decode: ROLE_DECODE,
};
const NO_LABELS: FleetEndpoint["labels"] = [];

/** Address of a replica, "10.0.x.y:8000". */
export function replicaAddress(replica: number): string {
  return `10.0.${replica >> 8}.${replica & 255}:${PORT}`;
}

/** Replica of an address, −1 for one that is none. */
export function replicaOf(address: string, replicas: number): number {
  const match = /^10\.0\.(\d+)\.(\d+):8000$/.exec(address);
  const replica = match === null ? -1 : Number(match[1]) * 256 + Number(match[2]);
  return replica < replicas ? replica : -1;
}

/** A scrape of the fleet as the endpoints of a snapshot, all serving `models`. */
export function snapshotEndpoints(
  scrapes: readonly Scrape[],
  models: readonly string[],
): readonly FleetEndpoint[] {
  return scrapes.map((scrape, slot) => ({
    slot,
    generation: scrape.generation,
    flags: ENDPOINT_HAS_LOAD | ENDPOINT_HAS_LORA | (scrape.ready ? ENDPOINT_READY : 0),
    roles: ROLES[scrape.role],
    address: replicaAddress(slot),
    name: `replica-${slot}`,
    waiting: scrape.waiting,
    running: scrape.running,
    kvUsage: scrape.kvUsage,
    gpuUtilization: 0,
    gpuMemory: 0,
    metricsAgeMs: 0,
    kvCapacityTokens: scrape.kvCapacityTokens,
    blockTokens: scrape.blockTokens,
    loraMax: scrape.loraMax ?? 0,
    rank: null,
    models,
    labels: NO_LABELS,
    loraActive: scrape.loras,
    loraWaiting: scrape.lorasWaiting ?? [],
    preemptions: scrape.preemptions,
    promptTokens: scrape.promptTokens,
    generationTokens: scrape.generationTokens,
  }));
}

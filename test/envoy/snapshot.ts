// Pool snapshots for tests: the sidecar's own encoder behind short descriptions with idle, ready defaults.
import {
  ENDPOINT_HAS_LOAD,
  ENDPOINT_READY,
  ROLE_DECODE,
  SNAPSHOT_AT_CHECKSUM,
} from "../../assembly/wire/snapshot.ts";
import { type SnapshotEndpoint, SnapshotEncoder, snapshotChecksum } from "../../sidecar/snapshot-encoder.ts";

export const TEST_MODEL = "test-model";

/** One endpoint of a test's pool; what is left out is ready, idle and serves TEST_MODEL. */
export interface TestEndpoint extends Partial<
  Omit<SnapshotEndpoint, "labels" | "loraActive" | "loraWaiting">
> {
  readonly address: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly lorasActive?: readonly string[];
  readonly lorasWaiting?: readonly string[];
}

/** A snapshot as assembly/wire/snapshot.ts lays it out, checksum included. Slots count from 0 unless given. */
export function encodeSnapshot(endpoints: readonly TestEndpoint[], id = 1): Buffer {
  return Buffer.from(new SnapshotEncoder().encode(endpoints.map(complete), id));
}

/** Writes the checksum that fits the bytes: for a test that changed a snapshot on purpose. */
export function seal(snapshot: Buffer): Buffer {
  snapshot.writeUInt32LE(snapshotChecksum(snapshot), SNAPSHOT_AT_CHECKSUM);
  return snapshot;
}

function complete(endpoint: TestEndpoint, index: number): SnapshotEndpoint {
  const { labels = {}, lorasActive = [], lorasWaiting = [], ...fields } = endpoint;
  return {
    slot: index,
    generation: 1,
    flags: ENDPOINT_READY | ENDPOINT_HAS_LOAD,
    roles: ROLE_DECODE,
    name: endpoint.address,
    waiting: 0,
    running: 0,
    kvUsage: 0,
    gpuUtilization: 0,
    gpuMemory: 0,
    metricsAgeMs: 0,
    kvCapacityTokens: 1_000_000,
    blockTokens: 16,
    loraMax: 0,
    rank: null,
    models: [TEST_MODEL],
    preemptions: 0,
    promptTokens: 0,
    generationTokens: 0,
    ...fields,
    labels: Object.entries(labels),
    loraActive: lorasActive,
    loraWaiting: lorasWaiting,
  };
}

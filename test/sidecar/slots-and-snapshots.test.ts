// Slots and generations; the snapshot's bytes there and back.
import { describe, expect, it } from "vitest";
import * as limits from "../../assembly/wire/limits.ts";
import * as wire from "../../assembly/wire/snapshot.ts";
import { SnapshotInvalidError, SnapshotTooLargeError } from "../../sidecar/errors.ts";
import { GENERATION_MAX, SlotTable } from "../../sidecar/slot-table.ts";
import { decodeSnapshot } from "../../sidecar/snapshot-decoder.ts";
import { type SnapshotEndpoint, snapshotChecksum, SnapshotEncoder } from "../../sidecar/snapshot-encoder.ts";
import { between, withSeeds } from "./seeds.ts";

describe("slots", () => {
  it("stay with their address while it is known", () => {
    const table = new SlotTable(8);
    table.update(["c", "a", "b"]);
    expect(["a", "b", "c"].map((address) => table.get(address)!.index)).toEqual([0, 1, 2]);
    const generation = table.get("c")!.generation;
    expect(table.update(["d", "c"])).toEqual({ added: ["d"], removed: ["a", "b"], surplus: 0 });
    expect(table.get("c")).toMatchObject({ index: 2, generation });
    expect(table.get("d")!.index).toBe(0);
    expect(table.get("a")).toBeUndefined();
  });

  it("are reused only with another generation, also by the same address", () => {
    withSeeds(50, (random) => {
      const table = new SlotTable(1);
      let last = 0;
      for (let round = 0; round < 50; round++) {
        const address = `10.0.0.${between(random, 1, 3)}:8000`;
        table.update([]);
        table.update([address]);
        const { generation } = table.get(address)!;
        expect(generation).not.toBe(last);
        expect(generation).toBeGreaterThanOrEqual(1);
        expect(generation).toBeLessThanOrEqual(GENERATION_MAX);
        last = generation;
      }
    });
  });

  it("get another generation at each restart, with and without a known start time", () => {
    const table = new SlotTable(2);
    table.update(["a"]);
    const seen = [table.get("a")!.generation];
    for (const identity of ["1700000000", "1700000500", "1700000500#1", "", ""]) {
      table.restarted("a", identity);
      expect(table.get("a")!.generation).not.toBe(seen.at(-1));
      seen.push(table.get("a")!.generation);
    }
  });

  it("are the same after a restart of the sidecar, so that gateways keep their index", () => {
    const addresses = Array.from({ length: 40 }, (_, index) => `10.0.${index}.1:8000`);
    const tables = [addresses, [...addresses].reverse()].map((list) => {
      const table = new SlotTable(64);
      table.update(list);
      for (const address of list) table.restarted(address, "1700000000.25");
      return list.map((address) => JSON.stringify([address, table.get(address)])).sort();
    });
    expect(tables[0]).toEqual(tables[1]);
  });

  it("drop the surplus in sorted order, and take it in when there is room", () => {
    const table = new SlotTable(2);
    expect(table.update(["c", "b", "a"])).toMatchObject({ added: ["a", "b"], surplus: 1 });
    expect(table.update(["c", "b"])).toMatchObject({ added: ["c"], removed: ["a"], surplus: 0 });
  });
});

const FIRST: SnapshotEndpoint = {
  slot: 0,
  generation: 1,
  flags: wire.ENDPOINT_READY | wire.ENDPOINT_HAS_LOAD,
  roles: wire.ROLE_DECODE,
  address: "10.0.0.1:8000",
  name: "vllm-0",
  waiting: 3,
  running: 7,
  kvUsage: 0.5,
  gpuUtilization: 0.25,
  gpuMemory: 0.75,
  metricsAgeMs: 40,
  kvCapacityTokens: 4_352,
  blockTokens: 32,
  loraMax: 4,
  rank: null,
  models: ["base", "lora-a"],
  labels: [["llm-d.ai/role", "decode"]],
  loraActive: ["lora-a"],
  loraWaiting: [],
  preemptions: 5,
  promptTokens: 2_099,
  generationTokens: 1_146,
};

function randomEndpoint(random: () => number, slot: number): SnapshotEndpoint {
  const text = (max: number): string =>
    Array.from(
      { length: between(random, 0, max) },
      () => ["a", "é", "模", "😀", "/", "."][between(random, 0, 5)],
    ).join("");
  const texts = (max: number): string[] => Array.from({ length: between(random, 0, max) }, () => text(12));
  const u32 = (): number => between(random, 0, 0xffffffff);
  const share = (): number => Math.fround(random());
  return {
    slot,
    generation: between(random, 1, 65_535),
    flags: between(random, 0, 31),
    roles: between(random, 0, 7),
    address: `10.0.${slot}.1:${between(random, 1, 65_535)}`,
    name: text(20),
    waiting: u32(),
    running: u32(),
    kvUsage: share(),
    gpuUtilization: share(),
    gpuMemory: share(),
    metricsAgeMs: u32(),
    kvCapacityTokens: u32(),
    blockTokens: u32(),
    loraMax: u32(),
    rank: random() < 0.5 ? null : between(random, 0, 1_000),
    models: texts(6),
    labels: texts(6).map((key) => [key, text(8)] as const),
    loraActive: texts(4),
    loraWaiting: texts(4),
    preemptions: u32(),
    promptTokens: Math.floor(random() * 2 ** 52),
    generationTokens: random() * 1e9,
  };
}

describe("snapshots", () => {
  it("come back as they went in, whatever they hold", () => {
    const encoder = new SnapshotEncoder();
    withSeeds(100, (random) => {
      const slots = Array.from({ length: limits.POOL_ENDPOINTS_MAX }, (_, slot) => slot).filter(
        () => random() < 0.1,
      );
      const endpoints = slots.map((slot) => randomEndpoint(random, slot));
      const id = Math.floor(random() * 2 ** 53);
      expect(decodeSnapshot(encoder.encode(endpoints, id))).toEqual({ id, endpoints });
    });
  });

  it("have each field where the layout says", () => {
    const bytes = new SnapshotEncoder().encode([FIRST], 9);
    const at = wire.SNAPSHOT_HEADER_BYTES;
    expect(bytes.toString("latin1", 0, 4)).toBe("EPS1");
    expect(bytes.readUInt32LE(wire.SNAPSHOT_AT_TOTAL_BYTES)).toBe(bytes.length);
    expect(bytes.readUInt16LE(at + wire.ENDPOINT_AT_SLOT)).toBe(0);
    expect(bytes.readUInt32LE(at + wire.ENDPOINT_AT_WAITING)).toBe(3);
    expect(bytes.readFloatLE(at + wire.ENDPOINT_AT_KV_USAGE)).toBe(0.5);
    expect(bytes.readUInt32LE(at + wire.ENDPOINT_AT_RANK)).toBe(0xffffffff);
    expect(bytes.readDoubleLE(at + wire.ENDPOINT_AT_PROMPT_TOKENS)).toBe(2_099);
    expect(bytes.readBigUInt64LE(wire.SNAPSHOT_AT_ID)).toBe(9n);
    const address = bytes.readUInt32LE(at + wire.ENDPOINT_AT_ADDRESS);
    expect(bytes.toString("utf8", address, address + 13)).toBe("10.0.0.1:8000");
    expect(bytes.subarray(at + 112, at + 128).every((byte) => byte === 0)).toBe(true);
  });

  it("have the checksum that the layout defines, worked out here by hand", () => {
    const bytes = new SnapshotEncoder().encode([], 1);
    let hash = 0x811c9dc5n;
    for (let at = 12; at < 64; at += 4) {
      const word = hash ^ BigInt(bytes.readUInt32LE(at));
      hash = ((((word << 5n) | (word >> 27n)) & 0xffffffffn) * 0x9e3779b1n) & 0xffffffffn;
    }
    expect(bytes.readUInt32LE(wire.SNAPSHOT_AT_CHECKSUM)).toBe(Number(hash));
    const padded = snapshotChecksum(Buffer.concat([bytes, Buffer.from([7])]));
    expect(padded).toBe(snapshotChecksum(Buffer.concat([bytes, Buffer.from([7, 0, 0, 0])])));
  });

  it("clamp and wrap what does not fit its field", () => {
    const extreme = {
      ...FIRST,
      waiting: 1e12,
      running: -5,
      kvUsage: 1.7,
      gpuUtilization: Number.NaN,
      gpuMemory: -1,
      metricsAgeMs: 12.6,
      preemptions: 2 ** 32 + 3,
    };
    expect(decodeSnapshot(new SnapshotEncoder().encode([extreme], 1)).endpoints[0]).toMatchObject({
      waiting: 0xffffffff,
      running: 0,
      kvUsage: 1,
      gpuUtilization: 0,
      gpuMemory: 0,
      metricsAgeMs: 13,
      preemptions: 3,
    });
  });

  it("hold a whole pool of endpoints alike, and refuse one that is too large", () => {
    const encoder = new SnapshotEncoder();
    const models = Array.from({ length: limits.MODELS_MAX }, (_, index) => `org/model-with-a-name-${index}`);
    const labels = Array.from(
      { length: limits.LABELS_MAX },
      (_, index) => [`label-${index}`, `value-${index}`] as const,
    );
    const slots = Array.from({ length: limits.POOL_ENDPOINTS_MAX }, (_, slot) => slot);
    const alike = slots.map((slot) => ({
      ...FIRST,
      slot,
      address: `10.0.${slot}.1:8000`,
      name: `e${slot}`,
      models: [...models],
      labels: [...labels],
    }));
    expect(encoder.encode(alike, 1).length).toBeLessThan(64_000);
    const different = alike.map((endpoint) => ({
      ...endpoint,
      labels: labels.map(([key, value]) => [key, `${value}-${endpoint.slot}`] as const),
    }));
    expect(() => encoder.encode(different, 1)).toThrow(SnapshotTooLargeError);
    expect(decodeSnapshot(encoder.encode(alike, 2)).endpoints).toHaveLength(256);
  });

  it.each<[field: string, spoil: (bytes: Buffer) => Buffer]>([
    ["bytes", (bytes) => bytes.subarray(0, 63)],
    ["magic", (bytes) => poke(bytes, 0, 1)],
    ["version", (bytes) => poke(bytes, wire.SNAPSHOT_AT_VERSION, 9)],
    ["header bytes", (bytes) => poke(bytes, wire.SNAPSHOT_AT_HEADER_BYTES, 9)],
    ["total bytes", (bytes) => bytes.subarray(0, bytes.length - 1)],
    ["checksum", (bytes) => poke(bytes, bytes.length - 1, bytes[bytes.length - 1]! ^ 1)],
    ["record bytes", (bytes) => sealed(poke(bytes, wire.SNAPSHOT_AT_RECORD_BYTES, 9))],
    ["endpoint count", (bytes) => sealed(poke(bytes, wire.SNAPSHOT_AT_ENDPOINTS + 1, 9))],
    ["generation", (bytes) => sealed(poke(poke(bytes, 66, 0), 67, 0))],
    ["slot", (bytes) => sealed(poke(bytes, wire.SNAPSHOT_HEADER_BYTES + wire.ENDPOINT_AT_SLOT + 1, 1))],
    ["address", (bytes) => sealed(poke(bytes, wire.SNAPSHOT_HEADER_BYTES + wire.ENDPOINT_AT_ADDRESS + 2, 1))],
    ["models", (bytes) => sealed(poke(bytes, wire.SNAPSHOT_HEADER_BYTES + wire.ENDPOINT_AT_MODELS + 2, 1))],
    [
      "KV usage",
      (bytes) => sealed(poke(bytes, wire.SNAPSHOT_HEADER_BYTES + wire.ENDPOINT_AT_KV_USAGE + 3, 0x7f)),
    ],
  ])("are refused by the decoder with the name of the field: %s", (field, spoil) => {
    const bytes = Buffer.from(new SnapshotEncoder().encode([FIRST], 1));
    let found = "";
    try {
      decodeSnapshot(spoil(bytes));
    } catch (error) {
      if (!(error instanceof SnapshotInvalidError)) throw error;
      found = error.field;
    }
    expect(found).toBe(field);
  });
});

function poke(bytes: Buffer, at: number, value: number): Buffer {
  bytes[at] = value;
  return bytes;
}

function sealed(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(snapshotChecksum(bytes), wire.SNAPSHOT_AT_CHECKSUM);
  return bytes;
}

// The parts of the host without a VM: clock, byte queue, header map, pairs, properties, stream order.
import { describe, expect, it } from "vitest";
import { Result } from "../../host-sim/host/abi.ts";
import { ByteQueue } from "../../host-sim/host/byte-queue.ts";
import {
  DoubleValue,
  HeaderMap,
  metadataValue,
  objectSource,
  RealClock,
  StreamOrderError,
  VirtualClock,
} from "../../host-sim/host/index.ts";
import { decodePairs, encodePairs, pairsBytes, type Pair } from "../../host-sim/host/pairs.ts";
import { readProperty, serializeProperty } from "../../host-sim/host/properties.ts";
import { probeHost, seededRandom, testSeed } from "./support.ts";

function encode(pairs: readonly Pair[]): Buffer {
  const bytes = Buffer.alloc(pairsBytes(pairs));
  encodePairs(pairs, bytes);
  return bytes;
}

describe("virtual clock", () => {
  it("fires timers in order of time, then of creation, and not when cancelled", () => {
    const clock = new VirtualClock();
    const fired: string[] = [];
    clock.after(20, () => fired.push("b"));
    clock.after(10, () => fired.push("a"));
    clock.after(20, () => fired.push("c"));
    clock.after(15, () => fired.push("never")).cancel();
    clock.advance(19);
    expect(fired).toEqual(["a"]);
    clock.advance(1);
    expect(fired).toEqual(["a", "b", "c"]);
    expect(clock.nextTimerMs()).toBe(Infinity);
  });

  it("shows each timer its own time and runs what it posts before the next timer", () => {
    const clock = new VirtualClock(1_000n);
    const seen: string[] = [];
    clock.after(5, () => {
      clock.post(() => seen.push(`posted at ${clock.monotonicMs()}`));
      clock.after(0, () => seen.push(`nested at ${clock.wallNs()}`));
    });
    clock.after(7, () => seen.push(`last at ${clock.monotonicMs()}`));
    clock.advanceTo(100);
    expect(seen).toEqual(["posted at 5", "nested at 5001000", "last at 7"]);
    expect(clock.monotonicMs()).toBe(100);
  });

  it("fires any set of timers in the order of a sorted list", () => {
    const seed = testSeed();
    const random = seededRandom(seed);
    const clock = new VirtualClock();
    const expected: { at: number; id: number }[] = [];
    const fired: number[] = [];
    for (let id = 0; id < 500; id++) {
      const at = Math.floor(random() * 100);
      const timer = clock.after(at, () => fired.push(id));
      if (random() < 0.2) timer.cancel();
      else expected.push({ at, id });
    }
    clock.advance(100);
    expected.sort((a, b) => a.at - b.at || a.id - b.id);
    expect(fired, `SEED=${seed}`).toEqual(expected.map(({ id }) => id));
  });

  it("has a real twin whose time moves on", async () => {
    const clock = new RealClock();
    const before = clock.wallNs();
    await new Promise<void>((settle) => clock.post(settle));
    const cancelled = clock.after(0, () => expect.unreachable("a cancelled timer fired"));
    cancelled.cancel();
    // Its timers do not keep a process alive; this test's own does.
    const keep = setInterval(() => {}, 1_000);
    await new Promise<void>((settle) => clock.after(2, settle));
    clearInterval(keep);
    expect(clock.wallNs()).toBeGreaterThan(before);
    expect(Number(before / 1_000_000n)).toBeGreaterThan(Date.now() - 60_000);
  });
});

describe("byte queue", () => {
  it("does what one buffer does, under any sequence of operations", () => {
    const seed = testSeed();
    const random = seededRandom(seed);
    const queue = new ByteQueue();
    let oracle = Buffer.alloc(0);
    for (let step = 0; step < 2_000; step++) {
      const bytes = Buffer.from(
        Array.from({ length: Math.floor(random() * 9) }, () => Math.floor(random() * 256)),
      );
      const choice = random();
      if (choice < 0.4) {
        queue.append(bytes);
        oracle = Buffer.concat([oracle, bytes]);
      } else if (choice < 0.6) {
        queue.prepend(bytes);
        oracle = Buffer.concat([bytes, oracle]);
      } else if (choice < 0.85) {
        const count = Math.floor(random() * 12);
        queue.drain(count);
        oracle = oracle.subarray(Math.min(count, oracle.length));
      } else if (choice < 0.95) {
        const other = ByteQueue.of(bytes);
        queue.moveFrom(other);
        expect(other.length).toBe(0);
        oracle = Buffer.concat([oracle, bytes]);
      } else {
        expect(Buffer.from(queue.take()), `SEED=${seed} step ${step}`).toEqual(oracle);
        oracle = Buffer.alloc(0);
      }
      const start = Math.floor(random() * (oracle.length + 1));
      const length = Math.floor(random() * (oracle.length - start + 1));
      const part = Buffer.alloc(length);
      queue.copyTo(start, length, part);
      expect(part, `SEED=${seed} step ${step}`).toEqual(oracle.subarray(start, start + length));
      expect(queue.length, `SEED=${seed} step ${step}`).toBe(oracle.length);
    }
  });
});

describe("header map", () => {
  it("lower-cases names, keeps order and repeats, and replaces in place", () => {
    const map = HeaderMap.from({ "X-One": "1", "x-two": ["a", "b"], "x-three": "3" });
    expect(map.get("x-ONE")).toBe("1");
    expect(map.all("X-Two")).toEqual(["a", "b"]);
    map.set("X-TWO", "c");
    map.add("x-one", "4");
    expect(map.pairs()).toEqual([
      ["x-one", "1"],
      ["x-two", "c"],
      ["x-three", "3"],
      ["x-one", "4"],
    ]);
    expect([map.size, map.bytes]).toEqual([4, 26]);
    map.remove("X-One");
    expect(map.toObject()).toEqual({ "x-two": "c", "x-three": "3" });
  });

  it("is copied, not shared, when made from another", () => {
    const map = HeaderMap.from({ a: "1" });
    const copy = HeaderMap.from(map);
    copy.set("a", "2");
    expect(map.get("a")).toBe("1");
  });
});

describe("pairs", () => {
  const whole = encode([
    ["name", "value"],
    ["", ""],
    ["\xff\x00x", "\x00"],
  ]);

  it("round-trips any bytes", () => {
    expect(decodePairs(whole)).toEqual([
      ["name", "value"],
      ["", ""],
      ["\xff\x00x", "\x00"],
    ]);
    expect(decodePairs(encode([]))).toEqual([]);
  });

  const changed = (offset: number, value: number): Buffer => {
    const bytes = Buffer.from(whole);
    bytes.writeUInt32LE(value >>> 0, offset);
    return bytes;
  };
  const many = (count: number): Buffer => encode(Array.from({ length: count }, () => ["n", "v"] as const));

  it.each([
    ["no count", Buffer.alloc(3)],
    ["a count beyond the bytes", changed(0, 400)],
    ["a count of 2^32-1", changed(0, -1)],
    ["one pair too few for the bytes", changed(0, 2)],
    ["a name longer than the bytes", changed(4, 1_000)],
    ["a value whose terminator is elsewhere", changed(8, 6)],
    ["cut short", whole.subarray(0, whole.length - 1)],
    ["bytes left over", Buffer.concat([whole, Buffer.from([0])])],
    ["1,025 pairs", many(1_025)],
    ["more than 1 MiB", encode([["n", "x".repeat(1024 * 1024)]])],
  ])("decodes to nothing: %s", (_name, bytes) => {
    expect(decodePairs(bytes)).toEqual([]);
  });

  it("decodes up to both limits", () => {
    expect(decodePairs(many(1_024))).toHaveLength(1_024);
    const longest = "x".repeat(1024 * 1024 - 4 - 8 - 2 - 1);
    expect(decodePairs(encode([["n", longest]]))).toHaveLength(1);
    expect(decodePairs(encode([["n", `${longest}x`]]))).toHaveLength(0);
  });
});

describe("properties", () => {
  const top = (name: string): ReturnType<Parameters<typeof readProperty>[1]> =>
    name === "tree"
      ? objectSource({
          text: "t",
          list: ["a", objectSource({ b: 1 })],
          meta: metadataValue({ n: 2, deep: { x: true } }),
        })
      : undefined;
  const hex = (value: ReturnType<typeof readProperty>): string | number =>
    typeof value === "number" ? value : value.toString("hex");

  it.each([
    ["text", "héllo", "68e96c6c6f"],
    ["bytes", Buffer.from([0, 255]), "00ff"],
    ["a positive integer", 513n, "0102000000000000"],
    ["a negative integer", -2, "feffffffffffffff"],
    ["true", true, "01"],
    ["false", false, "00"],
    ["a double", new DoubleValue(2.5), "0000000000000440"],
    ["a map", objectSource({ a: "1", gone: undefined }), "01000000" + "0100000001000000" + "61003100"],
    ["a list", ["a"], "01000000" + "0100000000000000" + "610000"],
  ])("encodes %s", (_name, value, expected) => {
    expect(serializeProperty(value).toString("hex")).toBe(expected);
  });

  it.each([
    ["a field", "tree\0text", "74"],
    ["a trailing separator", "tree\0text\0", "74"],
    ["a list item", "tree\0list\x000", "61"],
    ["a field of a list item", "tree\0list\x001\0b", "0100000000000000"],
    ["a number of metadata is a double", "tree\0meta\0n", "0000000000000040"],
    ["nested metadata", "tree\0meta\0deep\0x", "01"],
    ["an unknown top", "none", Result.NOT_FOUND],
    ["an unknown field", "tree\0none", Result.NOT_FOUND],
    ["beyond the list", "tree\0list\x002", Result.NOT_FOUND],
    ["a list by name", "tree\0list\0b", Result.NOT_FOUND],
    ["below a text", "tree\0text\0x", Result.NOT_FOUND],
    ["an empty path", "", Result.SERIALIZATION_FAILURE],
  ])("reads %s", (_name, path, expected) => {
    expect(hex(readProperty(path, top))).toBe(expected);
  });
});

describe("stream order", () => {
  it("refuses frames that no codec can deliver, and ignores those after the end", async () => {
    const { host, open } = await probeHost();
    const fresh = host.worker(0).openStream("root");
    expect(() => fresh.requestBody("x")).toThrow(StreamOrderError);
    expect(() => fresh.requestTrailers({})).toThrow(StreamOrderError);
    expect(() => fresh.responseHeaders({ ":status": "200" })).toThrow(StreamOrderError);
    const stream = open(host.worker(0), "root", "s", "");
    expect(() => stream.requestHeaders({})).toThrow(StreamOrderError);
    expect(() => stream.responseBody("x")).toThrow(StreamOrderError);
    expect(() => stream.responseTrailers({})).toThrow(StreamOrderError);
    stream.requestBody("x", true);
    expect(() => stream.requestBody("y")).toThrow(StreamOrderError);
    stream.responseHeaders({ ":status": "200" });
    expect(() => stream.responseHeaders({ ":status": "200" })).toThrow(StreamOrderError);
    stream.responseBody("", true);
    expect(stream.closed).toBe(true);
    stream.requestBody("late").requestTrailers({}).responseHeaders({}).responseBody("x").responseTrailers({});
    stream.reset().upstreamReset();
    expect(stream.downstream?.status).toBe(200);
  });
});

// Hashing of names and keys: every byte counts, none beyond is read, and nearby inputs are far apart.
import { avalanche, hashBytes, mixPair, mixWord } from "../../assembly/text/hash";

const BYTES_MAX: i32 = 72;
const buffer: usize = memory.data(96, 8);

function fill(count: i32): void {
  for (let i = 0; i < count; i++) store<u8>(buffer + i, <u8>(i * 37 + 11));
}

describe("hashBytes", () => {
  it("depends on every byte, at every length", () => {
    for (let length = 1; length <= BYTES_MAX; length++) {
      fill(length);
      const hash = hashBytes(buffer, length);
      for (let i = 0; i < length; i++) {
        const byte = load<u8>(buffer + i);
        store<u8>(buffer + i, byte ^ 1);
        expect(hashBytes(buffer, length)).not.toBe(hash, `length ${length}, byte ${i}`);
        store<u8>(buffer + i, byte);
      }
      expect(hashBytes(buffer, length)).toBe(hash);
    }
  });

  it("does not depend on what follows, nor on where the bytes lie", () => {
    for (let length = 0; length < 40; length++) {
      fill(96);
      const hash = hashBytes(buffer, length);
      store<u8>(buffer + length, load<u8>(buffer + length) ^ 0xff);
      expect(hashBytes(buffer, length)).toBe(hash);
      memory.copy(buffer + 3, buffer, length);
      expect(hashBytes(buffer + 3, length)).toBe(hash, `length ${length}`);
    }
  });

  it("tells lengths of zeros apart, and seeds", () => {
    memory.fill(buffer, 0, 96);
    for (let length = 1; length < BYTES_MAX; length++) {
      expect(hashBytes(buffer, length)).not.toBe(hashBytes(buffer, length - 1));
    }
    expect(hashBytes(buffer, 8, 1)).not.toBe(hashBytes(buffer, 8, 2));
  });

  it("changes about half of all bits when one bit changes", () => {
    fill(64);
    const hash = hashBytes(buffer, 64);
    let changed: u64 = 0;
    for (let bit = 0; bit < 512; bit++) {
      const at = buffer + (bit >> 3);
      const mask: i32 = 1 << (bit & 7);
      store<u8>(at, load<u8>(at) ^ (<u8>mask));
      changed += popcnt<u64>(hashBytes(buffer, 64) ^ hash);
      store<u8>(at, load<u8>(at) ^ (<u8>mask));
    }
    expect(changed).toBeGreaterThan(512 * 30);
    expect(changed).toBeLessThan(512 * 34);
  });
});

describe("mixing", () => {
  it("depends on order", () => {
    expect(mixPair(1, 2)).not.toBe(mixPair(2, 1));
    expect(mixWord(mixWord(0, 1), 2)).not.toBe(mixWord(mixWord(0, 2), 1));
  });

  it("maps different words to different hashes", () => {
    for (let i: u64 = 1; i < 1000; i++) {
      expect(avalanche(i)).not.toBe(avalanche(i - 1));
      expect(mixWord(7, i)).not.toBe(mixWord(7, i - 1));
    }
  });
});

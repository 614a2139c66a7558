// The digest of bytes that come in pieces: equal for every cut, different for every byte.
import { PROMPT_BYTES } from "../../assembly/prompt/layout";
import { digestAdd, digestEnd, digestOf, digestReset } from "../../assembly/prompt/digest";

const BYTES: i32 = 150;
const buffer: usize = memory.data(256, 8);
const record: usize = memory.data(1024, 8);

function fill(): void {
  memory.fill(record, 0, PROMPT_BYTES);
  for (let i = 0; i < BYTES; i++) store<u8>(buffer + i, <u8>(i * 73 + 5));
}

describe("digest", () => {
  it("is the same for every length and every two cuts", () => {
    fill();
    for (let length = 0; length <= BYTES; length++) {
      const whole = digestOf(buffer, length);
      for (let first = 0; first <= length; first += 5) {
        for (let second = first; second <= length; second += 7) {
          digestAdd(record, buffer, first);
          digestAdd(record, buffer + first, second - first);
          expect(digestEnd(record, buffer + second, length - second)).toBe(whole);
        }
      }
    }
  });

  it("depends on every byte and on the length", () => {
    fill();
    const whole = digestOf(buffer, BYTES);
    for (let i = 0; i < BYTES; i++) {
      store<u8>(buffer + i, load<u8>(buffer + i) ^ 1);
      expect(digestOf(buffer, BYTES)).not.toBe(whole, `byte ${i}`);
      store<u8>(buffer + i, load<u8>(buffer + i) ^ 1);
    }
    memory.fill(buffer, 0, BYTES);
    for (let length = 1; length <= BYTES; length++) {
      expect(digestOf(buffer, length)).not.toBe(digestOf(buffer, length - 1), `length ${length}`);
    }
  });

  it("starts anew after a reset", () => {
    fill();
    digestAdd(record, buffer, 40);
    digestReset(record);
    expect(digestEnd(record, buffer, 10)).toBe(digestOf(buffer, 10));
  });
});

// Fixed texts and the bounded writer: what comes out byte for byte, and what happens when the buffer is too small.
import {
  ascii,
  textBytes,
  textEquals,
  textStarts,
  writeBegin,
  writeByte,
  writeBytes,
  writeCut,
  writeF64,
  writeJsonInner,
  writeLength,
  writeLiteral,
  writeText,
  writeU64,
} from "../../assembly/text/text";

const HELLO = ascii("hello");
const NUL_INSIDE = ascii("xds\0route");
const EMPTY = ascii("");

const buffer: usize = memory.data(64);
const input: usize = memory.data(64);

function written(): string {
  return String.UTF8.decodeUnsafe(buffer, writeLength());
}

function f64Text(value: f64): string {
  writeBegin(buffer, 64);
  writeF64(value);
  return written();
}

function u64Text(value: u64): string {
  writeBegin(buffer, 64);
  writeU64(value);
  return written();
}

function jsonInner(text: string): string {
  writeBegin(buffer, 64);
  const bytes = String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, input);
  writeJsonInner(input, <u32>bytes);
  return written();
}

describe("fixed texts", () => {
  it("know their length, NUL bytes included", () => {
    expect(textBytes(HELLO)).toBe(5);
    expect(textBytes(NUL_INSIDE)).toBe(9);
    expect(textBytes(EMPTY)).toBe(0);
  });

  it("equal the same bytes and no others", () => {
    memory.copy(input, HELLO, 5);
    expect(textEquals(HELLO, input, 5)).toBe(true);
    expect(textEquals(HELLO, input, 4)).toBe(false);
    expect(textEquals(HELLO, input, 6)).toBe(false);
    expect(textEquals(EMPTY, input, 0)).toBe(true);
    store<u8>(input, 72);
    expect(textEquals(HELLO, input, 5)).toBe(false);
  });

  it("are found at the start of longer bytes, not of shorter ones", () => {
    memory.copy(input, HELLO, 5);
    store<u8>(input + 5, 33);
    expect(textStarts(HELLO, input, 6)).toBe(true);
    expect(textStarts(HELLO, input, 5)).toBe(true);
    expect(textStarts(HELLO, input, 4)).toBe(false);
    expect(textStarts(EMPTY, input, 0)).toBe(true);
  });
});

describe("the writer", () => {
  it("joins literals, texts, bytes and numbers", () => {
    writeBegin(buffer, 64);
    writeLiteral("a=");
    writeText(HELLO);
    writeByte(44);
    writeU64(42);
    writeBytes(HELLO, 2);
    expect(written()).toBe("a=hello,42he");
    expect(writeCut()).toBe(false);
  });

  it("fills the buffer to its last byte and says when something was cut", () => {
    store<u8>(buffer + 6, 0xee);
    writeBegin(buffer, 6);
    writeText(HELLO);
    writeByte(33);
    expect(writeCut()).toBe(false);
    writeByte(33);
    expect(writeCut()).toBe(true);
    writeText(HELLO);
    expect(written()).toBe("hello!");
    expect(load<u8>(buffer + 6)).toBe(0xee);
  });

  it("keeps what fits of a text that does not", () => {
    writeBegin(buffer, 3);
    writeText(HELLO);
    expect(written()).toBe("hel");
    expect(writeCut()).toBe(true);
    writeBegin(buffer, 0);
    writeLiteral("x");
    expect(writeLength()).toBe(0);
    expect(writeCut()).toBe(true);
  });

  it("writes whole numbers up to the largest", () => {
    expect(u64Text(0)).toBe("0");
    expect(u64Text(10)).toBe("10");
    expect(u64Text(u64.MAX_VALUE)).toBe("18446744073709551615");
  });

  it("writes numbers with up to three decimals, and null for what is none", () => {
    expect(f64Text(0)).toBe("0");
    expect(f64Text(0.25)).toBe("0.25");
    expect(f64Text(0.005)).toBe("0.005");
    expect(f64Text(-3)).toBe("-3");
    expect(f64Text(-0.5)).toBe("-0.5");
    expect(f64Text(1.0004)).toBe("1");
    expect(f64Text(1.9996)).toBe("2");
    expect(f64Text(12345.678)).toBe("12345.678");
    expect(f64Text(NaN)).toBe("null");
    expect(f64Text(Infinity)).toBe("9007199254740991");
    expect(f64Text(-Infinity)).toBe("-9007199254740991");
  });

  it("escapes what JSON strings may not hold, and leaves UTF-8 alone", () => {
    expect(jsonInner('say "hi"\\')).toBe('say \\"hi\\"\\\\');
    expect(jsonInner("\n\x00\x1f")).toBe("\\u000a\\u0000\\u001f");
    expect(jsonInner("größe 漢 ~")).toBe("größe 漢 ~");
  });
});

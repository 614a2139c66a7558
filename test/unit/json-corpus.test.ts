// The JSON scanner against a second opinion, Node's JSON.parse: a corpus, and random texts and mutations.
import { beforeAll, describe, expect, it } from "vitest";
import { JsonScanner } from "./support/json-scanner.ts";
import { expectedValue, valueOfEvents } from "./support/json-value.ts";
import { random } from "./support/random.ts";

const MUTATIONS = 4000;
const RANDOM_TEXTS = 400;

let scanner: JsonScanner;
beforeAll(async () => {
  scanner = await JsonScanner.start();
});

const VALID = [
  "{}",
  "[]",
  "0",
  "-0",
  "-1",
  "1E22",
  "1e-7",
  "123456789012345678",
  "0.1",
  '""',
  "true",
  " null ",
  "[[[[[[[[[[]]]]]]]]]]",
  '{"a":{"b":{"c":[1,{"d":[]}]}}}',
  '{"":0," ":1,"\\u0000":2}',
  '{"a":1,"b":2,"a":3}',
  '{"__proto__":1,"constructor":{"prototype":[]}}',
  '[1,2.5,-3e4,true,false,null,"x",{},[]]',
  '"\\u00e9\\ud83d\\ude00\\ud83d\\uD83D\\ude00\\ude00"',
  '"é€😀 \u2028\u2029\uFEFF\u007F"',
  "[\n\t1 ,\r\n 2\n]",
  `"${"long ".repeat(1000)}"`,
  `"${"é€😀\\n".repeat(500)}"`,
  `[${Array.from({ length: 500 }, (_, index) => index * 977).join(",")}]`,
  '["\\"\\\\\\/\\b\\f\\n\\r\\t"]',
  '{"k":"\\\\"}',
  "[1.0000000000000000000000000000000000000001]",
  // The longest number that keeps its text, and longer ones.
  `[1.${"0".repeat(61)}1]`,
  `[1.${"0".repeat(62)}1,"1.${"0".repeat(80)}"]`,
  "-0.00003437457690015435000034374576900154154350000343745769001543535",
];

const INVALID = [
  "",
  " ",
  "{",
  "[",
  "}",
  "]",
  "[1",
  "[1,",
  "[1,]",
  "[,]",
  "[1 2]",
  "{,}",
  '{"a"}',
  '{"a":}',
  '{"a":1,}',
  '{"a":1 "b":2}',
  "{1:2}",
  "{a:1}",
  '{"a":1]',
  "[1}",
  "01",
  "-",
  "-a",
  "+1",
  "1.",
  ".1",
  "1e",
  "1e+",
  "0x1",
  "1_000",
  "NaN",
  "Infinity",
  "-Infinity",
  "nul",
  "True",
  "truefalse",
  "'a'",
  '"a',
  '"\\',
  '"\\u',
  '"\\u12',
  '"\\x41"',
  '"\\u00zz"',
  '"\t"',
  '"\n"',
  '"\u0000"',
  "[] []",
  "{}x",
  "// comment\n1",
  "/**/1",
  "undefined",
  "[1]\u0000",
  "\u00a01",
  "\uFEFF\uFEFF1",
];

/** Ways to cut `length` bytes: whole, by every small step, in two at a random place. */
function chunksOf(length: number): number[] {
  return [Math.max(length, 1), 1, 2, 3, 7, 16, 17, 64].filter((chunk) => chunk <= Math.max(length, 1));
}

function check(bytes: Uint8Array, note = ""): boolean {
  const expected = expectedValue(bytes);
  const whole = scanner.scan(bytes);
  expect(whole.code === 0, `${note} ${whole.lines.at(-1)}: ${Buffer.from(bytes).toString("latin1")}`).toBe(
    expected !== undefined,
  );
  if (expected !== undefined) expect(valueOfEvents(whole.lines), note).toEqual(expected.value);
  for (const chunk of chunksOf(bytes.length)) {
    expect(scanner.scan(bytes, { chunk }).lines, `${note} chunks of ${chunk}`).toEqual(whole.lines);
  }
  return expected !== undefined;
}

describe("corpus", () => {
  for (const text of VALID) {
    it(`accepts ${text.slice(0, 60)}`, () => expect(check(Buffer.from(text))).toBe(true));
  }
  for (const text of INVALID) {
    it(`refuses ${JSON.stringify(text)}`, () => expect(check(Buffer.from(text))).toBe(false));
  }
});

/** A random value; `size` bounds what may still be put into it. */
function randomValue(next: () => number, size: number): unknown {
  const pick = Math.floor(next() * (size > 1 ? 9 : 6));
  if (pick === 0) return null;
  if (pick === 1) return next() < 0.5;
  if (pick === 2) return Math.floor(next() * 10 ** Math.floor(next() * 12));
  if (pick === 3) return (next() - 0.5) * 10 ** Math.floor(next() * 40 - 20);
  if (pick <= 5) return randomText(next);
  const count = Math.floor(next() * 6);
  const members = Array.from({ length: count }, () => randomValue(next, size / 2));
  if (pick === 6) return members;
  if (pick === 7) return Array.from({ length: count * 5 }, () => Math.floor(next() * 128_256));
  return Object.fromEntries(members.map((member) => [randomText(next), member]));
}

const ALPHABET = [
  "a",
  "b",
  " ",
  "é",
  "ß",
  "€",
  "漢",
  "字",
  "😀",
  '"',
  "\\",
  "\n",
  "\t",
  "/",
  "\u0001",
  "\ud800",
  "\udfff",
];

function randomText(next: () => number): string {
  const length = Math.floor(next() ** 3 * 120);
  const favourite = ALPHABET[Math.floor(next() * ALPHABET.length)]!;
  return Array.from({ length }, () =>
    next() < 0.5 ? favourite : ALPHABET[Math.floor(next() * ALPHABET.length)],
  ).join("");
}

function randomJson(next: () => number): Buffer {
  const text = JSON.stringify(randomValue(next, 64), null, next() < 0.3 ? Math.floor(next() * 20) : 0);
  const escaped = next() < 0.2;
  return Buffer.from(
    escaped ? text.replace(/[^ -~\n]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`) : text,
  );
}

const TELLING = Buffer.from('{}[]",:\\0123456789.eE+-u\n\t \u0000tfnas\u007f', "latin1");

function mutate(bytes: Buffer, next: () => number): Buffer {
  const at = Math.floor(next() * (bytes.length + 1));
  const kind = Math.floor(next() * 5);
  const byte = next() < 0.7 ? TELLING[Math.floor(next() * TELLING.length)]! : Math.floor(next() * 256);
  if (kind === 0) return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
  if (kind === 1) return Buffer.concat([bytes.subarray(0, at), Buffer.from([byte]), bytes.subarray(at)]);
  if (kind === 2) return bytes.subarray(0, at);
  if (kind === 3)
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(Math.floor(next() * bytes.length))]);
  const copy = Buffer.from(bytes);
  if (at < copy.length) copy[at] = byte;
  return copy;
}

describe("random", () => {
  it("agrees with JSON.parse on random texts, in any chunking", () => {
    const { seed, next } = random();
    for (let round = 0; round < RANDOM_TEXTS; round++) {
      expect(check(randomJson(next), `TEST_SEED=${seed} round ${round}`)).toBe(true);
    }
  });

  it("agrees with JSON.parse on mutated texts, and finds the fault where it stands", () => {
    const { seed, next } = random();
    let refused = 0;
    for (let round = 0; round < MUTATIONS; round++) {
      let bytes = randomJson(next).subarray(0, 600);
      for (let count = Math.floor(next() * 3); count >= 0; count--) bytes = mutate(bytes, next);
      const note = `TEST_SEED=${seed} round ${round}`;
      if (check(bytes, note)) continue;
      refused++;
      // Up to the fault the text could still have become JSON; with the byte at it, no more.
      const { offset, lines } = scanner.scan(bytes);
      if (lines.at(-1)!.startsWith("error unexpected-end")) {
        expect(offset, note).toBe(bytes.length);
        continue;
      }
      const before = scanner.scan(bytes.subarray(0, offset)).lines.at(-1)!;
      expect(before === "end" || before === `error unexpected-end at ${offset}`, `${note}: ${before}`).toBe(
        true,
      );
      expect(scanner.scan(bytes.subarray(0, offset + 1)).offset, note).toBe(offset);
    }
    expect(refused).toBeGreaterThan(MUTATIONS / 4);
  });

  it("gives the same events for cuts at random places", () => {
    const { seed, next } = random();
    for (let round = 0; round < RANDOM_TEXTS; round++) {
      const bytes = randomJson(next);
      const whole = scanner.scan(bytes).lines;
      const cuts = Array.from({ length: 5 }, () => Math.floor(next() * (bytes.length + 1))).sort(
        (a, b) => a - b,
      );
      expect(scanner.scanParts(bytes, cuts).lines, `TEST_SEED=${seed} round ${round} cuts ${cuts}`).toEqual(
        whole,
      );
    }
  });
});

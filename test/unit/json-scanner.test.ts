// The JSON scanner against its Markdown cases, at every chunk size.
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { JsonScanner } from "./support/json-scanner.ts";
import { type Block, readCases } from "./support/markdown-cases.ts";

const FOLDER = fileURLToPath(new URL("../fixtures/json", import.meta.url));
const DEPTH_MAX = 64;
const SCANNER_BYTES_MAX = 256;

let scanner: JsonScanner;
beforeAll(async () => {
  scanner = await JsonScanner.start();
});

const bytesOf = (text: string): Buffer => Buffer.from(text);

/** Bytes of an input block. */
function inputOf({ kind, text }: Block): Buffer {
  if (kind === "json") return Buffer.from(text);
  const plain = text.replace(/\\(n|r|t|\\|x[0-9a-f]{2})/g, (_, escape: string) => {
    const short = { n: "\n", r: "\r", t: "\t", "\\": "\\" }[escape];
    return short ?? String.fromCharCode(Number.parseInt(escape.slice(1), 16));
  });
  return Buffer.from(plain, "latin1");
}

describe("cases", () => {
  const cases = readCases(FOLDER);
  it("finds them", () => expect(cases.length).toBeGreaterThan(90));

  for (const { name, blocks } of cases) {
    it(name, () => {
      const input = blocks.find(({ kind }) => kind === "json" || kind === "bytes")!;
      const bytes = inputOf(input);
      const integers = input.options.includes("integers");
      const expected = blocks.find(({ kind }) => kind === "events")!.text.split("\n");
      for (let chunk = Math.max(bytes.length, 1); chunk > 0; chunk--) {
        expect(scanner.scan(bytes, { chunk, integers }).lines, `chunks of ${chunk}`).toEqual(expected);
      }
    });
  }
});

describe("limits", () => {
  const nested = (depth: number): Buffer => bytesOf("[".repeat(depth) + "]".repeat(depth));

  it(`takes ${DEPTH_MAX} levels and refuses one more where it opens`, () => {
    expect(scanner.scan(nested(DEPTH_MAX)).code).toBe(0);
    expect(scanner.scan(nested(DEPTH_MAX + 1)).lines.at(-1)).toBe(`error too-deep at ${DEPTH_MAX}`);
  });

  it("remembers the kind of all 64 levels", () => {
    const open = Array.from({ length: DEPTH_MAX }, (_, level) => (level % 2 === 0 ? "[" : '{"k":')).join("");
    const close = Array.from({ length: DEPTH_MAX }, (_, level) => (level % 2 === 0 ? "}" : "]")).join("");
    expect(scanner.scan(bytesOf(`${open}1${close}`)).code).toBe(0);
    const wrong = `${open}1${close.slice(0, -1)}}`;
    expect(scanner.scan(bytesOf(wrong)).lines.at(-1)).toBe(`error expected-comma at ${wrong.length - 1}`);
  });

  it("has a record of the promised size", () => {
    expect(scanner.exports.stateBytes()).toBeLessThanOrEqual(SCANNER_BYTES_MAX);
  });

  it("hands on strings longer than its buffer, escaped and not", () => {
    const text = `${"plain text, é and € ".repeat(900)}\n"quoted"\n${"x\n".repeat(20_000)}${"y".repeat(20_000)}`;
    const bytes = bytesOf(JSON.stringify({ text }));
    const expected = ["{", 'key "text"', `string ${JSON.stringify(text)}`, "}", "end"];
    for (const chunk of [bytes.length, 65_536, 8192, 4096, 1000, 61, 16]) {
      expect(scanner.scan(bytes, { chunk }).lines).toEqual(expected);
    }
  });

  it("batches more integers than one call carries", () => {
    const ids = Array.from({ length: 5000 }, (_, index) => (index * 2654435761) % 200_000);
    const bytes = bytesOf(JSON.stringify(ids));
    const expected = ["[", `integers ${ids.join(" ")}`, "]", "end"];
    for (const chunk of [bytes.length, 4096, 100, 7]) {
      expect(scanner.scan(bytes, { chunk, integers: true }).lines).toEqual(expected);
    }
  });

  it("counts offsets beyond the first chunk", () => {
    const bytes = bytesOf(`${" ".repeat(300_000)}{"a":tru}`);
    for (const chunk of [bytes.length, 100_000, 4096]) {
      expect(scanner.scan(bytes, { chunk }).lines.at(-1)).toBe("error bad-literal at 300008");
    }
  });
});

describe("a scanner that failed", () => {
  it("keeps its fault whatever comes", () => {
    scanner.put(bytesOf("[1 2]   [1]"));
    scanner.exports.reset(0, 0xffffffff);
    const code = scanner.exports.feed(0, 5, 5);
    expect(code).not.toBe(0);
    expect(scanner.exports.feed(8, 3, 3)).toBe(code);
    expect(scanner.exports.end()).toBe(code);
    expect(scanner.exports.errorOffset()).toBe(3);
  });

  it("gives no event after the sink asked to stop, at any event", () => {
    const bytes = bytesOf('{"a":["x\\n",1,true,false,null,{"b":[]}],"c":"y"}');
    const all = scanner.scan(bytes).lines.slice(0, -1);
    for (let stopAfter = 1; stopAfter <= all.length; stopAfter++) {
      for (const chunk of [bytes.length, 1]) {
        const result = scanner.scan(bytes, { chunk, stopAfter });
        expect(result.lines.at(-1)).toMatch(/^error stopped at \d+$/);
      }
      const whole = scanner.scan(bytes, { stopAfter });
      expect(whole.lines.slice(0, -1)).toEqual(all.slice(0, stopAfter));
      expect(whole.offset).toBeLessThanOrEqual(bytes.length);
    }
  });
});

describe("progress", () => {
  it("says when the value is complete, and how deep it is", () => {
    const text = '{"a":[1]} ';
    const seen: [number, number][] = [];
    scanner.put(bytesOf(text));
    scanner.exports.reset(0, 0xffffffff);
    for (let at = 0; at < text.length; at++) {
      scanner.exports.feed(at, 1, 1);
      seen.push([scanner.exports.depth(), scanner.exports.done()]);
    }
    expect(seen.map(([depth]) => depth)).toEqual([1, 1, 1, 1, 1, 2, 2, 1, 0, 0]);
    expect(seen.map(([, done]) => done)).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
  });

  it("is not complete inside a bare number, which might go on", () => {
    scanner.put(bytesOf("12"));
    scanner.exports.reset(0, 0xffffffff);
    scanner.exports.feed(0, 2, 2);
    expect(scanner.exports.done()).toBe(0);
    expect(scanner.exports.end()).toBe(0);
    expect(scanner.exports.done()).toBe(1);
  });
});

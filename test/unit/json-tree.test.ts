// Documents as trees of nodes, against JSON.parse, and their limits.
import { beforeAll, describe, expect, it } from "vitest";
import { ERROR_NAMES, JsonScanner } from "./support/json-scanner.ts";

const BYTES_MAX = 65_536;
const NODES_MAX = 4096;
const TOO_LONG = 64;
const TOO_MANY_NODES = 65;
const NO_NODE = -1;

let scanner: JsonScanner;
beforeAll(async () => {
  scanner = await JsonScanner.start();
});

function parse(text: string): number {
  const bytes = Buffer.from(text);
  scanner.put(bytes);
  const status = scanner.exports.treeParse(scanner.exports.inputPtr(), bytes.length);
  expect(scanner.exports.treeErrorCode()).toBe(status);
  // The tree must not look at the text again.
  scanner.put(Buffer.alloc(bytes.length, 0x78));
  return status;
}

const textAt = (ptr: number, bytes: number) =>
  Buffer.from(scanner.exports.memory.buffer, ptr, bytes).toString();

function children(node: number): number[] {
  const { exports } = scanner;
  const list: number[] = [];
  for (let child = exports.treeFirst(node); child !== NO_NODE; child = exports.treeNext(child))
    list.push(child);
  expect(exports.treeCount(node)).toBe(list.length);
  return list;
}

function valueOf(node: number): unknown {
  const { exports } = scanner;
  const kind = exports.treeKind(node);
  const text = textAt(exports.treeTextPtr(node), exports.treeTextLen(node));
  switch (kind) {
    case 1:
      return Object.fromEntries(
        children(node).map((child) => [
          textAt(exports.treeKeyPtr(child), exports.treeKeyLen(child)),
          valueOf(child),
        ]),
      );
    case 2:
      return children(node).map(valueOf);
    case 3:
      return text;
    case 4:
      expect(exports.treeNumber(node)).toBe(Number(text));
      return Number(text);
    case 5:
      return true;
    case 6:
      return false;
    case 7:
      return null;
    default:
      return undefined;
  }
}

describe("documents", () => {
  const DOCUMENTS = [
    "1",
    '"x"',
    "null",
    "true",
    "[]",
    "{}",
    '[[],{},[{}],"",0,false]',
    '{"kind":"EndpointPickerConfig","plugins":[{"type":"queue-scorer"},{"type":"x","parameters":{"a":[1,2.5,-3e2]}}]}',
    ' { "a" : [ 1 , "two\\n\\u00e9\\ud83d\\ude00" , { "b" : null } ] } ',
  ];
  for (const text of DOCUMENTS) {
    it(text.slice(0, 50), () => {
      expect(parse(text)).toBe(0);
      expect(valueOf(scanner.exports.treeRoot())).toEqual(JSON.parse(text));
    });
  }

  it("nothing of an earlier document is left", () => {
    parse('{"a":[1,2,3]}');
    expect(parse("[1")).not.toBe(0);
    expect(scanner.exports.treeRoot()).toBe(NO_NODE);
    parse("2");
    expect(valueOf(0)).toBe(2);
    expect(scanner.exports.treeErrorOffset()).toBe(0);
  });

  it("no node answers for none", () => {
    const { exports } = scanner;
    expect([exports.treeKind(NO_NODE), exports.treeFirst(NO_NODE), exports.treeNext(NO_NODE)]).toEqual([
      0, -1, -1,
    ]);
    expect([exports.treeCount(NO_NODE), exports.treeKeyLen(NO_NODE), exports.treeTextLen(NO_NODE)]).toEqual([
      0, 0, 0,
    ]);
    expect(exports.treeNumber(NO_NODE)).toBeNaN();
  });
});

describe("duplicate names", () => {
  it("the last one counts, in its own place, and it is told", () => {
    const text = '{"a":1,"b":2,"a":{"c":3,"c":4},"b":5,"a":6}';
    expect(parse(text)).toBe(0);
    expect(valueOf(0)).toEqual(JSON.parse(text));
    expect(scanner.exports.treeDuplicateCount()).toBe(4);
    const node = scanner.exports.treeDuplicateNode();
    expect(textAt(scanner.exports.treeKeyPtr(node), scanner.exports.treeKeyLen(node))).toBe("a");
    expect(valueOf(node)).toBe(6);
  });

  it("the same name written otherwise is the same", () => {
    expect(parse('{"a\\u0062":1,"ab":2}')).toBe(0);
    expect(valueOf(0)).toEqual({ ab: 2 });
  });

  it("there is none where names are in different objects", () => {
    parse('{"a":{"a":1},"b":[{"a":1},{"a":1}]}');
    expect(scanner.exports.treeDuplicateCount()).toBe(0);
    expect(scanner.exports.treeDuplicateNode()).toBe(NO_NODE);
  });
});

describe("faults and limits", () => {
  it("name the code and the offset", () => {
    expect(ERROR_NAMES[parse('{"a":[1,}')]).toBe("expected-value");
    expect(scanner.exports.treeErrorOffset()).toBe(8);
    expect(ERROR_NAMES[parse("")]).toBe("unexpected-end");
  });

  it(`takes ${BYTES_MAX} bytes and refuses one more`, () => {
    expect(parse(`"${"x".repeat(BYTES_MAX - 2)}"`)).toBe(0);
    expect(scanner.exports.treeTextLen(0)).toBe(BYTES_MAX - 2);
    expect(parse(`"${"x".repeat(BYTES_MAX - 1)}"`)).toBe(TOO_LONG);
    expect(scanner.exports.treeRoot()).toBe(NO_NODE);
  });

  it(`takes ${NODES_MAX} values and refuses one more where it stands`, () => {
    const list = (count: number) => JSON.stringify(Array.from({ length: count }, () => 1));
    expect(parse(list(NODES_MAX - 1))).toBe(0);
    expect(scanner.exports.treeCount(0)).toBe(NODES_MAX - 1);
    expect(parse(list(NODES_MAX))).toBe(TOO_MANY_NODES);
    expect(scanner.exports.treeErrorOffset()).toBe(list(NODES_MAX).length - 1);
  });

  it("a large object of different names is read in full", () => {
    const value = Object.fromEntries(Array.from({ length: 4000 }, (_, index) => [`k${index}`, index]));
    expect(parse(JSON.stringify(value))).toBe(0);
    expect(valueOf(0)).toEqual(value);
  });

  it("numbers of any form have their value", () => {
    for (const number of [
      "0",
      "-0",
      "1e3",
      "-1.25",
      "123456789012345",
      "1e-7",
      "0.1",
      "2.5e+2",
      "1e22",
      "1e23",
    ]) {
      parse(number);
      expect(scanner.exports.treeNumber(0)).toBe(Number(number));
    }
    parse(`1${"0".repeat(64)}`);
    expect(scanner.exports.treeNumber(0)).toBeNaN();
  });
});

// Numbers and lookups of configuration documents, in the module itself.
import {
  KIND_NONE,
  KIND_OBJECT,
  NO_NODE,
  treeFind,
  treeFirst,
  treeKeyIs,
  treeKind,
  treeNumber,
  treeParse,
  treeRoot,
  treeTextIs,
} from "../../assembly/json/tree";
import { parseNumber } from "../../assembly/json/parse-number";

const buffer: usize = memory.data(256, 8);

function put(text: string): u32 {
  for (let i = 0; i < text.length; i++) store<u8>(buffer + i, <u8>text.charCodeAt(i));
  return <u32>text.length;
}

function number(text: string): f64 {
  return parseNumber(buffer, put(text));
}

describe("parseNumber", () => {
  it("is exact for what fits 15 digits and a power of ten of 22", () => {
    expect(number("0")).toBe(0);
    expect(number("-1")).toBe(-1);
    expect(number("0.1")).toBe(0.1);
    expect(number("123456789012345")).toBe(123456789012345);
    expect(number("-2.5e-3")).toBe(-0.0025);
    expect(number("1e22")).toBe(1e22);
    expect(number("1E+2")).toBe(100);
    expect(number("100e-2")).toBe(1);
  });

  it("keeps the sign of zero", () => {
    expect(1.0 / number("-0")).toBe(-Infinity);
    expect(1.0 / number("0.0")).toBe(Infinity);
  });

  it("reaches infinity and zero and stays there", () => {
    expect(number("1e309")).toBe(Infinity);
    expect(number("-1e99999999999")).toBe(-Infinity);
    expect(number("1e-400")).toBe(0);
    expect(number("0e99999999999")).toBe(0);
  });

  it("is within a few units in the last place beyond that", () => {
    const expected: f64 = 1.7976931348623157e308;
    expect(Math.abs(number("1.7976931348623157e308") / expected - 1)).toBeLessThan(1e-14);
    expect(Math.abs(number("12345678901234567890123") / 12345678901234567890123.0 - 1)).toBeLessThan(1e-15);
    expect(Math.abs(number("0.00000000000000000000000000012345") / 1.2345e-28 - 1)).toBeLessThan(1e-15);
  });

  it("is NaN without text", () => {
    const value = parseNumber(buffer, 0);
    expect(value == value).toBe(false);
  });
});

describe("lookups", () => {
  it("find members by their whole name, in the object asked only", () => {
    expect(treeParse(buffer, put('{"a":1,"ab":{"a":2},"b":"text"}'))).toBe(0);
    const root = treeRoot();
    expect(treeNumber(treeFind(root, "a"))).toBe(1);
    expect(treeNumber(treeFind(treeFind(root, "ab"), "a"))).toBe(2);
    expect(treeFind(root, "abc")).toBe(NO_NODE);
    expect(treeFind(root, "")).toBe(NO_NODE);
  });

  it("answer for what is no object, and for no node", () => {
    treeParse(buffer, put('["a"]'));
    expect(treeFind(treeRoot(), "a")).toBe(NO_NODE);
    expect(treeFind(NO_NODE, "a")).toBe(NO_NODE);
    expect(treeKind(NO_NODE)).toBe(KIND_NONE);
    expect(treeKeyIs(NO_NODE, "")).toBe(false);
    expect(treeTextIs(NO_NODE, "")).toBe(false);
  });

  it("compare texts and names with literals", () => {
    treeParse(buffer, put('{"k":"v"}'));
    const node = treeFirst(treeRoot());
    expect(treeKind(treeRoot())).toBe(KIND_OBJECT);
    expect(treeKeyIs(node, "k")).toBe(true);
    expect(treeKeyIs(node, "kk")).toBe(false);
    expect(treeTextIs(node, "v")).toBe(true);
    expect(treeTextIs(node, "w")).toBe(false);
    expect(treeTextIs(treeRoot(), "")).toBe(false);
  });
});

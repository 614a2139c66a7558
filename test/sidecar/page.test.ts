// Finding single metrics on a Prometheus page and reading their lines.
import { describe, expect, it } from "vitest";
import { labelValue, MetricLocator } from "../../sidecar/scrape/page.ts";
import { SERIES_MAX } from "../../sidecar/limits.ts";
import { VLLM_032 } from "./pages.ts";
import { between, withSeeds } from "./seeds.ts";

function valuesOf(page: string | Buffer, name: string, locator = new MetricLocator(name)): number[] {
  const values: number[] = [];
  locator.read(Buffer.from(page), (line) => values.push(line.value));
  return values;
}

function labelOf(page: string, name: string, label: string): string | null {
  let found: string | null = null;
  new MetricLocator(name).read(Buffer.from(page), (line, bytes) => {
    found = labelValue(bytes, line, label);
  });
  return found;
}

/** The same by parsing the whole page line by line: slow and plain. */
function plainValues(page: string, name: string): number[] {
  return page
    .split("\n")
    .filter((line) => line.startsWith(name) && /^[{ \t]/.test(line.slice(name.length)))
    .map((line) => Number(/(?:\{.*\})?\s*(\S+)/.exec(line.slice(name.length))![1]))
    .filter((value) => Number.isFinite(value));
}

describe("finding a metric", () => {
  it.each([
    ["m 1\n", [1]],
    ["m{} 1\n", [1]],
    ["m 1", [1]],
    ["# HELP m m 5\n# TYPE m gauge\nm 2\n", [2]],
    ['m{a="1"} 1\nm{a="2"} 2\n', [1, 2]],
    ["m_total 9\nm 1\n", [1]],
    ["xm 9\nm 1\n", [1]],
    ['m\t{a="b"}\t1.5e+02 1700000000000\n', [150]],
    ["m 1\r\nn 2\n", [1]],
    ['m{a="}"} 3\n', [3]],
    ['m{a="\\"}\\\\"} 4\n', [4]],
    ["m NaN\n", []],
    ["m +Inf\nm 1\n", [1]],
    ["m\n", []],
    ["m \n", []],
    ['m{a="b\n', []],
    ['m{a="b"}\n', []],
    ["m nonsense\n", []],
    ['m_sum 9\nm_count{a="1"} 1\nm_sum 9\nm_count{a="2"} 2\nn 1\n', []],
    ["", []],
    ["mm 1\n", []],
  ])("reads %j as %j", (page, expected) => {
    expect(valuesOf(page, "m")).toEqual(expected);
  });

  it("skips other lines of the family, and stops at the next family", () => {
    const page =
      'c_total{a="1"} 1\nc_created{a="1"} 9\nc_total{a="2"} 2\nc_created{a="2"} 9\nd 1\nc_total 5\n';
    expect(valuesOf(page, "c_total")).toEqual([1, 2]);
  });

  it("agrees with a plain parse for every metric of a real page", () => {
    const page = VLLM_032.toString();
    const names = new Set(
      page
        .split("\n")
        .filter((line) => line !== "" && !line.startsWith("#"))
        .map((line) => /^[^{ ]+/.exec(line)![0]),
    );
    expect(names.size).toBeGreaterThan(100);
    for (const name of names) expect(valuesOf(page, name), name).toEqual(plainValues(page, name));
  });

  it("finds the first line again, however the page grew, shrank or lost lines since", () => {
    const page = VLLM_032.toString();
    const lines = page.split("\n");
    withSeeds(200, (random) => {
      const locator = new MetricLocator("vllm:request_success_total");
      expect(valuesOf(page, "", locator)).toHaveLength(5);
      const cut = between(random, 0, lines.length - 1);
      const removed = between(random, 0, 60);
      const added = Array.from({ length: between(random, 0, 40) }, (_, index) => `extra_${index} ${index}`);
      // Before a family: the lines of one stand together.
      const place = lines.findLastIndex((line, index) => index <= cut && line.startsWith("# HELP "));
      const changed = [
        ...lines.slice(0, Math.max(0, place)),
        ...added,
        ...lines.slice(Math.max(0, place), cut),
        ...lines.slice(cut + removed),
      ].join("\n");
      expect(valuesOf(changed, "", locator)).toEqual(plainValues(changed, "vllm:request_success_total"));
    });
  });

  it("goes back to the first of many lines when the page shrank by less than the metric is long", () => {
    const group = Array.from({ length: 40 }, (_, index) => `m{i="${index}"} ${index}`).join("\n");
    const locator = new MetricLocator("m");
    expect(valuesOf(`${"x 1\n".repeat(400)}${group}\n`, "m", locator)).toHaveLength(40);
    expect(valuesOf(`${"x 1\n".repeat(150)}${group}\n`, "m", locator)).toHaveLength(40);
  });

  it("stops at the limit of lines", () => {
    const page = Array.from({ length: SERIES_MAX + 10 }, (_, index) => `m{i="${index}"} 1`).join("\n");
    expect(valuesOf(page, "m")).toHaveLength(SERIES_MAX);
  });

  it("reads any bytes without failing", () => {
    withSeeds(200, (random) => {
      const alphabet = 'm{}"=,\\ \n1e+.N#a';
      const page = Array.from({ length: 300 }, () => alphabet[between(random, 0, alphabet.length - 1)]).join(
        "",
      );
      for (const value of valuesOf(page, "m")) expect(Number.isFinite(value)).toBe(true);
    });
  });
});

describe("reading a label", () => {
  const line = 'm{a="1", b="x,y",c="q\\"r\\\\s\\nt",d="",é="ü"} 1\n';
  it.each([
    ["a", "1"],
    ["b", "x,y"],
    ["c", 'q"r\\s\nt'],
    ["d", ""],
    ["e", null],
    ["", null],
  ])("label %j is %j", (label, expected) => {
    expect(labelOf(line, "m", label)).toBe(expected);
  });

  it("takes UTF-8 values, and has none on a line without labels", () => {
    expect(labelOf('m{n="模型"} 1\n', "m", "n")).toBe("模型");
    expect(labelOf("m 1\n", "m", "n")).toBe(null);
  });
});

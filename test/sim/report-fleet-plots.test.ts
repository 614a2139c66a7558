// The plots of fleet runs: well-formed SVG that says what it shows.
import { describe, expect, it } from "vitest";
import { plotFiles, type RecordedRun } from "../../host-sim/fleet/report/index.ts";
import { loadStretches } from "../../host-sim/fleet/report/plots/load-map.ts";
import { lineStyles, PLOT_POLICIES_MAX } from "../../host-sim/fleet/report/plots/style.ts";
import { cdfPoints } from "../../host-sim/fleet/report/plots/ttft-cdf.ts";
import type { LoadSample } from "../../host-sim/fleet/types.ts";
import { failedRecord, fleetSummary, loadSample, requestRecord, runRecord } from "./support/fleet-records.ts";
import { svgTexts } from "./support/svg.ts";

const SLO = { ttftMs: 4000, tpotMs: 50 };
const REQUESTS = [0, 1, 2, 3].map((index) => requestRecord(index));
const SAMPLES = [0, 1000, 2000].flatMap((atMs) => [loadSample(atMs, 0, 0, 3), loadSample(atMs, 1, 2, 9)]);

function run(policy: string, rate: number): RecordedRun {
  return {
    rate,
    summary: { ...fleetSummary(policy), workload: "chats/a & b" },
    record: runRecord(REQUESTS, { policy, samples: SAMPLES }),
  };
}

describe("plotFiles", () => {
  const runs = [run("epp", 1), run("round<robin", 1), run("epp", 2.5), run("round<robin", 2.5)];

  it("draws every rate, and the rates together", async () => {
    const files = await plotFiles(runs, "1 gateway", SLO);
    expect(files.map(({ name }) => name)).toEqual([
      "ttft-chats-a-b-1.svg",
      "load-chats-a-b-1.svg",
      "ttft-chats-a-b-2.5.svg",
      "load-chats-a-b-2.5.svg",
      "rates-chats-a-b.svg",
    ]);
    const texts = files.map(({ svg }) => svgTexts(svg));
    for (const each of texts) expect(each).toEqual(expect.arrayContaining(["epp", "round<robin"]));
    expect(texts[0]).toEqual(
      expect.arrayContaining([
        "chats/a & b × 1, 2 replicas, 1 gateway",
        "time to first token, s (log)",
        "share of requests, %",
        "SLO 4 s",
      ]),
    );
    expect(texts[3]).toEqual(
      expect.arrayContaining([
        "chats/a & b × 2.5, 2 replicas, 1 gateway",
        "2 replicas",
        "time, s",
        "1",
        "2–3",
        "8–15",
      ]),
    );
    expect(texts[3]).not.toContain("16–31");
    expect(texts[4]).toEqual(
      expect.arrayContaining([
        "chats/a & b, 2 replicas, 1 gateway",
        "Goodput",
        "requests/s in both SLOs",
        "Share of requests in both SLOs",
        "90 %",
        "Mean TTFT",
        "s (log)",
        "rate, ×",
        "By request rate, as a multiple of the workload's own. SLOs: TTFT 4 s, TPOT 50 ms; a request's own comes first",
      ]),
    );
  });

  it("has nothing to draw over rates for a single one", async () => {
    const files = await plotFiles([run("epp", 1)], "1 gateway", SLO);
    expect(files.map(({ name }) => name)).toEqual(["ttft-chats-a-b-1.svg", "load-chats-a-b-1.svg"]);
  });

  it("draws a run in which no request got a token", async () => {
    const record = runRecord([failedRecord(0, "refused")], { policy: "epp" });
    const files = await plotFiles([{ ...run("epp", 1), record }], "1 gateway", SLO);
    for (const { svg } of files) expect(svgTexts(svg)).toContain("chats/a & b × 1, 2 replicas, 1 gateway");
  });
});

describe("lineStyles", () => {
  it("tells as many policies apart as it takes, and refuses more", () => {
    const policies = Array.from({ length: PLOT_POLICIES_MAX }, (_, index) => `p${index}`);
    const styles = [...lineStyles(policies).values()].map(({ color, type }) => `${color} ${type.toString()}`);
    expect(new Set(styles).size).toBe(PLOT_POLICIES_MAX);
    expect(() => lineStyles([...policies, "one more"])).toThrow(
      new RangeError(`${PLOT_POLICIES_MAX + 1} policies in one plot, expected at most ${PLOT_POLICIES_MAX}`),
    );
  });

  it("draws our own policy thicker, and in the same colour in every plot", () => {
    expect(lineStyles(["a", "b", "epp"]).get("epp")).toEqual(lineStyles(["epp"]).get("epp"));
    const styles = lineStyles(["a", "epp"]);
    expect(styles.get("epp")!.width).toBeGreaterThan(styles.get("a")!.width);
  });
});

describe("cdfPoints", () => {
  it("has every request at its rank, those without a token below 100 %", () => {
    expect(cdfPoints([...REQUESTS.slice(0, 3), failedRecord(3, "died")])).toEqual([
      [0.1, 25],
      [0.2, 50],
      [0.3, 75],
    ]);
  });

  it("thins out many requests and keeps the ends", () => {
    const many = Array.from({ length: 5000 }, (_, i) => requestRecord(0, { firstTokenMs: i + 1 }));
    const points = cdfPoints(many);
    expect(points).toHaveLength(400);
    expect(points[0]).toEqual([0.001, 0.02]);
    expect(points.at(-1)).toEqual([5, 100]);
  });
});

describe("loadStretches", () => {
  const at = (atMs: number, load: number): LoadSample => loadSample(atMs, 0, load, 0);

  it("joins equal classes, leaves out idle time and time without samples", () => {
    const samples = [0, 5, 7, 4, 0, 0, 300, 300].map((load, index) => at(index * 1000, load));
    const absent = [loadSample(0, 1, 1, 0), loadSample(7000, 1, 1, 1)];
    expect(loadStretches([...samples, ...absent], 8000)).toEqual([
      { replica: 0, fromMs: 1000, toMs: 4000, level: 2 },
      { replica: 0, fromMs: 6000, toMs: 8000, level: 8 },
      { replica: 1, fromMs: 0, toMs: 1000, level: 0 },
      { replica: 1, fromMs: 7000, toMs: 8000, level: 1 },
    ]);
  });

  it("averages what falls into one column of a long run", () => {
    const samples = Array.from({ length: 480 }, (_, index) => at(index * 1000, index % 2 === 0 ? 0 : 16));
    expect(loadStretches(samples, 480_000)).toEqual([{ replica: 0, fromMs: 0, toMs: 480_000, level: 3 }]);
  });
});

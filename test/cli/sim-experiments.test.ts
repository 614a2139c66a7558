// `npm run sim -- --find-rate` and `--targets`: what is run, printed and written.
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { experimentOf, type Outcome, type RunJob } from "../../cli/sim/experiments.ts";
import { simCommand, type SimFlags } from "../../cli/sim/flags.ts";
import { pdPolicyNames, policyNames, type SimJob, workloadNames } from "../../cli/sim/job.ts";
import { writeOutcome } from "../../cli/sim/output.ts";
import { fleetModel } from "../sim/support/fleet-model.ts";

const POLICIES = "epp,round-robin,llm-d,lmetric,oracle";
/** As many times the workload's rate as the policies stand in the stand-in for a run. */
const CAPACITIES = Object.fromEntries(
  [...policyNames(), ...pdPolicyNames()].map((policy) => [policy, policy === "epp" ? 4 : 2]),
);

function flagsOf(...args: readonly string[]): SimFlags {
  const command = simCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  return command.parse([...args], { from: "user" }).opts<SimFlags>();
}

async function carryOut(...args: readonly string[]): Promise<{ outcome: Outcome; jobs: SimJob[] }> {
  const flags = flagsOf(...args);
  const jobs: SimJob[] = [];
  const model = fleetModel(CAPACITIES);
  const run: RunJob = (job) => {
    jobs.push(job);
    const { source, policy, rate, gateways, scrapeMs } = job;
    const workload = source.kind === "trace" ? source.path : source.name;
    return model.run({ workload, policy, rate, gateways, scrapeMs });
  };
  return { outcome: await experimentOf(flags)!(flags, "epp.wasm", run), jobs };
}

describe("--find-rate", () => {
  it("finds a rate for every policy on every workload", async () => {
    const { outcome, jobs } = await carryOut(
      ...["--find-rate", "0.75", "--workload", "chats,rag", "--policy", "round-robin,epp"],
      ...["--gateways", "4", "--scrape-ms", "500", "--seed", "7"],
    );
    const lines = outcome.text.split("\n");
    expect(lines[0]).toBe("### chats: highest rate with 75.0 % in both SLOs");
    expect(lines).toContain("### rag: highest rate with 75.0 % in both SLOs");
    // The stand-in keeps 75 % at 1.5 times the capacity.
    expect(lines[4]).toMatch(/^\| round-robin \| 2\.972 \| 29\.72 \| 75\.7 % \| 75\.7 % \|/);
    expect(lines[5]).toMatch(/^\| epp \| 5\.943 \| 59\.43 \| 75\.7 % \| 75\.7 % \|/);
    expect(outcome.runs).toHaveLength(jobs.length);
    for (const job of jobs) expect(job).toMatchObject({ gateways: 4, scrapeMs: 500, seed: 7 });
    expect(jobs[0]).toMatchObject({ source: { kind: "generator", name: "chats" }, rate: 1 });
  });

  it("is about the TTFT SLO alone where it is told so", async () => {
    const { outcome } = await carryOut("--find-rate", "0.9", "--share-of", "ttft", "--policy", "epp");
    expect(outcome.text).toMatch(/^### chats: highest rate with 90\.0 % in TTFT SLO\n/);
  });

  it.each([
    [["--find-rate", "0"], "expected a number from 0.01 to 1"],
    [["--find-rate", "1.1"], "expected a number from 0.01 to 1"],
    [["--find-rate", "0.9", "--rate", "2"], "'--find-rate <share>' cannot be used with option '--rate"],
    [["--find-rate", "0.9", "--share-of", "tpot"], "expected both, ttft"],
  ])("refuses %j", (args, message) => {
    expect(() => flagsOf(...args)).toThrow(message);
  });
});

describe("--targets", () => {
  it("runs the trace and the workloads in the settings that are named", async () => {
    const { outcome, jobs } = await carryOut(
      ...["--targets", "1x50,4x500", "--trace", "a.jsonl", "--policy", POLICIES, "--workload", "chats,rag"],
    );
    expect(new Set(jobs.map(({ gateways, scrapeMs }) => `${gateways}x${scrapeMs}`))).toEqual(
      new Set(["1x50", "4x500"]),
    );
    expect(new Set(jobs.map(({ source }) => JSON.stringify(source)))).toEqual(
      new Set([
        '{"kind":"trace","path":"a.jsonl"}',
        '{"kind":"generator","name":"chats"}',
        '{"kind":"generator","name":"rag"}',
      ]),
    );
    expect(outcome.text).toContain("- trace a.jsonl, all requests\n");
    expect(outcome.text).toContain("## 4 gateways, 500 ms scrapes\n");
    expect(outcome.runs[0]).toMatchObject({
      gateways: 1,
      scrapeMs: 50,
      summary: { policy: expect.any(String) },
    });
  });

  it("takes every policy, workload and setting unless told otherwise", async () => {
    const { jobs } = await carryOut("--targets", "--trace", "a.jsonl");
    expect(new Set(jobs.map(({ gateways, scrapeMs }) => `${gateways}x${scrapeMs}`)).size).toBe(4);
    const onTrace = jobs.filter(({ source }) => source.kind === "trace");
    expect(new Set(onTrace.map(({ policy }) => policy))).toEqual(new Set(policyNames()));
    const drawn = jobs.flatMap(({ source }) => (source.kind === "generator" ? [source.name] : []));
    expect(new Set(drawn)).toEqual(new Set(workloadNames()));
  });

  it("needs a trace", async () => {
    await expect(carryOut("--targets")).rejects.toThrow(
      "--trace is undefined, expected a file, for --targets",
    );
  });

  it.each([
    [["--targets", "1"], "expected GATEWAYSxMS, e.g. 4x500"],
    [["--targets", "1x50x2"], "expected GATEWAYSxMS, e.g. 4x500"],
    [["--targets", "0x50"], "expected a whole number from 1 to"],
    [["--targets", "1x0"], "expected a number from 1 to"],
    [["--targets", "--rate", "2"], "cannot be used with option '--rate"],
    [["--targets", "--gateways", "2"], "cannot be used with option '--gateways"],
    [["--targets", "--scrape-ms", "60"], "cannot be used with option '--scrape-ms"],
    [["--targets", "--find-rate", "0.9"], "cannot be used with option"],
  ])("refuses %j", (args, message) => {
    expect(() => flagsOf(...args)).toThrow(message);
  });
});

describe("--targets-pd", () => {
  it("compares the filter's own calls over several splits and rates unless told otherwise", async () => {
    const { outcome, jobs } = await carryOut("--targets-pd", "--trace", "a.jsonl");
    expect(new Set(jobs.map(({ policy }) => policy))).toEqual(new Set(["round-robin", "epp", "epp-inline"]));
    const splits = new Set(jobs.map(({ split }) => `${split!.prefill}:${split!.decode}`));
    expect(splits).toEqual(new Set(["0:0", "2:14", "4:12", "6:10", "8:8", "10:6", "12:4", "13:3"]));
    for (const rate of [1, 1.5, 2, 2.5, 3, 3.5]) expect(jobs.some((job) => job.rate === rate)).toBe(true);
    expect(new Set(jobs.map(({ seed }) => seed))).toEqual(new Set([1, 2, 3]));
    for (const job of jobs) {
      expect(job.drawnFor).toBe(16);
      expect(job.epp.tellSlo).toBe(true);
    }
    expect(outcome.text).toContain("unless a request brings its own; the filter is told it\n");
    expect(outcome.text).toContain("- at each rate the means of 3 seeds; half a point counts as equal\n");
    expect(outcome.text).toMatch(
      /^# Targets of prefill and decode apart\n\n- trace a\.jsonl, all requests\n/,
    );
    expect(outcome.text).toContain("- 16 replicas of llama-70b-fp8-2xh100\n");
  });

  it("takes other splits, rates and another policy", async () => {
    const args = [
      "--splits",
      "1:3,2:2",
      "--rate",
      "1,2",
      "--policy",
      "priced-pd",
      "--seed",
      "7",
      "--seeds",
      "1",
    ];
    const { jobs } = await carryOut("--targets-pd", "--trace", "a.jsonl", ...args);
    expect(new Set(jobs.map(({ policy }) => policy))).toEqual(new Set(["round-robin", "epp", "priced-pd"]));
    for (const job of jobs) expect(job).toMatchObject({ drawnFor: 4, seed: 7 });
  });

  it("needs a trace, and one policy", async () => {
    await expect(carryOut("--targets-pd")).rejects.toThrow("--trace is undefined, expected a file");
    const two = ["--targets-pd", "--trace", "a.jsonl", "--policy", "priced-pd,llm-d-pd"];
    await expect(carryOut(...two)).rejects.toThrow('--policy is "priced-pd,llm-d-pd", expected one policy');
    expect(() => flagsOf("--targets-pd", "--targets")).toThrow("cannot be used with option");
  });
});

describe("--autoscale", () => {
  it("runs the scaled fleet and fixed ones on every workload, at every rate", async () => {
    const args = ["--autoscale", "1:1", "--split", "2:2", "--policy", "priced-pd", "--startup-s", "30"];
    const { outcome, jobs } = await carryOut(...args, "--workload", "shifts", "--rate", "1,2");
    const both = { prefill: 2, decode: 2, both: 0 };
    const least = { prefill: 1, decode: 1, both: 0 };
    expect(jobs.filter(({ autoscaledFrom }) => autoscaledFrom !== undefined)).toMatchObject([
      { rate: 1, split: both, autoscaledFrom: least, startupMs: 30_000, drawnFor: 4 },
      { rate: 2, split: both, autoscaledFrom: least },
    ]);
    for (const job of jobs) expect(job).toMatchObject({ drawnFor: 4, policy: "priced-pd" });
    expect(outcome.text.match(/^# Prefill and decode scaled apart: priced-pd on shifts$/gm)).toHaveLength(2);
    expect(outcome.text).toContain("- 4 replicas of llama-70b-fp8-2xh100\n");
    expect(outcome.text).toContain("a new replica takes 30 s to start\n");
    expect(outcome.runs).toHaveLength(jobs.length);
  });

  it("needs the replicas at most", async () => {
    await expect(carryOut("--autoscale", "1:1")).rejects.toThrow(
      "--split is undefined, expected the replicas at most, for --autoscale",
    );
  });

  it.each([
    [["--autoscale", "1"], "expected PREFILL:DECODE"],
    [["--autoscale", "1:1", "--splits", "2:2"], "cannot be used with option '--splits"],
    [["--autoscale", "1:1", "--targets"], "cannot be used with option '--targets"],
    [["--startup-s", "-1"], "expected a number from 0 to 3600"],
  ])("refuses %j", (args, message) => {
    expect(() => flagsOf(...args)).toThrow(message);
  });
});

describe("writeOutcome", () => {
  let folder = "";
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "sim-experiments-"));
  });
  afterEach(() => rm(folder, { recursive: true }));

  it("writes the text, and every run with its setting", async () => {
    const args = ["--find-rate", "0.9", "--policy", "epp", "--out", folder];
    const { outcome } = await carryOut(...args);
    expect(await writeOutcome(flagsOf(...args), outcome)).toBe(outcome.text);
    expect((await readdir(folder)).sort()).toEqual(["report.json", "report.md"]);
    expect(await readFile(join(folder, "report.md"), "utf8")).toBe(outcome.text);
    const document: unknown = JSON.parse(await readFile(join(folder, "report.json"), "utf8"));
    expect(document).toMatchObject({
      format: "epp-wasm/fleet-report",
      options: { findRate: 0.9, shareOf: "both" },
      runs: expect.arrayContaining([
        expect.objectContaining({ rate: 1, gateways: 1, scrapeMs: 50, summary: expect.anything() }),
      ]),
    });
  });

  it("prints the document where JSON is asked for", async () => {
    const args = ["--find-rate", "0.9", "--policy", "epp", "--json"];
    const { outcome } = await carryOut(...args);
    expect(JSON.parse(await writeOutcome(flagsOf(...args), outcome))).toMatchObject({ version: 1 });
  });
});

it("is no experiment without either option", () => {
  expect(experimentOf(flagsOf())).toBeUndefined();
});

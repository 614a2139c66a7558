// `npm start -- --pd`: its command line, its fleets, its table, and one whole run on the stand-in for Envoy.
import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DemoFleet, type DemoRun, runDemo } from "../../cli/demo.ts";
import { ROOT } from "../../cli/envoy.ts";
import { describePdDemo, pdPickerConfig, pdWorkload } from "../../cli/pd-demo.ts";
import { Progress } from "../../cli/progress.ts";
import { ratePerSecond, workloadOf } from "../../cli/start-flags.ts";
import type { ReplicaStatus } from "../../host-sim/model-server/admin.ts";
import type { DisaggregationStatus, IssuedStatus } from "../../host-sim/model-server/disaggregation/leg.ts";
import { generateWorkload } from "../../host-sim/workload/generate.ts";
import { bundle } from "../../scripts/build.mjs";
import { startReplica } from "./support/replica.ts";

const run = promisify(execFile);
const FLAGS = { concurrency: 2, seed: 3, port: 0 };

describe("the workload of a demonstration", () => {
  it("is the one of its kind unless the command line says otherwise", () => {
    expect(workloadOf(FLAGS)).toMatchObject({ seed: 3, requests: 600, ratePerSecond: 26 });
    expect(workloadOf({ ...FLAGS, pd: true })).toEqual(pdWorkload({ seed: 3 }));
    expect(workloadOf({ ...FLAGS, pd: true, requests: 9, rate: 2 })).toMatchObject({
      requests: 9,
      ratePerSecond: 2,
    });
    expect(ratePerSecond({ ...FLAGS, pd: true })).toBe(pdWorkload().ratePerSecond);
  });

  it("has the filter call prefill replicas itself", () => {
    const { plugins } = JSON.parse(pdPickerConfig()) as { plugins: { type: string; parameters: object }[] };
    const disaggregation = plugins.find(({ type }) => type === "epp-wasm-disaggregation");
    expect(disaggregation!.parameters).toMatchObject({ mode: "inline" });
  });
});

const STATUS: Omit<ReplicaStatus, "disaggregation"> = {
  name: "r",
  address: "127.0.0.1:1",
  callsByModel: {},
  running: 0,
  waiting: 0,
  kvUsage: 0,
  busyMs: 0,
  promptTokens: 10,
  cachedTokens: 0,
  generatedTokens: 0,
  preemptions: 0,
  kvEvents: [],
};

/** A fleet whose replica has handed over so many prompts more each time it is asked. */
function fleetOf(name: string, events: string[], handedOver: number): DemoFleet {
  let asked = 0;
  const issued = (state: IssuedStatus["state"]): IssuedStatus => ({
    requestId: "",
    state,
    tokens: 1,
    usedBy: null,
  });
  return {
    size: 4,
    restart: async () => void events.push(`restart ${name}`),
    status: async () => {
      const fetched = Array.from({ length: handedOver * Math.min(1, asked++) }, () => issued("fetched"));
      const disaggregation: DisaggregationStatus = {
        connector: "nixl",
        role: "both",
        strict: true,
        sideChannel: "",
        engineId: "",
        heldBlocks: 0,
        issued: [issued("expired"), ...fetched],
        rooms: [],
        refusals: [],
        staleReads: 0,
      };
      return [{ ...STATUS, disaggregation }];
    },
  };
}

describe("runDemo over several fleets", () => {
  it("restarts the fleet of each gateway, and counts what was handed over there", async () => {
    const replica = await startReplica({ name: "a", modelTokensMax: 60_000 }, { blockCount: 20_001 });
    const events: string[] = [];
    const start = async () => ({ url: replica.url, stop: async () => undefined });
    const plan = generateWorkload(pdWorkload({ requests: 6, ratePerSecond: 200, model: "tiny" }));
    const { runs } = await runDemo({
      gateways: [
        { policy: "split", start, fleet: fleetOf("split", events, 5) },
        { policy: "whole", start },
      ],
      fleet: fleetOf("whole", events, 0),
      plan,
      progress: new Progress({ write: () => true }),
    });
    expect(events).toEqual(["restart whole", "restart split"]);
    expect(runs.map(({ policy, handedOver, errors }) => [policy, handedOver, errors])).toEqual([
      ["split", 5, 0],
      ["whole", 0, 0],
    ]);
    const [titles, , split] = describePdDemo(runs, plan).split("\n");
    expect(titles).toMatch(/^fleet +TTFT mean s +p99 +TPOT p50 ms +p99 +in both SLOs +.*prompts handed over/);
    expect(split).toMatch(/^split .* 5 +0$/);
  });
});

describe("npm start -- --pd", () => {
  const script = `build/start-test-${process.pid}.mjs`;
  beforeAll(async () => bundle(await import("esbuild"), "cli/start.ts", script));
  afterAll(() => rm(join(ROOT, script), { force: true }));
  const start = (...args: readonly string[]): Promise<{ stdout: string; stderr: string }> =>
    run(process.execPath, [join(ROOT, script), ...args], {
      cwd: ROOT,
      env: { ...process.env, EPP_DATA_PLANE: "host-sim" },
    });

  it("compares both fleets, and hands prompts over in one of them", { timeout: 180_000 }, async () => {
    const args = ["--pd", "--once", "--json", "--requests", "24", "--rate", "12", "--port", "0"];
    const { stdout, stderr } = await start(...args, "--concurrency", "1");
    const report = JSON.parse(stdout) as { requests: number; ratePerSecond: number; runs: DemoRun[] };
    expect(report).toMatchObject({ requests: 24, ratePerSecond: 12, seed: 1 });
    expect(report.runs.map(({ policy }) => policy)).toEqual([
      "2 prefill + 2 decode, epp-wasm",
      "4 of both, epp-wasm",
      "4 of both, round_robin",
    ]);
    for (const { errors, requests } of report.runs) expect([errors, requests]).toEqual([0, 24]);
    const [split, ...whole] = report.runs;
    expect(split!.handedOver).toBeGreaterThan(0);
    expect(whole.map(({ handedOver }) => handedOver)).toEqual([0, 0]);
    expect(stderr).toContain("prompts handed over");
  });

  it("goes with neither real servers nor a fleet file", async () => {
    for (const other of [
      ["--endpoints", "127.0.0.1:1"],
      ["--config", "fleet.yaml"],
    ]) {
      const failed = (await start("--pd", ...other).catch((error: unknown) => error)) as { stderr: string };
      expect(failed.stderr).toContain("--pd was given with real servers, expected it without");
    }
  });
});

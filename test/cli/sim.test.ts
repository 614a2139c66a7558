// `npm run sim`: what its options mean, what it refuses by name, and one whole call with threads.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT, WASM_PATH } from "../../cli/envoy.ts";
import { jobsOf, simCommand, type SimFlags } from "../../cli/sim/flags.ts";
import { runJob, type SimJob } from "../../cli/sim/job.ts";
import { bundle } from "../../scripts/build.mjs";

const run = promisify(execFile);

function flagsOf(...args: readonly string[]): SimFlags {
  const command = simCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  return command.parse([...args], { from: "user" }).opts<SimFlags>();
}

function jobs(...args: readonly string[]): SimJob[] {
  return jobsOf(flagsOf(...args), "epp.wasm");
}

describe("the options of npm run sim", () => {
  it("compare round robin and the filter on chats unless told otherwise", () => {
    const [first, second, ...rest] = jobs();
    expect(rest).toEqual([]);
    expect(first).toEqual({
      source: { kind: "generator", name: "chats" },
      rate: 1,
      policy: "round-robin",
      seed: 1,
      gateways: 1,
      scrapeMs: 50,
      sampleMs: 1000,
      engine: "llama-70b-fp8-2xh100",
      slo: { ttftMs: 4000, tpotMs: 50 },
      epp: { wasm: "epp.wasm", workers: 4, maxTokens: true },
    });
    expect(second!.policy).toBe("epp");
  });

  it("make a run of every workload, rate and policy, the policies of one rate together", () => {
    const made = jobs("--workload", "rag, lora", "--rate", "0.5,2", "--policy", "random,epp=a.json");
    expect(made.map(({ source, rate, policy }) => [(source as { name: string }).name, rate, policy])).toEqual(
      [
        ["rag", 0.5, "random"],
        ["rag", 0.5, "epp=a.json"],
        ["rag", 2, "random"],
        ["rag", 2, "epp=a.json"],
        ["lora", 0.5, "random"],
        ["lora", 0.5, "epp=a.json"],
        ["lora", 2, "random"],
        ["lora", 2, "epp=a.json"],
      ],
    );
  });

  it("say everything that a run depends on", () => {
    const [job] = jobs(
      ...["--trace", "t.jsonl", "--policy", "epp", "--rate", "3", "--replicas", "8", "--gateways", "2"],
      ...["--workers", "16", "--scrape-ms", "200", "--sample-ms", "500", "--tick-ms", "20", "--seed", "9"],
      ...["--slo-ttft-ms", "1000", "--slo-tpot-ms", "30", "--requests", "77", "--engine", "chunked-10k"],
      ...["--chunk-tokens", "8", "--no-max-tokens", "--tell-slo"],
    );
    expect(job).toEqual({
      source: { kind: "trace", path: "t.jsonl" },
      rate: 3,
      policy: "epp",
      seed: 9,
      requests: 77,
      replicas: 8,
      gateways: 2,
      scrapeMs: 200,
      sampleMs: 500,
      engine: "chunked-10k",
      slo: { ttftMs: 1000, tpotMs: 30 },
      epp: { wasm: "epp.wasm", workers: 16, tickMs: 20, chunkTokens: 8, maxTokens: false, tellSlo: true },
    });
  });

  it("give replicas roles, and carry every run out with every split", () => {
    const [split] = jobs("--split", "4:12", "--policy", "llm-d-pd", "--transfer-gbps", "400");
    expect(split).toMatchObject({
      policy: "llm-d-pd",
      split: { prefill: 4, decode: 12, both: 0 },
      transferGbps: 400,
    });
    expect(jobs("--roles", "both")[0]!.split).toEqual({ prefill: 0, decode: 0, both: 0 });
    const made = jobs("--splits", "4:12,both", "--rate", "1,2", "--policy", "priced-pd,epp");
    expect(made.map(({ rate, split, replicas, policy }) => [rate, split?.prefill, replicas, policy])).toEqual(
      [
        [1, 4, 16, "priced-pd"],
        [1, 4, 16, "epp"],
        [1, 0, 16, "priced-pd"],
        [1, 0, 16, "epp"],
        [2, 4, 16, "priced-pd"],
        [2, 4, 16, "epp"],
        [2, 0, 16, "priced-pd"],
        [2, 0, 16, "epp"],
      ],
    );
    expect(jobs("--splits", "both", "--replicas", "4")[0]!.replicas).toBe(4);
    expect(() => jobs("--splits", "4:12,4:4")).toThrow('"16 and 8", expected one number of replicas');
    expect(() => jobs("--splits", "4:12", "--replicas", "8")).toThrow("expected one number of replicas");
  });

  it.each([
    [["--policy", "best"], "--policy <names>", "round-robin"],
    [["--policy", "epp="], "--policy <names>", "epp=FILE"],
    [["--workload", "chats,none"], "--workload <names>", "expected chats"],
    [["--rate", "0"], "--rate <factors>", "expected a number from 0.001 to 1000"],
    [["--rate", "1,x"], "--rate <factors>", "expected a number"],
    [["--rate", "1,"], "--rate <factors>", "expected a number"],
    [["--replicas", "257"], "--replicas <n>", "expected a whole number from 1 to 256"],
    [["--replicas", "1.5"], "--replicas <n>", "expected a whole number"],
    [["--gateways", "65"], "--gateways <n>", "from 1 to 64"],
    [["--workers", "65"], "--workers <n>", "from 1 to 64"],
    [["--scrape-ms", "0.5"], "--scrape-ms <ms>", "from 1 to 600000"],
    [["--tick-ms", "0"], "--tick-ms <ms>", "from 1 to 1000"],
    [["--seed", "-1"], "--seed <n>", "from 0 to 4294967295"],
    [["--requests", ""], "--requests <n>", "from 1 to 1000000"],
    [["--engine", "abacus"], "--engine <name>", "expected llama-70b-fp8-2xh100, chunked-10k"],
    [["--threads", "0"], "--threads <n>", "from 1 to"],
    [["--split", "4"], "--split <P:D>", "expected PREFILL:DECODE"],
    [["--splits", "4:4,4:0"], "--splits <list>", "expected PREFILL:DECODE"],
    [["--split", "4:4", "--replicas", "8"], "--split <P:D>", "cannot be used with option '--replicas <n>'"],
    [["--split", "4:4", "--roles", "both"], "--split <P:D>", "cannot be used with option '--roles <roles>'"],
    [["--splits", "4:4", "--split", "4:4"], "--splits <list>", "cannot be used with option '--split <P:D>'"],
    [["--roles", "decode"], "--roles <roles>", "Allowed choices are both"],
    [["--transfer-gbps", "0"], "--transfer-gbps <n>", "from 0.001 to 100000"],
  ])("refuse %j, naming the option and what it takes", (args, option, expected) => {
    let message = "";
    try {
      flagsOf(...args);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toContain(option);
    expect(message).toContain(expected);
  });

  it("refuse a workload beside a trace, and more runs than a call may ask for", () => {
    expect(() => jobs("--trace", "t.jsonl", "--workload", "rag")).toThrow(
      '--workload is "rag", expected nothing',
    );
    const rates = Array.from({ length: 501 }, (_, i) => 1 + i / 1000).join(",");
    expect(() => jobs("--rate", rates)).toThrow("expected at most 1000 runs");
  });
});

describe("a run of the simulator", () => {
  const job = (fields: Partial<SimJob>): SimJob => {
    const [made] = jobsOf(flagsOf("--requests", "60", "--replicas", "4"), WASM_PATH);
    return { ...made!, ...fields };
  };

  it("summarises what it recorded", async () => {
    const heard: number[] = [];
    const { summary, record } = await runJob(job({ policy: "epp" }), (ended) => void heard.push(ended));
    expect(summary).toMatchObject({
      policy: "epp",
      workload: "chats",
      requests: 60,
      replicas: 4,
      failures: 0,
    });
    expect(summary.reuseCeiling).toBeGreaterThan(0);
    expect(record.requests).toHaveLength(60);
    expect(heard).toEqual([60]);
  });

  it.each(["epp", "epp-kv"])("leaves the prefill replicas of a split to others: %s", async (policy) => {
    const { record } = await runJob(job({ policy, split: { prefill: 2, decode: 2, both: 0 } }));
    expect(new Set(record.requests.map(({ endpoint }) => endpoint))).toEqual(new Set([2, 3]));
    expect(record.requests.every(({ failure, prefill }) => failure === "" && prefill < 0)).toBe(true);
  });

  it("reads the configuration of epp=FILE, and says what is wrong with it", async () => {
    const folder = await mkdtemp(join(tmpdir(), "epp-sim-"));
    try {
      const file = join(folder, "picker.json");
      const plugins = [{ type: "epp-wasm-gateway", parameters: { destinations: 1 } }];
      await writeFile(
        file,
        JSON.stringify({ apiVersion: "llm-d.ai/v1alpha1", kind: "EndpointPickerConfig", plugins }),
      );
      const { summary } = await runJob(job({ policy: `epp=${file}` }));
      expect(summary.policy).toBe(`epp=${file}`);
      await writeFile(file, '{"kind":"Pod"}');
      await expect(runJob(job({ policy: `epp=${file}` }))).rejects.toThrow("picker");
      await expect(runJob(job({ policy: `epp=${file}x` }))).rejects.toThrow("ENOENT");
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe("npm run sim", () => {
  const script = `build/sim-test-${process.pid}.mjs`;
  beforeAll(async () => bundle(await import("esbuild"), "cli/sim.ts", script));
  afterAll(() => rm(join(ROOT, script), { force: true }));

  const sim = (...args: readonly string[]): Promise<{ stdout: string; stderr: string }> =>
    run(process.execPath, [join(ROOT, script), ...args], { cwd: ROOT });

  it("prints the same report from threads as from one, and its progress beside it", async () => {
    const args = ["--requests", "80", "--replicas", "4", "--policy", "random,epp", "--json"];
    const [one, two] = [await sim(...args, "--threads", "1"), await sim(...args)];
    const runsOf = (text: string): object[] => {
      const document = JSON.parse(text) as { runs: { summary: Record<string, unknown> }[] };
      return document.runs.map(({ summary: { wallMs: _wallMs, ...summary } }) => summary);
    };
    expect(runsOf(two.stdout)).toEqual(runsOf(one.stdout));
    expect(runsOf(one.stdout)).toMatchObject([{ policy: "random" }, { policy: "epp" }]);
    expect(two.stderr).toContain("2 runs in ");
  });

  it("prints a table, and leaves table, document and plots where it is told", async () => {
    const folder = await mkdtemp(join(tmpdir(), "epp-sim-"));
    try {
      const args = ["--requests", "40", "--replicas", "2", "--policy", "round-robin", "--out", folder];
      const { stdout } = await sim(...args);
      expect(stdout).toContain("| round-robin |");
      expect(await readFile(join(folder, "report.md"), "utf8")).toBe(stdout);
      expect(JSON.parse(await readFile(join(folder, "report.json"), "utf8"))).toMatchObject({ seed: 1 });
      expect(await readFile(join(folder, "ttft-chats-1.svg"), "utf8")).toContain("<svg");
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("says which split is best, and draws a line for each", async () => {
    const folder = await mkdtemp(join(tmpdir(), "epp-sim-"));
    try {
      const args = [
        "--requests",
        "60",
        "--splits",
        "1:3,2:2,both",
        "--policy",
        "priced-pd",
        "--rate",
        "0.5,1",
      ];
      const { stdout } = await sim(...args, "--out", folder);
      expect(stdout).toMatch(/^### chats: best split of each rate; /);
      expect(stdout).toMatch(/\n\| priced-pd \| × 0\.5 \| (1:3|2:2|both) \|/);
      for (const fleet of ["1:3", "2:2", "both"]) {
        expect(stdout).toContain(`\n| priced-pd ${fleet} | `);
        expect(await readFile(join(folder, "rates-chats.svg"), "utf8")).toContain(`priced-pd ${fleet}`);
      }
      expect(stdout).toContain("| prompts computed elsewhere |");
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("ends with 1 and says which run failed, on threads too", async () => {
    const args = ["--trace", "no-such.jsonl", "--policy", "random,round-robin"];
    for (const threads of [[], ["--threads", "1"]]) {
      const failed = (await sim(...args, ...threads).catch((error: unknown) => error)) as {
        code: number;
        stderr: string;
      };
      expect(failed.code).toBe(1);
      expect(failed.stderr).toMatch(/^sim: (random|round-robin) on no-such\.jsonl × 1: ENOENT/m);
    }
  });
});

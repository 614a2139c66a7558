// The command line of `npm run sim`: what it takes, its limits, and the runs that it asks for.
import { Command, InvalidArgumentError, Option } from "commander";
import { WORKERS_MAX } from "../../assembly/wire/limits.ts";
import { GATEWAYS_MAX, REPLICAS_MAX, REQUESTS_MAX } from "../../host-sim/fleet/check-run.ts";
import { ENGINE_PRESETS } from "../../host-sim/fleet/engine-presets.ts";
import type { Setting } from "../../host-sim/fleet/experiments/index.ts";
import { SimFlagError } from "./errors.ts";
import { ALL_BOTH, parseSplit, replicasOf, SPLIT_SYNTAX, type Split } from "../../host-sim/fleet/roles.ts";
import {
  EPP_KV,
  isPolicy,
  pdPolicyNames,
  policyNames,
  type SimJob,
  type SimSource,
  workloadNames,
} from "./job.ts";
import { THREADS_MAX } from "./runner.ts";

/** Options as given, defaults filled in. */
export interface SimFlags {
  readonly trace?: string;
  readonly workload?: readonly string[];
  readonly policy: readonly string[];
  readonly rate: readonly number[];
  readonly findRate?: number;
  /** Which SLO the share of `findRate` is about. */
  readonly shareOf: string;
  /** True: in all settings of the targets. */
  readonly targets?: true | readonly Setting[];
  readonly replicas?: number;
  /** Roles of the replicas. */
  readonly split?: Split;
  /** Every run is carried out with each of these. */
  readonly splits?: readonly Split[];
  /** "both": an elastic fleet, said against a split. */
  readonly roles?: string;
  readonly transferGbps?: number;
  readonly kvTokens?: number;
  readonly targetsPd?: boolean;
  /** Replicas at the start of a fleet that is scaled up to `split`. */
  readonly autoscale?: Split;
  readonly startupS: number;
  readonly gateways: number;
  readonly workers: number;
  readonly scrapeMs: number;
  readonly sampleMs: number;
  readonly tickMs?: number;
  readonly chunkTokens?: number;
  readonly maxTokens: boolean;
  readonly tellSlo?: boolean;
  readonly sloTtftMs: number;
  readonly sloTpotMs: number;
  readonly seed: number;
  readonly seeds: number;
  readonly requests?: number;
  readonly engine: string;
  readonly wasm?: string;
  readonly out?: string;
  readonly json?: boolean;
  readonly threads: number;
}

/** What is run when neither a trace nor a workload is named. */
const WORKLOAD_DEFAULT = "chats";
/** Policies and rates that are run unless the command line names others. */
export const POLICIES_DEFAULT: readonly string[] = ["round-robin", "epp"];
export const RATES_DEFAULT: readonly number[] = [1];
const RATE_MAX = 1000;
const SCRAPE_MS_MAX = 600_000;
const SLO_MS_MAX = 86_400_000;
const SEED_MAX = 2 ** 32 - 1;
const SHARE_MIN = 0.01;
const KV_TOKENS_MIN = 1_024;
const KV_TOKENS_MAX = 100_000_000;
/** Which SLO a share can be about: TTFT alone, or TTFT and TPOT at once. */
const SHARE_OF = ["both", "ttft"];
/** Runs of one call. */
const RUNS_MAX = 1000;

function whole(min: number, max: number): (text: string) => number {
  return (text) => number(text, min, max, "a whole number", Number.isInteger(Number(text)));
}

function real(min: number, max: number): (text: string) => number {
  return (text) => number(text, min, max, "a number", true);
}

function number(text: string, min: number, max: number, what: string, fits: boolean): number {
  const value = Number(text);
  if (text.trim() !== "" && value >= min && value <= max && fits) return value;
  throw new InvalidArgumentError(`expected ${what} from ${min} to ${max}`);
}

function listOf<T>(parse: (text: string) => T): (text: string) => T[] {
  return (text) => text.split(",").map((part) => parse(part.trim()));
}

function oneOf(names: () => readonly string[], accepts: (text: string) => boolean): (text: string) => string {
  return (text) => {
    if (!accepts(text)) throw new InvalidArgumentError(`expected ${names().join(", ")}`);
    return text;
  };
}

/** "4x500" = 4 gateways, a scrape every 500 ms. */
function setting(text: string): Setting {
  const [gateways, scrapeMs, ...rest] = text.split("x");
  if (gateways === undefined || scrapeMs === undefined || rest.length > 0)
    throw new InvalidArgumentError("expected GATEWAYSxMS, e.g. 4x500");
  return {
    gateways: whole(1, GATEWAYS_MAX)(gateways),
    scrapeMs: real(1, SCRAPE_MS_MAX)(scrapeMs),
  };
}

function split(text: string): Split {
  const read = parseSplit(text);
  if (read === undefined) throw new InvalidArgumentError(`expected ${SPLIT_SYNTAX}`);
  return read;
}

const policy = oneOf(() => [...policyNames(), EPP_KV, ...pdPolicyNames(), "epp=FILE"], isPolicy);
const workload = oneOf(workloadNames, (text) => workloadNames().includes(text));
const shareOf = oneOf(
  () => SHARE_OF,
  (text) => SHARE_OF.includes(text),
);
const engine = oneOf(engineNames, (text) => engineNames().includes(text));

function engineNames(): readonly string[] {
  return ENGINE_PRESETS.map(({ name }) => name);
}

/** The command without its action, for its help and for parsing. */
export function simCommand(): Command {
  return new Command("npm run sim --")
    .description("Simulates a fleet of model servers under policies of routing, and compares them.")
    .option("--trace <file>", "requests in Mooncake's format (JSONL) or Azure's (.csv)")
    .option("--workload <names>", `drawn workloads: ${workloadNames().join(", ")}`, listOf(workload))
    .option(
      "--policy <names>",
      `of ${policyNames().join(", ")}; ${EPP_KV} is epp with the replicas' KV events, epp=FILE epp with that EndpointPickerConfig (JSON); ` +
        `for prefill and decode replicas ${pdPolicyNames().join(", ")}`,
      listOf(policy),
      POLICIES_DEFAULT,
    )
    .option(
      "--rate <factors>",
      "times the workload's own rate of arrivals",
      listOf(real(0.001, RATE_MAX)),
      RATES_DEFAULT,
    )
    .addOption(
      new Option("--find-rate <share>", "searches the highest rate of each policy with that share in SLO")
        .argParser(real(SHARE_MIN, 1))
        .conflicts("rate"),
    )
    .option(
      "--share-of <slo>",
      `SLO that --find-rate is about: ${SHARE_OF.join(" or ")}`,
      shareOf,
      SHARE_OF[0]!,
    )
    .addOption(
      new Option(
        "--targets [settings]",
        "judges epp's targets on --trace and on every workload, in settings as 1x50,4x500 (gateways x scrape ms)",
      )
        .argParser(listOf(setting))
        .conflicts(["rate", "findRate", "gateways", "scrapeMs"])
        .implies({ policy: policyNames() }),
    )
    .addOption(
      new Option(
        "--targets-pd",
        "judges the targets of prefill and decode apart on --trace: aggregated, --splits and elastic fleets over" +
          " --rate; the policy that disaggregates is --policy",
      ).conflicts(["targets", "findRate", "autoscale", "split", "roles", "workload"]),
    )
    .option("--replicas <n>", "replicas; 16, or the workload's own, when absent", whole(1, REPLICAS_MAX))
    .addOption(
      new Option("--split <P:D>", "prefill and decode replicas, P:D:B with B that do both; both: all do both")
        .argParser(split)
        .conflicts(["replicas", "roles"]),
    )
    .addOption(
      new Option(
        "--splits <list>",
        "the same runs with each of these, e.g. 4:12,8:8,both; says which is best",
      )
        .argParser(listOf(split))
        .conflicts(["split", "roles"]),
    )
    .addOption(new Option("--roles <roles>", "both: every replica does both (the default)").choices(["both"]))
    .option("--transfer-gbps <n>", "speed of a KV transfer, Gbit/s; 160 when absent", real(0.001, 100_000))
    .option(
      "--kv-tokens <n>",
      "tokens that each replica's KV cache has room for; the engine's when absent",
      whole(KV_TOKENS_MIN, KV_TOKENS_MAX),
    )
    .addOption(
      new Option(
        "--autoscale <P:D>",
        "scales both roles from so many replicas to those of --split, each by its own figures, and compares that" +
          " with fixed fleets of as many GPU hours",
      )
        .argParser(split)
        .conflicts(["splits", "roles", "findRate", "targets"]),
    )
    .option("--startup-s <s>", "time that a new replica takes to start (--autoscale)", real(0, 3600), 60)
    .option("--gateways <n>", "gateways in front of them", whole(1, GATEWAYS_MAX), 1)
    .option("--workers <n>", "workers of one gateway (epp)", whole(1, WORKERS_MAX), 4)
    .option("--scrape-ms <ms>", "time between two scrapes", real(1, SCRAPE_MS_MAX), 50)
    .option("--sample-ms <ms>", "time between two samples of the load", real(1, SCRAPE_MS_MAX), 1000)
    .option(
      "--tick-ms <ms>",
      "replaces the configuration's tickMs (epp); 20 to 50 is quicker for many workers",
      whole(1, 1000),
    )
    .option("--chunk-tokens <n>", "tokens between two chunks that the filter sees (epp)", whole(1, 1_000_000))
    .option("--no-max-tokens", "clients do not say max_tokens (epp)")
    .option("--tell-slo", "the filter is configured with the SLO (epp); always with --targets-pd")
    .option("--slo-ttft-ms <ms>", "time to first token in the SLO", real(1, SLO_MS_MAX), 4000)
    .option("--slo-tpot-ms <ms>", "mean time between tokens in the SLO", real(0.1, SLO_MS_MAX), 50)
    .option("--seed <n>", "of all that is drawn", whole(0, SEED_MAX), 1)
    .option(
      "--seeds <n>",
      "seeds, from --seed on, whose mean --targets-pd compares at a rate",
      whole(1, 16),
      3,
    )
    .option("--requests <n>", "the first so many requests", whole(1, REQUESTS_MAX))
    .option("--engine <name>", `of ${engineNames().join(", ")}`, engine, engineNames()[0]!)
    .option("--wasm <file>", "the filter; build/epp.wasm when absent")
    .option("--threads <n>", "runs side by side", whole(1, THREADS_MAX), THREADS_MAX)
    .option("--out <folder>", "writes report.json, report.md and plots there")
    .option("--json", "prints the report as JSON instead of a table");
}

/** The workloads that options name, other than for `--targets`. @throws SimFlagError */
export function sourcesOf({ trace, workload: names }: SimFlags): SimSource[] {
  if (trace !== undefined && names !== undefined)
    throw new SimFlagError("--workload", names.join(","), "nothing beside --trace");
  if (trace !== undefined) return [{ kind: "trace", path: trace }];
  return (names ?? [WORKLOAD_DEFAULT]).map((name) => ({ kind: "generator", name }));
}

/** What all runs of a call have in common. */
export function jobCommon(flags: SimFlags, wasm: string): Omit<SimJob, "source" | "rate" | "policy"> {
  const { requests, replicas, tickMs, chunkTokens, transferGbps, kvTokens } = flags;
  const split = flags.roles === undefined ? flags.split : ALL_BOTH;
  return {
    seed: flags.seed,
    gateways: flags.gateways,
    scrapeMs: flags.scrapeMs,
    sampleMs: flags.sampleMs,
    engine: flags.engine,
    slo: { ttftMs: flags.sloTtftMs, tpotMs: flags.sloTpotMs },
    epp: {
      wasm,
      workers: flags.workers,
      maxTokens: flags.maxTokens,
      ...(flags.tellSlo === true ? { tellSlo: true } : {}),
      ...(tickMs === undefined ? {} : { tickMs }),
      ...(chunkTokens === undefined ? {} : { chunkTokens }),
    },
    ...(requests === undefined ? {} : { requests }),
    ...(replicas === undefined ? {} : { replicas }),
    ...(split === undefined ? {} : { split }),
    ...(flags.autoscale === undefined ? {} : { startupMs: flags.startupS * 1000 }),
    ...(transferGbps === undefined ? {} : { transferGbps }),
    ...(kvTokens === undefined ? {} : { kvTokens }),
  };
}

/**
 * The runs that options ask for: workloads, then rates, then splits, then policies, the last varying fastest.
 * @throws SimFlagError
 */
export function jobsOf(flags: SimFlags, wasm: string): SimJob[] {
  const sources = sourcesOf(flags);
  const fleets = fleetsOf(flags);
  const runs = sources.length * flags.rate.length * fleets.length * flags.policy.length;
  if (runs > RUNS_MAX) throw new SimFlagError("--policy", flags.policy.join(","), `at most ${RUNS_MAX} runs`);
  const common = jobCommon(flags, wasm);
  return sources.flatMap((source) =>
    flags.rate.flatMap((rate) =>
      fleets.flatMap((fleet) =>
        flags.policy.map((name) => ({ ...common, ...fleet, source, rate, policy: name })),
      ),
    ),
  );
}

// Of several splits, one that leaves the number of replicas open has that of the others.
function fleetsOf({ splits, replicas }: SimFlags): Pick<SimJob, "split" | "replicas">[] {
  if (splits === undefined) return [{}];
  const sizes = new Set(splits.map(replicasOf).filter((size) => size > 0));
  if (replicas !== undefined) sizes.add(replicas);
  if (sizes.size > 1) throw new SimFlagError("--splits", [...sizes].join(" and "), "one number of replicas");
  const [size] = sizes;
  return splits.map((split) => ({ split, ...(size === undefined ? {} : { replicas: size }) }));
}

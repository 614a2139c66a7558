// One run of the fleet simulator as data that can go to another thread, and how it is carried out.
import { readFile } from "node:fs/promises";
import type { EngineConfig } from "../../host-sim/model-server/engine-types.ts";
import { ENGINE_PRESETS } from "../../host-sim/fleet/engine-presets.ts";
import { eppPolicy } from "../../host-sim/fleet/epp-gateway.ts";
import type { KvFeed } from "../../host-sim/fleet/epp-kv-events.ts";
import { answeringConfig, pdConfig, type PdMode } from "../../host-sim/fleet/epp-pd-config.ts";
import { PD_POLICIES, POLICIES } from "../../host-sim/fleet/policies/index.ts";
import { type FleetSummary, type Slo, summarizeRun } from "../../host-sim/fleet/report/index.ts";
import { replicasOf, type Split, splitText, withRoles } from "../../host-sim/fleet/roles.ts";
import { runFleet } from "../../host-sim/fleet/run.ts";
import { RoleScaler } from "../../host-sim/fleet/scaling/role-scaler.ts";
import { GENERATORS, generate, readTrace, reuseCeiling } from "../../host-sim/fleet/sources/index.ts";
import type { Policy, ReplicaSpec, RunRecord, Scaler, Workload } from "../../host-sim/fleet/types.ts";
import { SnapshotEncoder } from "../../sidecar/snapshot-encoder.ts";
import { SimFlagError } from "./errors.ts";
import { promptModels, SimulatedKvFeed } from "./kv-feed.ts";

/** Where a workload comes from. */
export type SimSource =
  { readonly kind: "trace"; readonly path: string } | { readonly kind: "generator"; readonly name: string };

/** One run. Everything that its result depends on is in here. */
export interface SimJob {
  readonly source: SimSource;
  /** Multiplies the source's own rate of arrivals. */
  readonly rate: number;
  /** "epp", "epp-kv" with KV events, "epp=FILE" with a picker configuration, or a name of policyNames() or pdPolicyNames(). */
  readonly policy: string;
  readonly seed: number;
  /** At most so many requests; absent: the source's own number. */
  readonly requests?: number;
  /** Absent: the source's own. */
  readonly replicas?: number;
  readonly gateways: number;
  readonly scrapeMs: number;
  readonly sampleMs: number;
  /** A name of ENGINE_PRESETS. */
  readonly engine: string;
  /** Tokens that each replica's KV cache has room for; absent: the engine's. */
  readonly kvTokens?: number;
  /** Roles of the replicas; absent: every replica does both, and no report mentions it. */
  readonly split?: Split;
  /** Replicas that a drawn workload's own rate is for; absent: those of the run. */
  readonly drawnFor?: number;
  /** The fleet is scaled between this, with which it starts, and `split`; absent: it is `split` all the time. */
  readonly autoscaledFrom?: Split;
  /** From a scaler's decision to the first request of a new replica, ms. */
  readonly startupMs?: number;
  /** Speed of one KV transfer, gigabits a second; absent: the engine's. */
  readonly transferGbps?: number;
  readonly slo: Slo;
  readonly epp: SimEppOptions;
}

/** How "epp" is run. */
export interface SimEppOptions {
  readonly wasm: string;
  readonly workers: number;
  readonly tickMs?: number;
  readonly chunkTokens?: number;
  readonly maxTokens: boolean;
  /** The filter's configuration has the run's SLO as the wish of all requests that bring none. */
  readonly tellSlo?: boolean;
}

/** What a run gave. */
export interface SimResult {
  readonly summary: FleetSummary;
  readonly record: RunRecord;
}

/** Replicas of a trace unless the command line says otherwise. */
export const TRACE_REPLICAS = 16;
const BYTES_PER_MS_PER_GBPS = 125_000;
const EPP = "epp";
const EPP_FILE = "epp=";
/** The filter with the exact index: a sidecar follows the replicas' KV events. */
export const EPP_KV = "epp-kv";
/** The filter over prefill and decode replicas: its mode by the policy's name. */
const EPP_PD: ReadonlyMap<string, PdMode> = new Map([
  ["epp-headers", "headers"],
  ["epp-inline", "inline"],
]);
/** Workloads a thread keeps: the runs of one workload usually follow one another. */
const WORKLOADS_KEPT = 2;

interface Prepared {
  readonly workload: Workload;
  readonly replicas: readonly ReplicaSpec[];
  ceiling: number | undefined;
}

const prepared = new Map<string, Promise<Prepared>>();

/** Names that `--policy` takes for any fleet. */
export function policyNames(): readonly string[] {
  return [EPP, ...POLICIES.map(({ name }) => name)];
}

/** Names that `--policy` takes for fleets of prefill and decode replicas. */
export function pdPolicyNames(): readonly string[] {
  return [...EPP_PD.keys(), ...PD_POLICIES.map(({ name }) => name)];
}

/** Whether `--policy` takes a name, "epp=FILE" included. */
export function isPolicy(name: string): boolean {
  return (
    [...policyNames(), EPP_KV, ...pdPolicyNames()].includes(name) ||
    (name.startsWith(EPP_FILE) && name.length > EPP_FILE.length)
  );
}

/** Names that `--workload` takes. */
export function workloadNames(): readonly string[] {
  return GENERATORS.map(({ name }) => name);
}

/** Carries a run out on this thread. @param onProgress hears of requests that ended */
export async function runJob(
  job: SimJob,
  onProgress: (ended: number, requests: number) => void = () => {},
): Promise<SimResult> {
  const source = await prepare(job);
  const { workload } = source;
  const { seed, gateways, scrapeMs, sampleMs, split } = job;
  const replicas = split === undefined ? source.replicas : withRoles(resized(source.replicas, split), split);
  const policy = await policyOf(job, replicas, workload);
  const options = { replicas, policy, workload, seed, gateways, scrapeMs, sampleMs, onProgress };
  const scaler = scalerOf(job, replicas);
  const record = await runFleet({ ...options, ...(scaler === undefined ? {} : { scaler }) });
  const summary = summarizeRun(record, workload, job.slo, () => (source.ceiling ??= reuseCeiling(workload)));
  const fleet = split === undefined ? {} : { fleet: splitText(split) };
  return { summary: { ...summary, ...fleet }, record };
}

function scalerOf(job: SimJob, replicas: readonly ReplicaSpec[]): Scaler | undefined {
  const { autoscaledFrom: least, startupMs = 0, slo } = job;
  if (least === undefined) return undefined;
  const { prefill: prefillMin, decode: decodeMin } = least;
  return new RoleScaler(replicas, { prefillMin, decodeMin, startupMs, tpotMs: slo.tpotMs });
}

async function policyOf(
  { policy: name, epp, slo }: SimJob,
  replicas: readonly ReplicaSpec[],
  workload: Workload,
): Promise<Policy> {
  const pdMode = EPP_PD.get(name);
  if (![EPP, EPP_KV].includes(name) && !name.startsWith(EPP_FILE) && pdMode === undefined) {
    const found = [...POLICIES, ...PD_POLICIES].find((policy) => policy.name === name);
    if (found === undefined) throw new SimFlagError("--policy", name, policyNames().join(", "));
    return found;
  }
  const hasPrefillReplicas = replicas.some(({ role }) => role === "prefill");
  const encoder = new SnapshotEncoder();
  const { wasm, tellSlo = false, ...options } = epp;
  return eppPolicy({
    ...options,
    name,
    module: wasm,
    encode: (endpoints, id) => encoder.encode(endpoints, id),
    ...(tellSlo ? { wishes: slo } : {}),
    ...(pdMode === undefined ? {} : { config: pdConfig(pdMode, replicas[0]!.engine) }),
    ...([EPP, EPP_KV].includes(name) && hasPrefillReplicas ? { config: answeringConfig() } : {}),
    ...(name === EPP_KV ? { makeKvFeed: kvFeedMaker(replicas, workload) } : {}),
    ...(name.startsWith(EPP_FILE) ? { config: await readFile(name.slice(EPP_FILE.length), "utf8") } : {}),
  });
}

function kvFeedMaker(replicas: readonly ReplicaSpec[], workload: Workload): () => KvFeed {
  const models = promptModels(workload);
  const blockTokens = replicas.map(({ engine }) => engine.blockSize);
  return () => new SimulatedKvFeed(blockTokens, models);
}

function prepare(job: SimJob): Promise<Prepared> {
  const { source, rate, seed, requests, engine, transferGbps, kvTokens } = job;
  const key = JSON.stringify([source, rate, seed, requests, fleetSize(job), engine, transferGbps, kvTokens]);
  let found = prepared.get(key);
  if (found === undefined) {
    for (const old of [...prepared.keys()].slice(0, prepared.size + 1 - WORKLOADS_KEPT)) prepared.delete(old);
    prepared.set(key, (found = read(job)));
  }
  return found;
}

// As many replicas as the split has, of the engines that the workload was drawn for in turn.
function resized(replicas: readonly ReplicaSpec[], split: Split): readonly ReplicaSpec[] {
  const length = replicasOf(split) === 0 ? replicas.length : replicasOf(split);
  return Array.from({ length }, (_, i) => replicas[i % replicas.length]!);
}

// A split that leaves the number open has the fleet's own.
function fleetSize({ split, replicas, drawnFor }: SimJob): number | undefined {
  if (drawnFor !== undefined) return drawnFor;
  return split === undefined || replicasOf(split) === 0 ? replicas : replicasOf(split);
}

async function read(job: SimJob): Promise<Prepared> {
  const { source, seed, rate: rateFactor, requests, transferGbps, kvTokens } = job;
  const replicas = fleetSize(job);
  const preset = ENGINE_PRESETS.find(({ name }) => name === job.engine);
  if (preset === undefined)
    throw new SimFlagError("--engine", job.engine, ENGINE_PRESETS.map(({ name }) => name).join(", "));
  const engine: EngineConfig = {
    ...preset.config,
    ...(transferGbps === undefined ? {} : { transferBytesPerMs: transferGbps * BYTES_PER_MS_PER_GBPS }),
    ...(kvTokens === undefined ? {} : { blockCount: Math.ceil(kvTokens / preset.config.blockSize) + 1 }),
  };
  const common = { seed, rateFactor, ...(requests === undefined ? {} : { requests }) };
  if (source.kind === "generator") {
    const options = { ...common, engine, ...(replicas === undefined ? {} : { replicas }) };
    return { ...generate(source.name, options), ceiling: undefined };
  }
  const spec: ReplicaSpec = { engine, role: "both" };
  const fleet = new Array<ReplicaSpec>(replicas ?? TRACE_REPLICAS).fill(spec);
  return { workload: await readTrace(source.path, common), replicas: fleet, ceiling: undefined };
}

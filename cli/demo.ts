// The demonstration: the same arrivals through several gateways, each over equally cold replicas, and one
// table.
import { request } from "undici";
import type { ReplicaStatus } from "../host-sim/model-server/admin.ts";
import { LLAMA_3_3_70B_FP8_2XH100 } from "../host-sim/model-server/rates.ts";
import { runLoad } from "../host-sim/workload/client.ts";
import { type RunSummary, summarize, textTable, ttftGain } from "../host-sim/workload/report.ts";
import type { RequestResult } from "../host-sim/workload/result.ts";
import type { PlannedRequest } from "../host-sim/workload/types.ts";
import type { Progress } from "./progress.ts";

/**
 * Small requests before each run: they open connections and warm up code, and leave the caches as good as
 * cold.
 */
const WARM_UP_ROUNDS = 3;
const WARM_UP_CONCURRENCY = 16;
const STATUS_INTERVAL_MS = 250;

/** A gateway to be measured. */
export interface DemoGateway {
  /** Name in the table. */
  readonly policy: string;
  /** Its replicas; those of all gateways unless given. */
  readonly fleet?: DemoFleet;
  /** Starts it over the replicas. */
  start(): Promise<RunningGateway>;
}

/** A started gateway. */
export interface RunningGateway {
  readonly url: string;
  stop(): Promise<void>;
}

/** The replicas behind gateways. */
export interface DemoFleet {
  readonly size: number;
  /** Empties all caches and resets all counters, as a restart does. */
  restart(): Promise<void>;
  status(): Promise<readonly ReplicaStatus[]>;
}

/** What is run. */
export interface DemoOptions {
  /** The first one is compared with the others and goes on running; it is measured last. */
  readonly gateways: readonly DemoGateway[];
  readonly fleet: DemoFleet;
  readonly plan: readonly PlannedRequest[];
  readonly progress: Progress;
  readonly signal?: AbortSignal;
}

/** Figures of one gateway with what the replicas themselves counted. */
export interface DemoRun extends RunSummary {
  /** Prefill work over what the replicas can do from first to last arrival; 1 = nothing else fits in. */
  readonly prefillLoad: number;
  /** Most requests that waited at all replicas together, sampled every 250 ms. */
  readonly waitingMax: number;
  readonly preemptions: number;
  /** Prompts that a replica computed and another one took over. */
  readonly handedOver: number;
}

/** The result, in the order of `gateways`. */
export interface DemoReport {
  readonly runs: readonly DemoRun[];
  /** The first gateway, still running. */
  readonly gateway: RunningGateway;
}

/**
 * Measures every gateway with the same requests at the same times.
 * @throws what a gateway's start throws; the signal's reason, whatever else fails because of it. Requests that fail are
 * counted, never thrown.
 */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  try {
    return await runAll(options);
  } catch (error) {
    options.signal?.throwIfAborted();
    throw error;
  }
}

async function runAll(options: DemoOptions): Promise<DemoReport> {
  const { gateways } = options;
  const runs: DemoRun[] = [];
  let gateway: RunningGateway | undefined;
  for (const each of [...gateways.slice(1), gateways[0]!]) {
    await gateway?.stop();
    options.progress.update(`${each.policy}: starting over cold replicas`);
    const fleet = each.fleet ?? options.fleet;
    await fleet.restart();
    gateway = await each.start();
    runs.push(await measure(each.policy, gateway.url, { ...options, fleet }));
  }
  runs.unshift(runs.pop()!);
  return { runs, gateway: gateway! };
}

async function measure(policy: string, url: string, options: DemoOptions): Promise<DemoRun> {
  const { fleet, plan, progress, signal } = options;
  await warmUp(url);
  const before = await fleet.status();
  const waiting = watchWaiting(fleet);
  let errors = 0;
  let results: RequestResult[];
  let waitingMax: number;
  try {
    results = await runLoad(plan, {
      url,
      ...(signal === undefined ? {} : { signal }),
      onResult: (result, done) => {
        if (result.failure !== null) errors++;
        progress.update(
          `${policy}: ${done} of ${plan.length} answered${errors > 0 ? `, ${errors} failed` : ""}`,
        );
      },
    });
  } finally {
    waitingMax = await waiting.stop();
  }
  const after = await fleet.status();
  const summary = summarize(policy, results, fleet.size);
  progress.line(
    `${policy}: ${plan.length} requests, mean TTFT ${summary.ttftMeanS.toFixed(2)} s, ${errors} failed`,
  );
  return {
    ...summary,
    prefillLoad: prefillLoad(before, after, plan.at(-1)!.atMs),
    waitingMax,
    handedOver: sum(after, handedOverBy) - sum(before, handedOverBy),
    preemptions: sum(after, (replica) => replica.preemptions) - sum(before, (replica) => replica.preemptions),
  };
}

function handedOverBy({ disaggregation }: ReplicaStatus): number {
  return disaggregation?.issued.filter(({ state }) => state === "fetched").length ?? 0;
}

async function warmUp(url: string): Promise<void> {
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    const sends = Array.from({ length: WARM_UP_CONCURRENCY }, async (_, i) => {
      const body = { messages: [{ role: "user", content: `warm up ${round} ${i}` }], max_tokens: 2 };
      const response = await request(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      await response.body.dump();
    });
    await Promise.all(sends);
  }
}

/** Samples the waiting requests until stopped; a fleet that cannot be asked any more ends the sampling. */
function watchWaiting(fleet: DemoFleet): { stop(): Promise<number> } {
  let most = 0;
  let running = true;
  const watch = async (): Promise<void> => {
    while (running) {
      most = Math.max(
        most,
        sum(await fleet.status(), (replica) => replica.waiting),
      );
      await new Promise((resolve) => setTimeout(resolve, STATUS_INTERVAL_MS));
    }
  };
  const done = watch().catch(() => undefined);
  return {
    stop: async () => {
      running = false;
      await done;
      return most;
    },
  };
}

function sum(replicas: readonly ReplicaStatus[], of: (replica: ReplicaStatus) => number): number {
  return replicas.reduce((total, replica) => total + of(replica), 0);
}

function prefillLoad(
  before: readonly ReplicaStatus[],
  after: readonly ReplicaStatus[],
  durationMs: number,
): number {
  const uncached = (replica: ReplicaStatus): number => replica.promptTokens - replica.cachedTokens;
  const tokens = sum(after, uncached) - sum(before, uncached);
  return (tokens * LLAMA_3_3_70B_FP8_2XH100.prefillMsPerToken) / (after.length * durationMs);
}

/** The table and what to read from it. */
export function describeDemo(runs: readonly DemoRun[], plan: readonly PlannedRequest[]): string {
  const [ours, ...others] = runs;
  const mean = (of: (request: PlannedRequest) => number): string => {
    const value = plan.reduce((total, each) => total + of(each), 0) / plan.length;
    return Math.round(value).toLocaleString("en-US");
  };
  const rate = (plan.length / plan.at(-1)!.atMs) * 1000;
  const loads = runs.map((run) => `${Math.round(run.prefillLoad * 100)} % with ${run.policy}`);
  const waits = runs.map((run) => `${run.waitingMax} with ${run.policy}`);
  const gains = others.map((other) => `${ttftGain(ours!, other).toFixed(1)}× better than ${other.policy}`);
  return [
    textTable(runs),
    "",
    `Mean time to first token: ${gains.join(", ")}.`,
    `Load: ${rate.toFixed(1)} requests/s on ${ours!.replicas} replicas; mean prompt ` +
      `${mean((r) => r.promptTokens)} tokens, mean answer ${mean((r) => r.outputTokens)}.`,
    `Prefill came to ${loads.join(", ")} of what the replicas can do in the time of the arrivals.`,
    `At most ${waits.join(", ")} requests waited.`,
  ].join("\n");
}

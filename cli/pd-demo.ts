// `npm start -- --pd`: the same load on four replicas that do everything, and on two that prefill for two that decode.
import { pdConfig } from "../host-sim/fleet/epp-pd-config.ts";
import { alignedTable, type Column, errorsText, percent, seconds, SLO } from "../host-sim/workload/report.ts";
import { defaultWorkload } from "../host-sim/workload/generate.ts";
import type { PlannedRequest, WorkloadOptions } from "../host-sim/workload/types.ts";
import { defaultEngineConfig } from "../host-sim/model-server/engine.ts";
import type { DemoFleet, DemoRun } from "./demo.ts";
import type { Supervisor } from "./processes.ts";
import { type ReplicaFleet, startReplicas } from "./replicas.ts";

/** Replicas of each role; the fleet beside has as many in all. */
export const PREFILL_REPLICAS = 2;
export const DECODE_REPLICAS = 2;
export const PD_REPLICAS = PREFILL_REPLICAS + DECODE_REPLICAS;

const ROLE_LABEL = "llm-d.ai/role";
const NIXL = ["--kv-connector", "nixl", "--strict-pd"];

/** Half of the default demonstration's replicas, and a load for them: more cold text, and as many answers. */
export function pdWorkload(overrides: Partial<WorkloadOptions> = {}): WorkloadOptions {
  return defaultWorkload({
    requests: 400,
    ratePerSecond: 11,
    shares: { chat: 0.35, agent: 0.15, document: 0.3, "one-off": 0.2 },
    ...overrides,
  });
}

/** EndpointPickerConfig, as JSON, that has the filter call prefill replicas itself. */
export function pdPickerConfig(): string {
  return pdConfig("inline", defaultEngineConfig());
}

/** Replicas with what a gateway is told of them. */
export interface PdFleet extends DemoFleet {
  readonly addresses: readonly string[];
  /** As the sidecar's static discovery takes them, with their roles. */
  readonly endpoints: readonly object[];
}

/** Starts both fleets; only the one that is measured is asked for anything. @throws as startReplicas */
export async function startPdFleets(
  supervisor: Supervisor,
): Promise<{ readonly split: PdFleet; readonly whole: PdFleet }> {
  const start = (count: number, options: readonly string[]): Promise<ReplicaFleet> =>
    startReplicas(supervisor, count, options);
  const [prefill, decode, whole] = await Promise.all([
    start(PREFILL_REPLICAS, [...NIXL, "--role", "prefill"]),
    start(DECODE_REPLICAS, [...NIXL, "--role", "decode"]),
    start(PD_REPLICAS, []),
  ]);
  return {
    split: fleetOf([
      [prefill, "prefill"],
      [decode, "decode"],
    ]),
    whole: fleetOf([[whole, "both"]]),
  };
}

function fleetOf(parts: readonly (readonly [ReplicaFleet, string])[]): PdFleet {
  const endpoints = parts.flatMap(([{ addresses }, role]) =>
    addresses.map((text) => {
      const [address, port] = text.split(":");
      return { address, port: Number(port), labels: { [ROLE_LABEL]: role } };
    }),
  );
  return {
    size: endpoints.length,
    addresses: parts.flatMap(([{ addresses }]) => addresses),
    endpoints,
    restart: async () => void (await Promise.all(parts.map(([fleet]) => fleet.restart()))),
    status: async () => (await Promise.all(parts.map(([fleet]) => fleet.status()))).flat(),
  };
}

const COLUMNS: readonly Column<DemoRun>[] = [
  { title: "fleet", text: (run) => run.policy },
  { title: "TTFT mean s", text: (run) => seconds(run.ttftMeanS) },
  { title: "p99", text: (run) => seconds(run.ttftP99S) },
  { title: "TPOT p50 ms", text: (run) => run.tpotP50Ms.toFixed(1) },
  { title: "p99", text: (run) => run.tpotP99Ms.toFixed(1) },
  { title: "in both SLOs", text: (run) => percent(run.inSlo) },
  { title: "E2E p50 s", text: (run) => seconds(run.e2eP50S) },
  { title: "tokens/s", text: (run) => run.outputTokensPerSecond.toFixed(0) },
  { title: "prompts handed over", text: (run) => String(run.handedOver) },
  { title: "errors", text: errorsText },
];

/** The table and what to read from it. */
export function describePdDemo(runs: readonly DemoRun[], plan: readonly PlannedRequest[]): string {
  const mean = (of: (request: PlannedRequest) => number): string => {
    const value = plan.reduce((total, each) => total + of(each), 0) / plan.length;
    return Math.round(value).toLocaleString("en-US");
  };
  const rate = (plan.length / plan.at(-1)!.atMs) * 1000;
  return [
    alignedTable(runs, COLUMNS),
    "",
    `SLOs: first token within ${SLO.ttftMs / 1000} s, and at most ${SLO.tpotMs} ms from token to token on average.`,
    `Load: ${rate.toFixed(1)} requests/s on ${PD_REPLICAS} replicas; mean prompt ` +
      `${mean((r) => r.promptTokens)} tokens, mean answer ${mean((r) => r.outputTokens)}.`,
  ].join("\n");
}

// Prefill called by the filter beside prefill left to the pods' sidecars: what both legs cost in Envoy, at 100 KB bodies.
//
// The replicas answer at once, so the difference is the filter's and Envoy's work: holding the body, the call, the edits.
import { disaggregation } from "../envoy/disagg.ts";
import { ROLE_DECODE, ROLE_PREFILL } from "../../assembly/wire/snapshot.ts";
import { type Load, startLoad, startReplicas } from "./support/child.ts";
import { pin, place } from "./support/cpu.ts";
import { benchEnvoy, type Gateway, startGateway } from "./support/gateway.ts";
import type { LoadResult } from "./support/messages.ts";
import { benchOptions } from "./support/options.ts";
import { printFigures, printHead } from "./support/report.ts";

const SIZE = "100 KB";
const CONNECTIONS = 16;
const ENDPOINTS = 8;
const WARM_UP_SECONDS = 2;
/** What the call may add to a request's CPU, µs: one more request of 100 KB and two edits. */
const CPU_MICROS_MAX = 400;
/** And to the time of a request that is alone, besides the prefill leg itself, ms. */
const ALONE_MS_MAX = 0.3;

interface Round extends LoadResult {
  readonly cpuMicros: number;
}

/** One closed loop. @throws when a request failed */
async function run(load: Load, port: number, connections: number, seconds: number): Promise<LoadResult> {
  const task = { kind: "closed", size: SIZE, connections, chunks: 0, seconds } as const;
  const result = await load.run({ ...task, port });
  if (result.errors > 0) throw new Error(`${result.errors} failed requests on port ${port}`);
  return result;
}

async function round(gateway: Gateway, load: Load, seconds: number): Promise<Round> {
  return gateway.during(async () => {
    const before = await gateway.cpu();
    const result = await run(load, gateway.envoy.port, CONNECTIONS, seconds);
    return { ...result, cpuMicros: ((await gateway.cpu()) - before) / result.requests };
  });
}

/** Median times of requests that are alone, ms: in both modes, and of the leg, the same body straight to a replica. */
async function alone(
  [inline, headers]: readonly Gateway[],
  replica: string,
  load: Load,
  seconds: number,
): Promise<{ readonly inlineMs: number; readonly headersMs: number; readonly legMs: number }> {
  const through = (gateway: Gateway): Promise<LoadResult> =>
    gateway.during(() => run(load, gateway.envoy.port, 1, seconds));
  const { p50Ms: inlineMs } = await through(inline!);
  const { p50Ms: headersMs } = await through(headers!);
  const { p50Ms: legMs } = await run(load, Number(replica.split(":").at(-1)), 1, seconds);
  return { inlineMs, headersMs, legMs };
}

const options = benchOptions("disagg", { rounds: 5, seconds: 4 });
const { path: envoyPath, version } = await benchEnvoy();
await printHead("Prefill inline, beside prefill by headers", {
  envoy: version,
  command: options.command,
  rounds: `${options.rounds} of each, ${options.seconds} s, in turns; ${SIZE} bodies, every prompt disaggregated`,
});
const placement = place(1, false);
const replicas = await startReplicas(ENDPOINTS);
const load = startLoad();
const started: Gateway[] = [];
try {
  for (const pid of [process.pid, replicas.pid, load.pid]) await pin(pid, placement.rest);
  for (const mode of ["inline", "headers"]) {
    const pluginConfig = disaggregation({ parameters: { mode } });
    started.push(
      await startGateway({
        name: mode,
        envoyPath,
        endpoints: replicas.addresses,
        workers: 1,
        placement,
        wasmPath: options.wasmPath,
        pluginConfig,
        fields: (index) => ({ roles: index % 2 === 0 ? ROLE_DECODE : ROLE_PREFILL }),
      }),
    );
  }
  const rounds: [Round[], Round[]] = [[], []];
  for (const gateway of started) await round(gateway, load, Math.min(WARM_UP_SECONDS, options.seconds));
  for (let i = 0; i < options.rounds; i++) {
    for (const which of i % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      rounds[which].push(await round(started[which]!, load, options.seconds));
    }
  }
  const [inline, headers] = rounds;
  const added = (of: (round: Round) => number): number[] => inline.map((one, i) => of(one) - of(headers[i]!));
  printFigures(`${SIZE} body, ${ENDPOINTS} endpoints, closed loop of ${CONNECTIONS} connections`, [
    {
      name: "CPU added a request",
      unit: "µs",
      values: added((one) => one.cpuMicros),
      target: { atMost: CPU_MICROS_MAX },
    },
    { name: "· inline", unit: "µs", values: inline.map((one) => one.cpuMicros) },
    { name: "· headers", unit: "µs", values: headers.map((one) => one.cpuMicros) },
    { name: "time to last byte, p50 / inline", unit: "ms", values: inline.map((one) => one.p50Ms) },
    { name: "time to last byte, p50 / headers", unit: "ms", values: headers.map((one) => one.p50Ms) },
    { name: "throughput / inline", unit: "req/s", values: inline.map((one) => one.requests / one.seconds) },
    { name: "throughput / headers", unit: "req/s", values: headers.map((one) => one.requests / one.seconds) },
  ]);
  const single: Awaited<ReturnType<typeof alone>>[] = [];
  for (let i = 0; i < options.rounds; i++) {
    single.push(await alone(started, replicas.addresses[0]!, load, options.seconds));
  }
  printFigures(`${SIZE} body, one connection: time to last byte, p50`, [
    {
      name: "added by inline besides the leg",
      unit: "ms",
      values: single.map(({ inlineMs, headersMs, legMs }) => inlineMs - headersMs - legMs),
      target: { atMost: ALONE_MS_MAX },
    },
    { name: "· inline", unit: "ms", values: single.map(({ inlineMs }) => inlineMs) },
    { name: "· headers", unit: "ms", values: single.map(({ headersMs }) => headersMs) },
    {
      name: "· the leg, the body straight to a replica",
      unit: "ms",
      values: single.map(({ legMs }) => legMs),
    },
  ]);
} finally {
  for (const gateway of started) await gateway.stop();
  load.stop();
  replicas.stop();
}

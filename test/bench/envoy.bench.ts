// The filter inside Envoy beside the same Envoy without it: CPU and memory a request, throughput, latency.
import { SIZES, type SizeName } from "./support/bodies.ts";
import { type Load, startLoad, startReplicas } from "./support/child.ts";
import { pin, place } from "./support/cpu.ts";
import { benchEnvoy, type Gateway, startGateway } from "./support/gateway.ts";
import type { LoadResult, LoadTask } from "./support/messages.ts";
import { benchOptions, type BenchOptions } from "./support/options.ts";
import { type Figure, printFigures, printHead } from "./support/report.ts";

const CONNECTIONS = 16;
/** Long enough that V8's optimising compiler is done with the filter. */
const WARM_UP_SECONDS = 2;
const OPEN_LOOP_PER_SECOND = 200;

/** Per size: CPU added a request (µs) with 8 endpoints, throughput (% of plain), added median latency (ms). */
const TARGETS: Record<SizeName, { cpu: number; throughput: number; latency?: number }> = {
  "1 KB": { cpu: 45, throughput: 70, latency: 0.15 },
  "20 KB": { cpu: 60, throughput: 78 },
  "220 KB": { cpu: 150, throughput: 82, latency: 0.4 },
};
/** What 256 endpoints may cost, as a multiple of the target for 8. */
const MANY_ENDPOINTS_FACTOR = 1.5;

interface Case {
  readonly endpoints: number;
  readonly workers: number;
  /**
   * True: proxy, client and replicas share the first two cores, so that what the filter takes is weighed against
   * a whole machine's work. False: the proxy has its core alone, and throughput shows its CPU and nothing else.
   */
  readonly isShared: boolean;
  /** Also measure latency at a modest, fixed rate. */
  readonly isOpenLoop: boolean;
}
const CASES: readonly Case[] = [
  { endpoints: 8, workers: 1, isShared: false, isOpenLoop: true },
  { endpoints: 256, workers: 1, isShared: false, isOpenLoop: false },
  { endpoints: 8, workers: 2, isShared: true, isOpenLoop: false },
];

/** One round of one proxy. */
interface Round extends LoadResult {
  readonly cpuMicros: number;
  readonly perSecond: number;
  readonly proxyUtilisation: number;
}

async function round(gateway: Gateway, load: Load, task: LoadTask): Promise<Round> {
  return gateway.during(async () => {
    const before = await gateway.cpu();
    const result = await load.run(task);
    const used = (await gateway.cpu()) - before;
    if (result.errors > 0) throw new Error(`${result.errors} failed requests through ${gateway.name}`);
    return {
      ...result,
      cpuMicros: used / result.requests,
      perSecond: result.requests / result.seconds,
      proxyUtilisation: used / 1e6 / result.seconds,
    };
  });
}

/** Rounds of both proxies in turns; which of them goes first alternates too. */
async function alternate(
  pair: readonly [Gateway, Gateway],
  load: Load,
  rounds: number,
  task: (gateway: Gateway) => LoadTask,
): Promise<[Round[], Round[]]> {
  const results: [Round[], Round[]] = [[], []];
  for (let i = 0; i < rounds; i++) {
    for (const which of i % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
      results[which].push(await round(pair[which], load, task(pair[which])));
    }
  }
  return results;
}

function pairwise(
  ours: readonly Round[],
  plain: readonly Round[],
  by: (a: Round, b: Round) => number,
): number[] {
  return ours.map((a, i) => by(a, plain[i]!));
}

function closedFigures(
  size: SizeName,
  { endpoints, isShared }: Case,
  ours: Round[],
  plain: Round[],
): Figure[] {
  const { cpu, throughput } = TARGETS[size];
  const isMany = endpoints > 8;
  const cpuTarget = { atMost: isMany ? cpu * MANY_ENDPOINTS_FACTOR : cpu };
  const added = pairwise(ours, plain, (a, b) => a.cpuMicros - b.cpuMicros);
  const kept = pairwise(ours, plain, (a, b) => (a.perSecond / b.perSecond) * 100);
  return [
    { name: "CPU added a request", unit: "µs", values: added, target: isShared ? undefined : cpuTarget },
    { name: "· with the filter", unit: "µs", values: ours.map((r) => r.cpuMicros) },
    { name: "· without", unit: "µs", values: plain.map((r) => r.cpuMicros) },
    {
      name: "throughput kept",
      unit: "%",
      values: kept,
      target: isShared && !isMany ? { atLeast: throughput } : undefined,
    },
    { name: "· with the filter", unit: "req/s", values: ours.map((r) => r.perSecond) },
    { name: "· without", unit: "req/s", values: plain.map((r) => r.perSecond) },
    { name: "time to last byte p50 / with", unit: "ms", values: ours.map((r) => r.p50Ms) },
    { name: "time to last byte p50 / without", unit: "ms", values: plain.map((r) => r.p50Ms) },
    { name: "time to last byte p99 / with", unit: "ms", values: ours.map((r) => r.p99Ms) },
    { name: "time to last byte p99 / without", unit: "ms", values: plain.map((r) => r.p99Ms) },
    { name: "proxy's core use / with", unit: "cores", values: ours.map((r) => r.proxyUtilisation) },
    { name: "proxy's core use / without", unit: "cores", values: plain.map((r) => r.proxyUtilisation) },
    { name: "client's core use / with", unit: "cores", values: ours.map((r) => r.utilisation) },
    { name: "client's core use / without", unit: "cores", values: plain.map((r) => r.utilisation) },
  ];
}

function openFigures(size: SizeName, ours: Round[], plain: Round[]): Figure[] {
  const { latency } = TARGETS[size];
  return [
    {
      name: "latency added, p50",
      unit: "ms",
      values: pairwise(ours, plain, (a, b) => a.p50Ms - b.p50Ms),
      target: latency === undefined ? undefined : { atMost: latency },
    },
    { name: "latency added, p99", unit: "ms", values: pairwise(ours, plain, (a, b) => a.p99Ms - b.p99Ms) },
    { name: "p50 with / the filter", unit: "ms", values: ours.map((r) => r.p50Ms) },
    { name: "p50 without", unit: "ms", values: plain.map((r) => r.p50Ms) },
  ];
}

async function measure(options: BenchOptions, envoyPath: string, shape: Case): Promise<void> {
  const { endpoints, workers } = shape;
  const placement = place(workers, shape.isShared);
  const replicas = await startReplicas(endpoints);
  const load = startLoad();
  const started: Gateway[] = [];
  try {
    for (const pid of [process.pid, replicas.pid, load.pid]) await pin(pid, placement.rest);
    const common = { envoyPath, endpoints: replicas.addresses, workers, placement };
    const ours = await startGateway({ ...common, name: "the filter", wasmPath: options.wasmPath });
    started.push(ours);
    const plain = await startGateway({ ...common, name: "plain Envoy" });
    started.push(plain);
    process.stdout.write(
      `\n${endpoints} endpoints, ${workers} worker${workers > 1 ? "s" : ""}; ${placement.text}\n`,
    );
    for (const size of Object.keys(SIZES) as SizeName[])
      await measureSize(options, shape, size, [ours, plain], load);
    const memory = [await ours.residentMib(), await plain.residentMib()] as const;
    const status = (await ours.status()) as { workers?: unknown };
    printFigures(`${endpoints} endpoints, after all sizes`, [
      { name: "memory with the filter", unit: "MiB", values: [memory[0]] },
      { name: "memory without", unit: "MiB", values: [memory[1]] },
    ]);
    if (process.env["EPP_BENCH_STATUS"] !== undefined)
      process.stdout.write(`${JSON.stringify(status, null, 1)}\n`);
  } finally {
    for (const gateway of started) await gateway.stop();
    load.stop();
    replicas.stop();
  }
}

async function measureSize(
  options: BenchOptions,
  shape: Case,
  size: SizeName,
  pair: [Gateway, Gateway],
  load: Load,
): Promise<void> {
  const closed = (gateway: Gateway, seconds: number): LoadTask => ({
    kind: "closed",
    port: gateway.envoy.port,
    size,
    connections: CONNECTIONS,
    seconds,
    chunks: 0,
  });
  for (const gateway of pair)
    await round(gateway, load, closed(gateway, Math.min(WARM_UP_SECONDS, options.seconds)));
  const [ours, plain] = await alternate(pair, load, options.rounds, (gateway) =>
    closed(gateway, options.seconds),
  );
  const title = `${size} body, ${shape.endpoints} endpoints`;
  printFigures(
    `${title}, closed loop of ${CONNECTIONS} connections`,
    closedFigures(size, shape, ours, plain),
  );
  if (!shape.isOpenLoop) return;
  const open = (gateway: Gateway): LoadTask => ({
    kind: "open",
    port: gateway.envoy.port,
    size,
    perSecond: OPEN_LOOP_PER_SECOND,
    seconds: options.seconds,
  });
  const [oursOpen, plainOpen] = await alternate(pair, load, options.rounds, open);
  printFigures(`${title}, ${OPEN_LOOP_PER_SECOND} requests a second`, openFigures(size, oursOpen, plainOpen));
}

const options = benchOptions("envoy", { rounds: 5, seconds: 4 });
const envoy = await benchEnvoy();
await printHead("Envoy with the filter, beside the same Envoy without", {
  envoy: envoy.version,
  command: options.command,
  rounds: `${options.rounds} of each, ${options.seconds} s, in turns; snapshots at 20 Hz, all of the filter's functions on`,
});
for (const shape of CASES) await measure(options, envoy.path, shape);

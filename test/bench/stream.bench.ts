// CPU of a streamed chunk: the filter with every stream sampled, with none, and Envoy without the filter.
import { type Load, startLoad, startReplicas } from "./support/child.ts";
import { pin, place } from "./support/cpu.ts";
import { benchEnvoy, type Gateway, startGateway } from "./support/gateway.ts";
import { benchOptions } from "./support/options.ts";
import { type Figure, printFigures, printHead } from "./support/report.ts";

const ENDPOINTS = 8;
const STREAMS = 32;
/** Events of one answer. */
const CHUNKS = 200;
const WARM_UP_SECONDS = 2;
/** µs added a chunk when the stream is not sampled. */
const TARGET_MICROS = 2;

interface Round {
  readonly microsAChunk: number;
  /** Socket reads a chunk at the client: below 1, chunks arrived together. */
  readonly readsAChunk: number;
}

/** The filter's settings with every `every`-th stream's answer read for usage; 0 = none. */
function settings(every: number): string {
  return JSON.stringify({
    apiVersion: "inference.networking.x-k8s.io/v1alpha1",
    kind: "EndpointPickerConfig",
    plugins: [{ type: "epp-wasm-gateway", parameters: { responseSampleEvery: every } }],
  });
}

async function round(gateway: Gateway, load: Load, seconds: number): Promise<Round> {
  return gateway.during(async () => {
    const before = await gateway.cpu();
    const { port } = gateway.envoy;
    const result = await load.run({
      kind: "closed",
      port,
      size: "1 KB",
      connections: STREAMS,
      seconds,
      chunks: CHUNKS,
    });
    const used = (await gateway.cpu()) - before;
    if (result.errors > 0) throw new Error(`${result.errors} failed streams through ${gateway.name}`);
    const chunks = result.requests * CHUNKS;
    return { microsAChunk: used / chunks, readsAChunk: result.reads / chunks };
  });
}

function figures(gateways: readonly Gateway[], results: readonly Round[][]): Figure[] {
  const plain = results.at(-1)!;
  const added = (rounds: readonly Round[]): number[] =>
    rounds.map(({ microsAChunk }, i) => microsAChunk - plain[i]!.microsAChunk);
  return [
    { name: "added, not sampled", unit: "µs", values: added(results[0]!), target: { atMost: TARGET_MICROS } },
    { name: "added, sampled", unit: "µs", values: added(results[1]!) },
    ...gateways.flatMap(({ name }, i) => [
      { name: `a chunk, ${name}`, unit: "µs", values: results[i]!.map((r) => r.microsAChunk) },
      {
        name: `reads a chunk at the client, ${name}`,
        unit: "",
        values: results[i]!.map((r) => r.readsAChunk),
      },
    ]),
  ];
}

const options = benchOptions("stream", { rounds: 5, seconds: 4 });
const envoy = await benchEnvoy();
const placement = place(1);
await printHead("A streamed chunk through Envoy with the filter and without", {
  envoy: envoy.version,
  command: options.command,
  rounds: `${options.rounds} of each, ${options.seconds} s, in turns; ${placement.text}`,
});
const replicas = await startReplicas(ENDPOINTS);
const load = startLoad();
const gateways: Gateway[] = [];
try {
  for (const pid of [process.pid, replicas.pid, load.pid]) await pin(pid, placement.rest);
  const common = { envoyPath: envoy.path, endpoints: replicas.addresses, workers: 1, placement };
  const { wasmPath } = options;
  gateways.push(
    await startGateway({ ...common, name: "not sampled", wasmPath, pluginConfig: settings(0) }),
    await startGateway({ ...common, name: "sampled", wasmPath, pluginConfig: settings(1) }),
    await startGateway({ ...common, name: "without the filter" }),
  );
  for (const gateway of gateways) await round(gateway, load, Math.min(WARM_UP_SECONDS, options.seconds));
  const results = gateways.map((): Round[] => []);
  for (let i = 0; i < options.rounds; i++) {
    for (let k = 0; k < gateways.length; k++) {
      const which = (i + k) % gateways.length;
      results[which]!.push(await round(gateways[which]!, load, options.seconds));
    }
  }
  printFigures(`CPU a chunk, ${STREAMS} streams at once, ${CHUNKS} chunks each`, figures(gateways, results));
} finally {
  for (const gateway of gateways) await gateway.stop();
  load.stop();
  replicas.stop();
}

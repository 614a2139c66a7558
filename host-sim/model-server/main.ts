// One process that hosts simulated model servers: `node build/model-server.mjs --replicas 8`.
import { Command, InvalidArgumentError, Option } from "commander";
import { addressOf, serveAdmin } from "./admin.ts";
import {
  type ConnectorKind,
  type DisaggregationConfig,
  type DisaggregationRole,
  noDisaggregation,
} from "./disaggregation/config.ts";
import { defaultEngineConfig } from "./engine.ts";
import { type KvEventsConfig, kvEventsConfig } from "./kv-events/config.ts";
import { replicaConfig } from "./replica-types.ts";
import { SimulatedReplica } from "./server.ts";

/** Replicas of one process. More would measure this process, not the proxy before it. */
const REPLICAS_MAX = 64;
/** How often the process looks whether its parent lives. */
const PARENT_CHECK_MS = 500;

interface Flags {
  replicas: number;
  port: number;
  adminPort: number;
  model: string;
  lora: string[];
  maxModelLen: number;
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  numGpuBlocks: number;
  maxNumQueuedReqs?: number;
  dataParallelSize: number;
  kvConnector: ConnectorKind;
  role: DisaggregationRole;
  strictPd?: boolean;
  sidePort: number;
  kvEvents?: boolean;
  kvEventsPort: number;
  kvEventsReplayPort: number;
  kvEventsTopic: string;
  kvEventsEncoding: KvEventsConfig["encoding"];
  kvEventsHashes: KvEventsConfig["hashes"];
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError("expected a whole number ≥ 0");
  return value;
}

function readFlags(argv: readonly string[]): Flags {
  const engine = defaultEngineConfig();
  const base = replicaConfig();
  return new Command("model-server")
    .description(
      "Simulated vLLM servers. Prints one JSON line with their addresses and serves until SIGTERM.",
    )
    .option("--replicas <n>", `servers in this process, 1 to ${REPLICAS_MAX}`, wholeNumber, 1)
    .option("--port <n>", "port of the first server, the others follow; 0 = free ports", wholeNumber, 0)
    .option("--admin-port <n>", "control port on 127.0.0.1; 0 = a free one", wholeNumber, 0)
    .option("--model <name>", "served model", base.modelName)
    .option("--lora <names...>", "LoRA modules", [])
    .option("--max-model-len <n>", "context in tokens", wholeNumber, base.modelTokensMax)
    .option("--max-num-seqs <n>", "sequences in a batch", wholeNumber, engine.sequencesMax)
    .option("--max-num-batched-tokens <n>", "token budget of a step", wholeNumber, engine.batchedTokensMax)
    .option("--num-gpu-blocks <n>", "KV blocks of 16 tokens", wholeNumber, engine.blockCount)
    .option("--max-num-queued-reqs <n>", "requests in flight before 503", wholeNumber)
    .option("--data-parallel-size <n>", "engines a server", wholeNumber, 1)
    .addOption(
      new Option("--kv-connector <kind>", "protocol by which prefillers give KV blocks to decoders")
        .choices(["none", "nixl", "sglang"])
        .default("none"),
    )
    .addOption(
      new Option("--role <role>", "what the servers are for")
        .choices(["prefill", "decode", "both"])
        .default("both"),
    )
    .option("--strict-pd", "refuse legs that a real server would answer from the wrong blocks")
    .option(
      "--side-port <n>",
      "port of the first server's side channel (vLLM's is 5600, SGLang's bootstrap server 8998); 0 = free ports",
      wholeNumber,
      0,
    )
    .option("--kv-events", "publish what the caches hold over ZeroMQ")
    .option(
      "--kv-events-port <n>",
      "port of the first server's first publisher (vLLM's is 5557), the others follow; 0 = free ports",
      wholeNumber,
      0,
    )
    .option("--kv-events-replay-port <n>", "the same of the replay sockets", wholeNumber, 0)
    .option("--kv-events-topic <text>", "topic of the events", "")
    .addOption(
      new Option("--kv-events-encoding <kind>", "events as maps, or as older engines write them")
        .choices(["map", "array"])
        .default("map"),
    )
    .addOption(
      new Option("--kv-events-hashes <kind>", "how block hashes are written")
        .choices(["uint64", "int64", "bytes"])
        .default("uint64"),
    )
    .parse(argv)
    .opts<Flags>();
}

function createReplica(flags: Flags, index: number): SimulatedReplica {
  const engine = {
    ...defaultEngineConfig(),
    sequencesMax: flags.maxNumSeqs,
    batchedTokensMax: flags.maxNumBatchedTokens,
    blockCount: flags.numGpuBlocks,
  };
  return new SimulatedReplica(
    replicaConfig({
      name: `replica-${index}`,
      modelName: flags.model,
      loraModules: flags.lora,
      port: flags.port === 0 ? 0 : flags.port + index,
      engine,
      dataParallelSize: flags.dataParallelSize,
      modelTokensMax: flags.maxModelLen,
      requestsMax: flags.maxNumQueuedReqs ?? Number.POSITIVE_INFINITY,
      disaggregation: disaggregationOf(flags, index),
      kvEvents: flags.kvEvents === true ? kvEventsOf(flags, index) : null,
    }),
  );
}

function disaggregationOf(flags: Flags, index: number): DisaggregationConfig {
  return {
    ...noDisaggregation(),
    connector: flags.kvConnector,
    role: flags.role,
    strict: flags.strictPd ?? false,
    sidePort: flags.sidePort === 0 ? 0 : flags.sidePort + index,
  };
}

function kvEventsOf(flags: Flags, index: number): KvEventsConfig {
  const of = (first: number): number => (first === 0 ? 0 : first + index * flags.dataParallelSize);
  return kvEventsConfig({
    port: of(flags.kvEventsPort),
    replayPort: of(flags.kvEventsReplayPort),
    topic: flags.kvEventsTopic,
    encoding: flags.kvEventsEncoding,
    hashes: flags.kvEventsHashes,
  });
}

// An orphan is re-parented, so a changed parent id means that the parent died.
function exitWithParent(): void {
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) process.exit(0);
  }, PARENT_CHECK_MS).unref();
}

async function main(): Promise<void> {
  const flags = readFlags(process.argv);
  if (flags.replicas < 1 || flags.replicas > REPLICAS_MAX) {
    throw new RangeError(`--replicas is ${flags.replicas}, expected 1 to ${REPLICAS_MAX}`);
  }
  if (flags.kvConnector === "sglang" && flags.role === "both") {
    throw new RangeError("--role is both, expected prefill or decode with --kv-connector sglang");
  }
  const replicas = Array.from({ length: flags.replicas }, (_, index) => createReplica(flags, index));
  for (const replica of replicas) await replica.start();
  const admin = await serveAdmin(replicas, flags.adminPort);
  exitWithParent();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => process.exit(0));
  const addresses = replicas.map((replica) => replica.address);
  process.stdout.write(`${JSON.stringify({ addresses, admin: addressOf(admin) })}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`model-server: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

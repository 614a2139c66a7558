// Benchmark of KV events: what one core reads, checks and applies, and what a kept block costs in memory.
//
//   npm run bench -- kv-events
//
// Batches as an engine publishes them under load: each stores the blocks of one prompt, and beyond the cache's size
// removes as many of the oldest. Both encodings, in turns; decoding alone beside decoding and applying. No sockets.
import { encodeBatch, type PublishedEvent } from "../../host-sim/model-server/kv-events/encode.ts";
import type { KvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { NO_SINK } from "../../sidecar/kv-events/block-sink.ts";
import { decodeBatch } from "../../sidecar/kv-events/decode.ts";
import { BLOCKS_MAX } from "../../sidecar/kv-events/limits.ts";
import { ReplicaBlocks } from "../../sidecar/kv-events/replica-blocks.ts";
import { ReplicaState } from "../../sidecar/kv-events/replica-state.ts";
import { TokenTable } from "../../sidecar/kv-events/token-table.ts";
import { benchOptions } from "./support/options.ts";
import { printFigures, printHead } from "./support/report.ts";

const BLOCK_TOKENS = 16;
/** KV cache of a model of 70 billion parameters on two GPUs: 600,000 tokens, in whole prompts. */
const CACHE_BLOCKS = 37_504;
/** Prompts of 2,048 tokens, of which a half is new. */
const NEW_BLOCKS = 64;
const BATCHES = 4_096;
/** Ids are drawn as the cube of a uniform number says: half of all tokens are an eighth of the vocabulary. */
const VOCABULARY = 128_000;
const TOKEN_BYTES = 4;
const MEMORY_BLOCKS = 100_000;

type Form = Pick<KvEventsConfig, "encoding" | "hashes">;

/** Messages of an engine that has been full since half of them. */
function messages(form: Form): Uint8Array[] {
  const random = new Random(7);
  const stored: number[] = [];
  let next = 1;
  let removed = 0;
  return Array.from({ length: BATCHES }, (_, batch) => {
    const hashes = Array.from({ length: NEW_BLOCKS }, () => next++);
    stored.push(...hashes);
    const events: PublishedEvent[] = [];
    for (; stored.length - removed > CACHE_BLOCKS; removed++) {
      events.push({ type: "BlockRemoved", hash: stored[removed]! });
    }
    const tokens = Array.from({ length: NEW_BLOCKS * BLOCK_TOKENS }, () =>
      Math.floor(VOCABULARY * random.uniform() ** 3),
    );
    const place = { parent: null, lora: null, cacheSalt: null };
    events.push({ type: "BlockStored", hashes, tokens, blockSize: BLOCK_TOKENS, ...place });
    return encodeBatch(events, 1_000 + batch, 0, form);
  });
}

function vocabulary(): TokenTable {
  const table = new TokenTable({ dropsFirstSpace: false });
  for (let id = 0; id < VOCABULARY; id++) table.add(id, Buffer.from(id.toString(36).padStart(TOKEN_BYTES)));
  return table;
}

function view(tokens: TokenTable): ReplicaBlocks {
  const replica = { address: "10.0.0.1:8000", rank: 0 };
  return new ReplicaBlocks({
    replica,
    tokens,
    state: new ReplicaState(),
    sink: NO_SINK,
    blocksMax: BLOCKS_MAX,
  });
}

interface Sample {
  readonly eventsPerSecond: number;
  readonly tokensPerSecond: number;
}

/** Repeats all messages for a while, into a new view each time. */
function measure(all: readonly Uint8Array[], tokens: TokenTable | null, seconds: number): Sample {
  let events = 0;
  let passes = 0;
  const startedAt = performance.now();
  while (performance.now() - startedAt < seconds * 1_000) {
    const blocks = tokens === null ? null : view(tokens);
    for (const message of all) {
      const batch = decodeBatch(message);
      events += batch.events.length;
      if (blocks !== null) for (const event of batch.events) blocks.apply(event);
    }
    if (blocks !== null && blocks.size !== CACHE_BLOCKS)
      throw new Error(`the view has ${blocks.size} blocks`);
    passes += 1;
  }
  const elapsed = (performance.now() - startedAt) / 1_000;
  return {
    eventsPerSecond: events / elapsed,
    tokensPerSecond: (passes * BATCHES * NEW_BLOCKS * BLOCK_TOKENS) / elapsed,
  };
}

/** Bytes of memory that a kept block of 16 tokens and 64 bytes of text takes. */
function memoryPerBlock(tokens: TokenTable): number {
  const used = (): number => {
    globalThis.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = used();
  const blocks = view(tokens);
  for (let first = 0; first < MEMORY_BLOCKS; first += NEW_BLOCKS) {
    const hashes = Array.from({ length: NEW_BLOCKS }, (_, i) => BigInt(first + i) * 0x9e3779b97f4a7c15n);
    blocks.apply({
      kind: "stored",
      hashes: hashes.map((hash) => BigInt.asUintN(64, hash)),
      parent: null,
      tokens: Array.from({ length: NEW_BLOCKS * BLOCK_TOKENS }, (_, i) => (first + i) % VOCABULARY),
      blockTokens: BLOCK_TOKENS,
      loraId: null,
      loraName: null,
      tier: "gpu",
      group: 0,
      groupKind: null,
      extraKeys: null,
    });
  }
  return (used() - before) / blocks.size;
}

async function main(): Promise<void> {
  const options = benchOptions("kv-events", { rounds: 5, seconds: 3 });
  const forms: readonly Form[] = [
    { encoding: "map", hashes: "uint64" },
    { encoding: "array", hashes: "int64" },
    { encoding: "map", hashes: "bytes" },
  ];
  await printHead("KV events read, checked and applied by one core", {
    command: options.command,
    rounds: `${options.rounds} of each, ${options.seconds} s, in turns`,
    batches: `${NEW_BLOCKS} blocks of ${BLOCK_TOKENS} tokens stored, as many removed; ${CACHE_BLOCKS} blocks held`,
  });
  const tokens = vocabulary();
  const cases = forms.flatMap((form) => {
    const all = messages(form);
    const name = `${form.encoding}, ${form.hashes}`;
    return [
      { name: `${name}: decoded and applied`, all, tokens },
      { name: `${name}: decoded alone`, all, tokens: null },
    ];
  });
  const samples = cases.map((): Sample[] => []);
  for (let round = 0; round < options.rounds; round++) {
    for (const [index, each] of cases.entries()) {
      samples[index]!.push(measure(each.all, each.tokens, options.seconds));
    }
  }
  for (const [index, { name }] of cases.entries()) {
    printFigures(name, [
      { name: "events", unit: "a second", values: samples[index]!.map((sample) => sample.eventsPerSecond) },
      { name: "tokens", unit: "a second", values: samples[index]!.map((sample) => sample.tokensPerSecond) },
    ]);
  }
  const memory = Array.from({ length: options.rounds }, () => memoryPerBlock(tokens));
  printFigures("memory", [{ name: "a kept block of 64 bytes of text", unit: "bytes", values: memory }]);
}

await main();

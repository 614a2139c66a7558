// Benchmark of KV events: what one core reads, checks and applies, what the exact index adds to it, and what a kept
// block and a cell cost in memory.
//
//   npm run bench -- kv-events
//
// Batches as an engine publishes them under load: each stores the blocks of one prompt, and beyond the cache's size
// removes as many of the oldest. Both encodings, in turns; decoding alone, decoding and applying, and all of it up to the
// batches for the gateway, of which one is written for every few messages. No sockets.
import { encodeBatch, type PublishedEvent } from "../../host-sim/model-server/kv-events/encode.ts";
import type { KvEventsConfig } from "../../host-sim/model-server/kv-events/config.ts";
import { Random } from "../../host-sim/workload/random.ts";
import { type BlockSink, NO_SINK } from "../../sidecar/kv-events/block-sink.ts";
import { decodeBatch } from "../../sidecar/kv-events/decode.ts";
import { BLOCKS_MAX } from "../../sidecar/kv-events/limits.ts";
import { ReplicaBlocks } from "../../sidecar/kv-events/replica-blocks.ts";
import { ReplicaState } from "../../sidecar/kv-events/replica-state.ts";
import { TokenTable } from "../../sidecar/kv-events/token-table.ts";
import { BatchComposer } from "../../sidecar/kv-index/composer.ts";
import { EntryBudget } from "../../sidecar/kv-index/entry-budget.ts";
import { KvIndex } from "../../sidecar/kv-index/kv-index.ts";
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
/** Three quarters of what the tables take that they have grown to by then. */
const MEMORY_BLOCKS = 98_304;
/** Messages for which one batch is written: 20 ms of 8,000 blocks stored and as many removed a second. */
const MESSAGES_A_BATCH = 3;
const REPLICA = { address: "10.0.0.1:8000", rank: 0 };
const PLACES = new Map([[REPLICA.address, { slot: 0, generation: 1 }]]);
const SESSION = Buffer.alloc(8, 1);

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

function view(tokens: TokenTable, sink: BlockSink): ReplicaBlocks {
  return new ReplicaBlocks({
    replica: REPLICA,
    tokens,
    state: new ReplicaState(),
    sink,
    blocksMax: BLOCKS_MAX,
  });
}

/** An index whose engine is exact, with what makes its batches. */
function indexed(): { index: KvIndex; composer: BatchComposer } {
  const index = new KvIndex(new EntryBudget(), () => 0);
  index.followed(REPLICA);
  index.state(REPLICA, null);
  return { index, composer: new BatchComposer(index) };
}

interface Sample {
  readonly blocksPerSecond: number;
  readonly eventsPerSecond: number;
  readonly tokensPerSecond: number;
}

/** How far messages are followed. */
type Depth = "decoded alone" | "decoded and applied" | "decoded, applied and indexed";
const DEPTHS: readonly Depth[] = ["decoded, applied and indexed", "decoded and applied", "decoded alone"];

/** Repeats all messages for a while, into a new view each time. */
function measure(all: readonly Uint8Array[], tokens: TokenTable, depth: Depth, seconds: number): Sample {
  let events = 0;
  let passes = 0;
  let told = 0;
  const startedAt = performance.now();
  while (performance.now() - startedAt < seconds * 1_000) {
    const { index, composer } = indexed();
    const blocks = view(tokens, depth === "decoded, applied and indexed" ? index : NO_SINK);
    for (const [number, message] of all.entries()) {
      const batch = decodeBatch(message);
      events += batch.events.length;
      if (depth === "decoded alone") continue;
      for (const event of batch.events) blocks.apply(event);
      if (depth === "decoded and applied" || number % MESSAGES_A_BATCH > 0) continue;
      for (let isMore = true; isMore; isMore = composer.hasMore) {
        if (composer.compose(PLACES, 0, false)) told += composer.finish(SESSION, 1).length;
      }
    }
    if (depth !== "decoded alone" && blocks.size !== CACHE_BLOCKS) {
      throw new Error(`the view has ${blocks.size} blocks`);
    }
    passes += 1;
  }
  if (depth === "decoded, applied and indexed" && told === 0) throw new Error("no batch was written");
  const elapsed = (performance.now() - startedAt) / 1_000;
  const stored = passes * BATCHES * NEW_BLOCKS;
  return {
    blocksPerSecond: (2 * stored - passes * CACHE_BLOCKS) / elapsed,
    eventsPerSecond: events / elapsed,
    tokensPerSecond: (stored * BLOCK_TOKENS) / elapsed,
  };
}

function usedBytes(): number {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Bytes of memory a kept block of 16 tokens and 64 bytes of text, all told to `sink`. */
function memoryPerBlock(tokens: TokenTable, sink: BlockSink): number {
  const before = usedBytes();
  const blocks = fill(view(tokens, sink));
  return (usedBytes() - before) / blocks.size;
}

/** The same with an index behind it: a cell a block, in nodes and tables that are as large as doubling made them. */
function memoryPerCell(tokens: TokenTable): number {
  const { index } = indexed();
  const bytes = memoryPerBlock(tokens, index);
  const { entries } = index.endpoints.get(REPLICA.address)!;
  if (entries !== MEMORY_BLOCKS) throw new Error(`${entries} cells`);
  return bytes;
}

/** The same after six times as many blocks were stored and others evicted, chains of one block at random. */
function memoryPerBlockAtRandom(tokens: TokenTable): number {
  const before = usedBytes();
  const blocks = fill(view(tokens, NO_SINK), 1);
  evictAtRandom(blocks);
  return (usedBytes() - before) / blocks.size;
}

function evictAtRandom(blocks: ReplicaBlocks): void {
  const random = new Random(7);
  const held = Float64Array.from({ length: MEMORY_BLOCKS }, (_, i) => i);
  for (let next = MEMORY_BLOCKS; next < 7 * MEMORY_BLOCKS; next++) {
    const at = Math.floor(random.uniform() * MEMORY_BLOCKS);
    blocks.apply({ kind: "removed", hashes: [hashOf(held[at]!)], tier: "gpu", group: 0 });
    held[at] = next;
    store(blocks, next, 1);
  }
}

const hashOf = (number: number): bigint => BigInt.asUintN(64, BigInt(number) * 0x9e3779b97f4a7c15n);

function fill(blocks: ReplicaBlocks, chainBlocks = NEW_BLOCKS): ReplicaBlocks {
  for (let first = 0; first < MEMORY_BLOCKS; first += chainBlocks) store(blocks, first, chainBlocks);
  return blocks;
}

/** A chain of `count` blocks, numbered from `first` on. */
function store(blocks: ReplicaBlocks, first: number, count: number): void {
  blocks.apply({
    kind: "stored",
    hashes: Array.from({ length: count }, (_, i) => hashOf(first + i)),
    parent: null,
    tokens: Array.from({ length: count * BLOCK_TOKENS }, (_, i) => (first * 17 + i * 7) % VOCABULARY),
    blockTokens: BLOCK_TOKENS,
    loraId: null,
    loraName: null,
    tier: "gpu",
    group: 0,
    groupKind: null,
    extraKeys: null,
  });
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
    return DEPTHS.map((depth) => ({ name: `${name}: ${depth}`, all, depth }));
  });
  const samples = cases.map((): Sample[] => []);
  for (let round = 0; round < options.rounds; round++) {
    for (const [index, each] of cases.entries()) {
      samples[index]!.push(measure(each.all, tokens, each.depth, options.seconds));
    }
  }
  for (const [index, { name, depth }] of cases.entries()) {
    const target = depth === "decoded, applied and indexed" ? { atLeast: 50_000 } : undefined;
    const of = (figure: keyof Sample): number[] => samples[index]!.map((sample) => sample[figure]);
    printFigures(name, [
      { name: "blocks stored or removed", unit: "a second", values: of("blocksPerSecond"), target },
      { name: "events", unit: "a second", values: of("eventsPerSecond") },
      { name: "tokens", unit: "a second", values: of("tokensPerSecond") },
    ]);
  }
  const rounds = Array.from({ length: options.rounds });
  printFigures("memory", [
    {
      name: "a kept block of 64 bytes of text",
      unit: "bytes",
      values: rounds.map(() => memoryPerBlock(tokens, NO_SINK)),
    },
    {
      name: "the same where blocks went at random",
      unit: "bytes",
      values: rounds.map(() => memoryPerBlockAtRandom(tokens)),
    },
    {
      name: "a fresh one and its cell in the index",
      unit: "bytes",
      values: rounds.map(() => memoryPerCell(tokens)),
    },
  ]);
}

await main();

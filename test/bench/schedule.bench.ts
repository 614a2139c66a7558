// The filter's own work in Node's V8: reading a body beside JSON.parse, and one decision by pool size, exact index included.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { ROOT } from "../../cli/envoy.ts";
import { makeBodies, SIZES, type SizeName } from "./support/bodies.ts";
import { benchOptions, type BenchOptions } from "./support/options.ts";
import { type Figure, printFigures, printHead } from "./support/report.ts";

/** Bodies read in turns, so that no branch predictor learns one of them by heart. */
const BODIES = 64;
const ENDPOINTS = [8, 64, 256];
/** (block, endpoint) entries in the index when decisions are timed. */
const ENTRIES = 1_000_000;
const TARGET_DECISION_MICROS = 50;
const TARGET_EXACT_MICROS = 150;
const TARGET_MEMORY_MIB = 64;
/** Prompts of a decision: 100 KB of text each. */
const PROMPT_BYTES = 102_400;
/** Calls before the first timed one. */
const WARM_UP_CALLS = 2_000;

/** The engine's WebAssembly API as used here; Node's type declarations leave it out. */
declare const WebAssembly: {
  compile(bytes: Uint8Array): Promise<object>;
  Module: { imports(module: object): { module: string; name: string }[] };
  Instance: new (module: object, imports: object) => { exports: object };
};

/** test/unit/harness/decision.ts. */
interface Decision {
  readonly memory: { readonly buffer: ArrayBuffer };
  _initialize(): void;
  bodyPtr(): number;
  configure(): number;
  setEndpoints(count: number): void;
  readBodies(stride: number, count: number, times: number): number;
  keepChain(index: number, bytes: number): number;
  holdChain(index: number, row: number, keys: number): void;
  fillIndex(wanted: number, endpoints: number): void;
  indexEntries(): number;
  holders(index: number): number;
  decide(first: number, count: number, endpoints: number, times: number): number;
  setExact(count: number): void;
  keepCells(index: number, bytes: number): number;
  holdCells(index: number, row: number, cells: number): void;
  fillExact(wanted: number, endpoints: number): number;
  replaceExact(first: number, count: number, endpoints: number): void;
  exactHolders(index: number): number;
  decideExact(first: number, count: number, endpoints: number, times: number): number;
}

/** Envoy runs modules with --no-liftoff: all code is optimised at load. The same is asked of Node by bench.mjs. */
async function compileDecision(): Promise<object> {
  const file = join(ROOT, "build", "bench-decision.wasm");
  const asc = join(ROOT, "node_modules/assemblyscript/bin/asc.js");
  const args = [asc, "test/unit/harness/decision.ts", "--config", "asconfig.json", "--outFile", file];
  await promisify(execFile)(process.execPath, args, { cwd: ROOT });
  return WebAssembly.compile(await readFile(file));
}

function startDecision(module: object): Decision {
  const decision = new WebAssembly.Instance(module, {}).exports as Decision;
  decision._initialize();
  if (decision.configure() === 0) throw new Error("the default configuration was refused");
  return decision;
}

/** µs a call, one value a round of about `seconds`. */
function timed(options: BenchOptions, calls: number, work: (times: number) => void): number[] {
  work(Math.min(calls, WARM_UP_CALLS));
  return Array.from({ length: options.rounds }, () => {
    const startedAt = performance.now();
    let done = 0;
    do {
      work(calls);
      done += calls;
    } while (performance.now() - startedAt < options.seconds * 1000);
    return ((performance.now() - startedAt) * 1000) / done;
  });
}

function put(decision: Decision, offset: number, bytes: Uint8Array): void {
  new Uint8Array(decision.memory.buffer).set(bytes, decision.bodyPtr() + offset);
}

/** Lays bodies at a fixed distance, each behind its length; returns that distance. */
function putBodies(decision: Decision, bodies: readonly Buffer[]): number {
  const stride = Math.ceil((Math.max(...bodies.map(({ length }) => length)) + 64) / 64) * 64;
  const memory = new DataView(decision.memory.buffer);
  bodies.forEach((bytes, index) => {
    memory.setUint32(decision.bodyPtr() + index * stride, bytes.length, true);
    put(decision, index * stride + 16, bytes);
  });
  return stride;
}

function readingFigures(options: BenchOptions, decision: Decision): Figure[] {
  return (Object.keys(SIZES) as SizeName[]).flatMap((size) => {
    const bodies = makeBodies(size)
      .slice(0, BODIES)
      .map(({ bytes }) => bytes);
    const texts = bodies.map((bytes) => bytes.toString());
    const stride = putBodies(decision, bodies);
    if (decision.readBodies(stride, bodies.length, bodies.length) !== 0)
      throw new Error("a body was refused");
    const ours = timed(options, BODIES, (times) => decision.readBodies(stride, bodies.length, times));
    const parse = timed(options, BODIES, (times) => {
      for (let i = 0; i < times; i++) JSON.parse(texts[i % texts.length]!);
    });
    return [
      { name: `${size}: scan, check, hash`, unit: "µs", values: ours },
      { name: `${size}: JSON.parse of the decoded text`, unit: "µs", values: parse },
    ];
  });
}

/** Prompts held to different depths by some endpoints, their shared system prompts by many more. */
function prepareIndex(decision: Decision): number {
  const bodies = makeBodies("220 KB").slice(0, BODIES);
  let prompts = 0;
  decision.setEndpoints(256);
  for (const { bytes } of bodies) {
    const body = shorten(bytes);
    put(decision, 0, body);
    const keys = decision.keepChain(prompts, body.length);
    decision.holdChain(prompts, (prompts * 5) % 8, keys - 8);
    decision.holdChain(prompts, (prompts * 13) % 64, Math.floor(keys / 2));
    for (let row = 0; row < 256; row += 3) decision.holdChain(prompts, row, 48);
    prompts++;
  }
  decision.fillIndex(ENTRIES, 256);
  return prompts;
}

/** How deep the endpoints' caches reach into the prompts, in cells. */
const SHAPES: Readonly<Record<string, (prompt: number, row: number, cells: number) => number>> = {
  // A system prompt everywhere, the conversation at one endpoint, an older turn of it at another.
  "shared start, two go on": (prompt, row, cells) =>
    row === (prompt * 5) % 64 ? cells - 8 : row === (prompt * 13) % 64 ? cells >> 1 : 128,
  // As many depths to be found as there are endpoints: the longest search there is.
  "64 depths": (_, row, cells) => Math.floor((cells * (row + 1)) / 64),
};
/** Prompts whose cells fit beside each other into a million entries, at 64 depths. */
const EXACT_PROMPTS = 16;

/** The same with what engines tell: a million exact entries, and the time of one change to them. */
function exactFigures(options: BenchOptions, module: object): Figure[] {
  const bodies = makeBodies("220 KB")
    .slice(0, EXACT_PROMPTS)
    .map(({ bytes }) => shorten(bytes));
  return Object.entries(SHAPES).flatMap(([shape, depth], which) => {
    const decision = startDecision(module);
    decision.setEndpoints(64);
    decision.setExact(64);
    for (const [prompt, body] of bodies.entries()) {
      put(decision, 0, body);
      decision.keepChain(prompt, body.length);
      const cells = decision.keepCells(prompt, body.length);
      for (let row = 0; row < 64; row++) decision.holdCells(prompt, row, depth(prompt, row, cells));
    }
    const filled = decision.fillExact(ENTRIES, 64);
    if (decision.exactHolders(0) !== 64)
      throw new Error(`${shape}: ${decision.exactHolders(0)} holders of 64`);
    const decide = (times: number): unknown => decision.decideExact(0, bodies.length, 64, times);
    const figure = {
      name: `64 exact endpoints, ${shape}`,
      unit: "µs",
      values: timed(options, 512, decide),
      target: { atMost: TARGET_EXACT_MICROS },
    };
    if (which > 0) return [figure];
    let first = 0;
    const change = (times: number): void => {
      decision.replaceExact(first, times >> 1, 64);
      first = (first + times) % (filled - 4096);
    };
    return [
      figure,
      { name: "one entry stored or removed", unit: "µs", values: timed(options, 4096, change) },
    ];
  });
}

/** The same conversation with its document cut: a body of about PROMPT_BYTES. */
function shorten(bytes: Buffer): Buffer {
  const body = JSON.parse(bytes.toString()) as { messages: { content: string }[] };
  const longest = body.messages.reduce((a, b) => (a.content.length > b.content.length ? a : b));
  longest.content = longest.content.slice(0, PROMPT_BYTES - (bytes.length - longest.content.length));
  return Buffer.from(JSON.stringify(body));
}

/** Linear memory of the real module, which grows no further: it has no memory.grow. */
async function moduleMib(path: string): Promise<number> {
  const module = await WebAssembly.compile(await readFile(path));
  const imports: Record<string, Record<string, () => number>> = {};
  for (const { module: from, name } of WebAssembly.Module.imports(module))
    (imports[from] ??= {})[name] = () => 0;
  const { memory } = new WebAssembly.Instance(module, imports).exports as Pick<Decision, "memory">;
  return memory.buffer.byteLength / 2 ** 20;
}

const options = benchOptions("schedule", { rounds: 7, seconds: 0.5 });
await printHead("The filter's own work, alone in Node's V8", { command: options.command });
const module = await compileDecision();
const decision = startDecision(module);
printFigures(`Reading a body (${BODIES} different ones in turns)`, readingFigures(options, decision));
const prompts = prepareIndex(decision);
if (decision.holders(0) < 80)
  throw new Error(`the index found ${decision.holders(0)} holders of a prompt held by 86`);
printFigures(
  `One decision: index lookup, all default scorers, pick; 100 KB prompts, ${decision.indexEntries()} index entries`,
  ENDPOINTS.map((endpoints) => {
    decision.setEndpoints(endpoints);
    return {
      name: `${endpoints} endpoints`,
      unit: "µs",
      values: timed(options, 512, (times) => decision.decide(0, prompts, endpoints, times)),
      target: endpoints === 64 ? { atMost: TARGET_DECISION_MICROS } : undefined,
    };
  }),
);
printFigures(
  `The same with an exact index beside the approximate one; 100 KB prompts, ${ENTRIES} exact entries`,
  exactFigures(options, module),
);
printFigures("Linear memory, an index of 1,048,576 entries included", [
  {
    name: "a worker",
    unit: "MiB",
    values: [await moduleMib(options.wasmPath)],
    target: { atMost: TARGET_MEMORY_MIB },
  },
]);

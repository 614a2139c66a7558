// Drives the scheduler's harness: lays out endpoints and plugins in its memory, and reads its answers.
import { instantiateHarness } from "./harness.ts";

const POOL_ROWS = 256;
const SCRATCH_BYTES = 262144;
const RECORD_BYTES = 128;

/** An endpoint as the oracle files describe it. */
export interface Endpoint {
  name: string;
  address?: string;
  labels?: Record<string, string>;
  metrics?: {
    waiting?: number;
    running?: number;
    kvUsage?: number;
    maxLora?: number;
    activeModels?: string[];
    waitingModels?: string[];
  } | null;
  prefixMatch?: { matchBlocks: number; totalBlocks: number; blockSizeTokens: number };
  inflight?: { requests: number; tokens: number };
  uncachedRequestTokens?: number;
  /** Ours: not in the oracle files. */
  gpuUtilization?: number;
  gpuMemory?: number;
}

export interface Instance {
  type: number;
  a?: number;
  b?: number;
  c?: number;
  d?: number;
  mode?: number;
  header?: number;
  headers?: number[];
  text?: string;
  requirements?: { op: number; key: string; values: string[] }[];
  conditions?: { column: number; maxValue: number }[];
}

/** Numbers of assembly/schedule/plugin-types.ts by plugin type. */
export const TYPES = {
  "queue-scorer": 1,
  "running-requests-size-scorer": 2,
  "kv-cache-utilization-scorer": 3,
  "prefix-cache-scorer": 4,
  "load-aware-scorer": 5,
  "active-request-scorer": 6,
  "token-load-scorer": 7,
  "lora-affinity-scorer": 8,
  "no-hit-lru-scorer": 9,
  "session-affinity-scorer": 10,
  "context-length-aware": 11,
  "header-label-affinity-scorer": 12,
  "gpu-utilization-scorer": 13,
  "gpu-memory-scorer": 14,
  "label-selector-filter": 33,
  "role-filter": 34,
  "prefix-cache-affinity-filter": 35,
  "utilization-filter": 36,
  "session-affinity-filter": 37,
  "header-based-testing-filter": 38,
  "max-score-picker": 65,
  "random-picker": 66,
  "weighted-random-picker": 67,
  "epp-wasm-latency-picker": 68,
} as const;

export const OPERATORS = { in: 0, notin: 1, exists: 2, "!": 3, inOrAbsent: 4 } as const;

/** Columns of assembly/pool/rows.ts. */
export const COLUMNS = {
  waiting: 0,
  running: 1,
  kvUsage: 2,
  gpuUtilization: 3,
  gpuMemory: 4,
  loraMax: 7,
  inflightRequests: 8,
  inflightTokens: 9,
  matchedTokens: 10,
  uncachedTokens: 11,
  coldUsedMs: 12,
} as const;

const ROLE_BITS: Record<string, number> = {
  decode: 1,
  prefill: 2,
  encode: 4,
  "prefill-decode": 3,
  both: 3,
  "encode-prefill": 6,
  "encode-prefill-decode": 7,
};

type Exports = Record<string, (...args: (number | bigint)[]) => number>;

/** One instance of the module, pool 0 in use. */
export class Scheduler {
  readonly wasm: Exports & { memory: WebAssembly.Memory };
  private next = 0;
  private end = 0;

  constructor(module: WebAssembly.Module) {
    this.wasm = instantiateHarness<Exports>(module);
    this.next = this.call("scratchPtr");
    this.end = this.next + SCRATCH_BYTES;
  }

  call(name: string, ...args: (number | bigint)[]): number {
    const fn = this.wasm[name];
    if (fn === undefined) throw new Error(`the test module exports no ${name}`);
    return fn(...args);
  }

  get view(): DataView {
    return new DataView(this.wasm.memory.buffer);
  }

  alloc(bytes: number): number {
    const at = (this.next + 7) & ~7;
    this.next = at + bytes;
    if (this.next > this.end) throw new Error(`scratch memory is used up by ${bytes} bytes`);
    return at;
  }

  put(text: string): { ptr: number; len: number } {
    const bytes = new TextEncoder().encode(text);
    const ptr = this.alloc(bytes.length);
    new Uint8Array(this.wasm.memory.buffer).set(bytes, ptr);
    return { ptr, len: bytes.length };
  }

  text(ptr: number, len: number): string {
    return new TextDecoder().decode(new Uint8Array(this.wasm.memory.buffer, ptr, len));
  }

  hash(text: string): bigint {
    const { ptr, len } = this.put(text);
    return BigInt(this.call("nameHash", ptr, len));
  }

  /** Puts an endpoint into a row of pool 0. */
  row(row: number, endpoint: Endpoint): void {
    const { metrics } = endpoint;
    const set = (column: number, value: number | undefined) =>
      this.call("setRowF64", column, row, value ?? Number.NaN);
    const known = metrics === null || metrics === undefined ? undefined : metrics;
    set(COLUMNS.waiting, known && (known.waiting ?? 0));
    set(COLUMNS.running, known && (known.running ?? 0));
    set(COLUMNS.kvUsage, known && (known.kvUsage ?? 0));
    set(COLUMNS.loraMax, known && (known.maxLora ?? 0));
    set(COLUMNS.gpuUtilization, endpoint.gpuUtilization);
    set(COLUMNS.gpuMemory, endpoint.gpuMemory);
    set(COLUMNS.inflightRequests, endpoint.inflight?.requests);
    set(COLUMNS.inflightTokens, endpoint.inflight?.tokens);
    set(COLUMNS.uncachedTokens, endpoint.uncachedRequestTokens);
    const match = endpoint.prefixMatch;
    set(COLUMNS.matchedTokens, match && match.matchBlocks * match.blockSizeTokens);
    set(COLUMNS.coldUsedMs, undefined);
    this.adapters(row, 4, "loraActiveHashes", known?.activeModels ?? []);
    this.adapters(row, 5, "loraWaitingHashes", known?.waitingModels ?? []);
    const role = endpoint.labels?.["llm-d.ai/role"];
    this.call("setRowU32", 1, row, role === undefined ? 1 : (ROLE_BITS[role] ?? 0));
    this.call("setRowU32", 2, row, 1);
    this.record(row, endpoint);
  }

  private adapters(row: number, column: number, list: string, names: string[]): void {
    this.call("setRowU32", column, row, names.length);
    const at = this.call(list, row);
    for (const [i, name] of names.entries())
      this.view.setBigUint64(at + i * 8, BigInt.asUintN(64, this.hash(name)), true);
  }

  /** A snapshot of one record, laid out as wire/snapshot.ts says. */
  private record(row: number, endpoint: Endpoint): void {
    const labels = Object.entries(endpoint.labels ?? {});
    const record = this.alloc(RECORD_BYTES + labels.length * 16);
    const ref = (at: number, text: string) => {
      const { ptr, len } = this.put(text);
      this.view.setUint32(at, ptr - record, true);
      this.view.setUint32(at + 4, len, true);
    };
    ref(record + 12, endpoint.address ?? "");
    ref(record + 20, endpoint.name);
    this.view.setUint16(record + 74, labels.length, true);
    this.view.setUint32(record + 76, RECORD_BYTES, true);
    for (const [i, [key, value]] of labels.entries()) {
      ref(record + RECORD_BYTES + i * 16, key);
      ref(record + RECORD_BYTES + i * 16 + 8, value);
    }
    this.call("setRowRecord", row, record, record);
  }

  /** Makes the endpoints rows 0… of pool 0, all of them candidates. */
  endpoints(endpoints: Endpoint[]): void {
    for (const [row, endpoint] of endpoints.entries()) this.row(row, endpoint);
    for (let row = endpoints.length; row < POOL_ROWS; row++) this.call("setRowRecord", row, 0, 0);
    this.candidates(endpoints.map((_, row) => row));
  }

  candidates(rows: number[]): void {
    this.call("candidatesReset");
    for (const row of rows) this.call("candidatesAdd", row);
  }

  /** Starts a request; headers by index. */
  request(
    tokens: { prompt?: number; matchable?: number; context?: number } = {},
    nowMs = 1,
    random = 1n,
  ): void {
    this.call("requestReset", nowMs, random);
    this.call("requestSetTokens", tokens.prompt ?? 0, tokens.matchable ?? 0, tokens.context ?? 0);
  }

  header(index: number, value: string): void {
    const { ptr, len } = this.put(value);
    this.call("requestSetHeader", index, ptr, len);
  }

  model(name: string): void {
    this.call("requestSetModel", this.hash(name));
  }

  instance(config: Instance): number {
    const at = this.alloc(64);
    this.call("instanceReset", at, config.type);
    const { view } = this;
    for (const [offset, value] of [config.a, config.b, config.c, config.d].entries()) {
      if (value !== undefined) view.setFloat64(at + 8 + offset * 8, value, true);
    }
    if (config.header !== undefined) view.setUint8(at + 2, config.header);
    if (config.mode !== undefined) view.setUint8(at + 3, config.mode);
    if (config.text !== undefined) {
      const { ptr, len } = this.put(config.text);
      view.setUint32(at + 40, ptr, true);
      view.setUint32(at + 44, len, true);
    }
    const [list, count] = this.list(config);
    view.setUint32(at + 48, list, true);
    view.setUint32(at + 52, count, true);
    return at;
  }

  private list(config: Instance): [number, number] {
    if (config.headers !== undefined) {
      const at = this.alloc(config.headers.length);
      for (const [i, header] of config.headers.entries()) this.view.setUint8(at + i, header);
      return [at, config.headers.length];
    }
    if (config.conditions !== undefined) {
      const at = this.alloc(config.conditions.length * 16);
      for (const [i, { column, maxValue }] of config.conditions.entries()) {
        this.call("conditionSet", at + i * 16, column, maxValue);
      }
      return [at, config.conditions.length];
    }
    const requirements = config.requirements ?? [];
    const at = this.alloc(requirements.length * 20);
    for (const [i, { op, key, values }] of requirements.entries()) {
      const refs = this.alloc(values.length * 8);
      for (const [j, value] of values.entries()) {
        const { ptr, len } = this.put(value);
        this.view.setUint32(refs + j * 8, ptr, true);
        this.view.setUint32(refs + j * 8 + 4, len, true);
      }
      const { ptr, len } = this.put(key);
      this.call("requirementSet", at + i * 20, op, ptr, len, refs, values.length);
    }
    return [at, requirements.length];
  }

  /** Raw scores of the candidates. */
  scores(instance: number): number[] {
    this.call("runScorer", instance, 0);
    return Array.from({ length: this.call("candidateCount") }, (_, i) => this.call("scoreOf", i));
  }

  /** Rows that a filter keeps. */
  kept(instance: number): number[] {
    this.call("runFilter", instance, 0);
    return Array.from({ length: this.call("candidateCount") }, (_, i) => this.call("candidateRow", i));
  }

  results(): { row: number; total: number }[] {
    return Array.from({ length: this.call("resultCount") }, (_, i) => ({
      row: this.call("resultRow", i),
      total: this.call("resultTotal", i),
    }));
  }
}

// Endpoints of the latency harness that serve prompts at rates of the test's choosing, and workers that tell each other.
import { COLUMNS, Scheduler, TYPES } from "./scheduler.ts";

/** Columns of assembly/pool/rows.ts that only the latency picker reads. */
export const LATENCY_COLUMNS = {
  ...COLUMNS,
  kvCapacity: 5,
  prefilling: 13,
  headSinceMs: 14,
  headTokens: 15,
  foreign: 19,
  tpotSloMs: 20,
  busySinceMs: 21,
  othersComputed: 22,
  contextTokens: 23,
  legs: 24,
} as const;

export interface Speed {
  readonly baseMs: number;
  readonly tokenMs: number;
}

/** One worker's module: pool 0 is named, its endpoints are rows 0…count−1. */
export class LatencyFleet extends Scheduler {
  readonly plan: number;

  constructor(module: WebAssembly.Module, count: number) {
    super(module);
    const { ptr, len } = this.put("pool");
    this.call("poolAdd", ptr, len);
    this.endpoints(Array.from({ length: count }, (_, i) => ({ name: `e${i}`, address: `10.0.0.${i}:8000` })));
    for (let row = 0; row < count; row++) this.clear(row);
    this.plan = this.alloc(336);
    this.call("planReset", this.plan, TYPES["epp-wasm-latency-picker"], 3);
  }

  /** Nothing in flight, nothing scraped, a KV cache of a million tokens. */
  clear(row: number): void {
    for (const column of Object.values(LATENCY_COLUMNS)) this.set(row, column, 0);
    this.set(row, LATENCY_COLUMNS.kvCapacity, 1_000_000);
  }

  set(row: number, column: number, value: number): void {
    this.call("setRowF64", column, row, value);
  }

  get(row: number, column: number): number {
    return this.call("rowF64", column, row);
  }

  /** A request of `tokens` uncached tokens goes to the row. */
  send(row: number, tokens: number, nowMs: number): void {
    this.call("rateBegin", row, nowMs);
    this.call("reserve", row, tokens, tokens, nowMs);
  }

  /** Its first token comes. */
  firstToken(row: number, tokens: number, nowMs: number): void {
    this.call("rateFirstToken", row, tokens, nowMs);
    this.call("noteFirstToken", row, tokens, nowMs);
    this.call("releaseTokens", row, tokens);
  }

  ended(row: number, tokens: number): void {
    this.call("releaseRequest", row, tokens);
  }

  /** Serves one prompt after the other, alone, from `startMs` on; returns when the last one was done. */
  serve(row: number, prompts: readonly number[], speed: Speed, startMs: number): number {
    let nowMs = startMs;
    for (const tokens of prompts) {
      this.send(row, tokens, nowMs);
      nowMs += speed.baseMs + speed.tokenMs * tokens;
      this.firstToken(row, tokens, nowMs);
      this.ended(row, tokens);
      nowMs += 50;
    }
    return nowMs;
  }

  rates(row: number, nowMs: number): Speed & { samples: number } {
    this.call("ratesOf", row, nowMs);
    return {
      baseMs: this.call("prefillBaseMs"),
      tokenMs: this.call("prefillTokenMs"),
      samples: this.call("prefillSamples"),
    };
  }

  /** Decides: all rows of the fleet are candidates. Uncached and matched tokens by row. */
  decide(
    uncached: readonly number[],
    options: {
      nowMs?: number;
      matched?: readonly number[];
      key?: bigint;
      random?: bigint;
      ttftMs?: number;
      tpotMs?: number;
    } = {},
  ): number {
    for (const [row, tokens] of uncached.entries()) {
      this.set(row, LATENCY_COLUMNS.uncachedTokens, tokens);
      this.set(row, LATENCY_COLUMNS.matchedTokens, options.matched?.[row] ?? 0);
    }
    this.request({ prompt: Math.max(...uncached) }, options.nowMs ?? 1, options.random ?? 1n);
    this.call("requestSetTieKey", options.key ?? 0n);
    this.call("requestSetSlos", options.ttftMs ?? 0, options.tpotMs ?? 0);
    this.candidates(uncached.map((_, row) => row));
    this.call("schedule", this.plan, 0);
    return this.call("resultRow", 0);
  }

  costs(count: number): { wait: number; prefill: number; tpot: number; cost: number }[] {
    return Array.from({ length: count }, (_, i) => ({
      wait: this.call("costWaitMs", i),
      prefill: this.call("costPrefillMs", i),
      tpot: this.call("costTpotMs", i),
      cost: this.call("costOf", i),
    }));
  }

  /** A copy of what one of the two builders put together. */
  built(what: "cell" | "rates"): Uint8Array {
    const ptr = this.call(`${what}Ptr`);
    return new Uint8Array(this.wasm.memory.buffer, ptr, this.call(`${what}Bytes`)).slice();
  }

  /** Lays bytes down; their address. */
  lay(bytes: Uint8Array): number {
    const ptr = this.alloc(bytes.length);
    new Uint8Array(this.wasm.memory.buffer).set(bytes, ptr);
    return ptr;
  }
}

// Instances of the filter's state modules, and chains in them.
import { instantiateHarness } from "./harness.ts";

export const COLUMN_KV_CAPACITY_TOKENS = 5;
export const COLUMN_INFLIGHT_REQUESTS = 8;
export const COLUMN_INFLIGHT_TOKENS = 9;
export const COLUMN_CONTEXT_TOKENS = 23;
export const COLUMN_FLAGS = 0;
export const COLUMN_GENERATION = 2;

// biome-ignore lint/suspicious/noExplicitAny: every export of the harness by its name
type Exports = Record<string, any>;

class Helper {
  constructor(private readonly exports: Exports) {}
  bytes(ptr: number, length: number): Uint8Array {
    return new Uint8Array(this.exports["memory"].buffer, ptr, length);
  }
  put(bytes: Uint8Array, at = 0): number {
    const ptr = this.exports["scratchPtr"]() + at;
    this.bytes(ptr, bytes.length).set(bytes);
    return ptr;
  }
  text(ptr: number, length: number): string {
    return Buffer.from(this.bytes(ptr, length)).toString("utf8");
  }
}
/** Its exports by name, beside helpers for its memory. */
export type Harness = Exports & Pick<Helper, "bytes" | "put" | "text">;

/** A fresh instance with helpers for its memory. */
export function freshState(compiled: WebAssembly.Module): Harness {
  const exports = instantiateHarness<Exports>(compiled);
  const helper = new Helper(exports);
  const methods = {
    bytes: helper.bytes.bind(helper),
    put: helper.put.bind(helper),
    text: helper.text.bind(helper),
  };
  return { ...exports, ...methods } as Harness;
}

/** The bytes of a text. */
export const utf8 = (text: string) => new TextEncoder().encode(text);

/** The keys of a chain under a root. */
export function keysOf(h: Harness, chain: number, root = 1n): bigint[] {
  const keys: bigint[] = [];
  for (let i = 0; i < h.chainKeyCount(chain); i++) keys.push(BigInt.asUintN(64, h.chainKey(chain, i, root)));
  return keys;
}

/** The i-th chain, begun anew and given a text. */
export function chainOf(h: Harness, text: Uint8Array, i = 0): number {
  const chain = h.chainAt(i);
  h.chainReset(chain);
  h.chainText(chain, h.put(text), text.length);
  return chain;
}

// The clock of each row: tokens it was given to store. It stands in for the engine's LRU where that tells nothing.
import { COLUMN_KV_CAPACITY_TOKENS, rowF64 } from "../pool/rows";

/** Tokens a row is taken to hold while its KV capacity is unknown: llm-d's 31,250 entries of 16 tokens. */
export const CAPACITY_TOKENS_DEFAULT: u32 = 500000;
/** The rows' clocks count in units of this many stored tokens, so that u32 wraps after 6.9e10 tokens. */
export const CLOCK_TOKENS: u32 = 16;

const rowClocks: usize = memory.data(4096 * 8, 8);

/** Advances a row's clock: it stored `tokens` new tokens. */
export function indexStored(row: u32, tokens: u32): void {
  const clock = rowClocks + ((<usize>row) << 3);
  store<u64>(clock, load<u64>(clock) + tokens);
}

/** The row's clock, in units of CLOCK_TOKENS; wraps. */
export function clockOf(row: u32): u32 {
  return <u32>(load<u64>(rowClocks + ((<usize>row) << 3)) / CLOCK_TOKENS);
}

/** What the row's KV cache holds, in units of CLOCK_TOKENS. */
export function capacityOf(row: u32): u32 {
  const tokens = rowF64(COLUMN_KV_CAPACITY_TOKENS, row);
  return (tokens > 0 ? <u32>min(tokens, 4000000000.0) : CAPACITY_TOKENS_DEFAULT) / CLOCK_TOKENS;
}

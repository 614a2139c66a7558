// Reads traces in Mooncake's format: arrivals, lengths, and which 512-token blocks of prompts are equal.
import { basename } from "node:path";
import { Random } from "../../workload/random.ts";
import type { FleetRequest, Span, Workload } from "../types.ts";
import { TraceLineError } from "./errors.ts";
import { readLines } from "./lines.ts";
import { checkedTraceOptions, REQUEST_TOKENS_MAX, type TraceOptions } from "./options.ts";

/** Tokens that one id of `hash_ids` stands for. */
export const MOONCAKE_BLOCK_TOKENS = 512;

interface Row {
  readonly timestampMs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly blockIds: readonly number[];
}

/**
 * A workload from a JSONL trace of Mooncake (FAST'25: conversation, tool agent, synthetic;
 * github.com/kvcache-ai/Mooncake, FAST25-release/traces). One object a line: `timestamp` in ms, `input_length`
 * and `output_length` in tokens, `hash_ids`: ids of the prompt's 512-token blocks, the last of which is cut to
 * the prompt's length; an id says that everything up to there is equal.
 *
 * Times of the recorded traces are rounded to 3 s, with up to 28 requests at one instant. Each is moved by a
 * seeded uniform time below the smallest distance of two times in the file (3 s there, 1 ms in a trace that
 * was not rounded), and `rateFactor` divides the result. Requests with the same first two blocks are one
 * session: all of the conversation trace share the first.
 *
 * Throws SourceOptionsError, and TraceLineError for a bad line.
 */
export async function readMooncake(path: string, options: TraceOptions = {}): Promise<Workload> {
  const { seed, rateFactor, requests: rowsMax, model } = checkedTraceOptions(options);
  const rows: Row[] = [];
  for await (const { text, number } of readLines(path)) {
    if (rows.length === rowsMax) break;
    rows.push(parseRow(path, number, text));
  }
  if (rows.length === 0) throw new TraceLineError(path, 1, "file", "empty", "at least one row");
  const random = new Random(seed);
  const spreadMs = smallestStepMs(rows);
  const startMs = rows.reduce((first, row) => Math.min(first, row.timestampMs), Number.POSITIVE_INFINITY);
  const arrivals = rows.map((row) => ({
    row,
    arrivalMs: (row.timestampMs - startMs + random.uniform() * spreadMs) / rateFactor,
  }));
  arrivals.sort((a, b) => a.arrivalMs - b.arrivalMs);
  const requests = arrivals.map(({ row, arrivalMs }, index): FleetRequest => {
    return {
      index,
      arrivalMs,
      session: row.blockIds.slice(0, 2).join("-"),
      spans: spansOf(row),
      promptTokens: row.inputTokens,
      outputTokens: row.outputTokens,
      model,
    };
  });
  return { name: basename(path).replace(/\.jsonl$/, ""), requests };
}

function spansOf({ inputTokens, blockIds }: Row): Span[] {
  return blockIds.map((id, block) => {
    const tokens = Math.min(MOONCAKE_BLOCK_TOKENS, inputTokens - block * MOONCAKE_BLOCK_TOKENS);
    return { id, tokens, role: "user" };
  });
}

/** Smallest distance of two different times, ms; 0 if all are equal. */
function smallestStepMs(rows: readonly Row[]): number {
  const times = Float64Array.from(rows, (row) => row.timestampMs).sort();
  let smallest = Number.POSITIVE_INFINITY;
  for (let i = 1; i < times.length; i++) {
    const step = times[i]! - times[i - 1]!;
    if (step > 0 && step < smallest) smallest = step;
  }
  return smallest === Number.POSITIVE_INFINITY ? 0 : smallest;
}

function parseRow(path: string, line: number, text: string): Row {
  const fail = (field: string, value: unknown, expected: string): never => {
    throw new TraceLineError(path, line, field, value, expected);
  };
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch {
    return fail("line", text, "a JSON object");
  }
  if (typeof row !== "object" || row === null || Array.isArray(row))
    return fail("line", text, "a JSON object");
  const fields = row as Record<string, unknown>;
  const integer = (field: string, min: number, max: number): number => {
    const value = fields[field];
    if (Number.isInteger(value) && Number(value) >= min && Number(value) <= max) return Number(value);
    return fail(field, value, `an integer from ${min} to ${max}`);
  };
  const { timestamp, hash_ids: blockIds } = fields;
  if (typeof timestamp !== "number" || !(timestamp >= 0)) fail("timestamp", timestamp, "milliseconds ≥ 0");
  const inputTokens = integer("input_length", 1, REQUEST_TOKENS_MAX);
  const outputTokens = integer("output_length", 1, REQUEST_TOKENS_MAX);
  const blockCount = Math.ceil(inputTokens / MOONCAKE_BLOCK_TOKENS);
  if (!Array.isArray(blockIds)) return fail("hash_ids", blockIds, `a list of ${blockCount} block ids`);
  const wrong = blockIds.findIndex((id) => !Number.isSafeInteger(id) || id < 0);
  if (wrong >= 0) fail(`hash_ids[${wrong}]`, blockIds[wrong], "an integer ≥ 0");
  if (blockIds.length !== blockCount) {
    fail("hash_ids length", blockIds.length, `${blockCount} for an input_length of ${inputTokens}`);
  }
  return { timestampMs: Number(timestamp), inputTokens, outputTokens, blockIds };
}

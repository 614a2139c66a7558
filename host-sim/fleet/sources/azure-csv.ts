// Reads Azure's traces of LLM inference: arrivals and lengths, nothing about content.
import { basename } from "node:path";
import type { FleetRequest, Workload } from "../types.ts";
import { TraceLineError } from "./errors.ts";
import { type Line, readLines } from "./lines.ts";
import { checkedTraceOptions, REQUEST_TOKENS_MAX, type TraceOptions } from "./options.ts";

/** Columns by their names in the file, whatever their case and order; others are not read. */
const COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"] as const;
/** Columns of one row. */
const COLUMNS_MAX = 64;

/** "2023-11-16 18:15:46.6805900" (2023: UTC, 100 ns) and "2024-05-10 00:00:00.009930+00:00" (2024). */
const TIMESTAMP = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?$/;

interface Row {
  readonly atMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
}

/**
 * A workload from a CSV trace of Azure (github.com/Azure/AzurePublicDataset, AzureLLMInferenceTrace of 2023 and
 * 2024): `TIMESTAMP`, `ContextTokens`, `GeneratedTokens`, named by a first line. What prompts have in common is
 * not known, so each is content of its own and its own session. A row that generated nothing asks for one
 * token. Times are from the earliest row, divided by `rateFactor`; nothing is drawn.
 *
 * Throws SourceOptionsError, and TraceLineError for a bad line.
 */
export async function readAzureCsv(path: string, options: TraceOptions = {}): Promise<Workload> {
  const { rateFactor, requests: rowsMax, model } = checkedTraceOptions(options);
  const rows: Row[] = [];
  let columns: readonly number[] | undefined;
  for await (const line of readLines(path)) {
    if (columns === undefined) columns = parseHeader(path, line);
    else if (rows.length === rowsMax) break;
    else rows.push(parseRow(path, line, columns));
  }
  if (rows.length === 0) throw new TraceLineError(path, 1, "file", "empty", "a line of names and one row");
  rows.sort((a, b) => a.atMs - b.atMs);
  const startMs = rows[0]!.atMs;
  const requests = rows.map(({ atMs, promptTokens, outputTokens }, index): FleetRequest => {
    return {
      index,
      arrivalMs: (atMs - startMs) / rateFactor,
      session: `row-${index}`,
      spans: [{ id: index, tokens: promptTokens, role: "user" }],
      promptTokens,
      outputTokens,
      model,
    };
  });
  return { name: basename(path).replace(/\.csv$/i, ""), requests };
}

/** Positions of COLUMNS. */
function parseHeader(path: string, { text, number }: Line): number[] {
  const names = text.split(",", COLUMNS_MAX).map((name) => name.trim().toLowerCase());
  return COLUMNS.map((column) => {
    const position = names.indexOf(column.toLowerCase());
    if (position < 0) throw new TraceLineError(path, number, column, undefined, `a column, got ${text}`);
    return position;
  });
}

function parseRow(path: string, { text, number }: Line, positions: readonly number[]): Row {
  const values = text.split(",", COLUMNS_MAX);
  const [timestamp, prompt, output] = positions.map((position) => values[position]?.trim());
  const tokens = (column: string, value: string | undefined, min: number): number => {
    const count = /^\d{1,9}$/.test(value ?? "") ? Number(value) : Number.NaN;
    if (count >= min && count <= REQUEST_TOKENS_MAX) return count;
    throw new TraceLineError(path, number, column, value, `an integer from ${min} to ${REQUEST_TOKENS_MAX}`);
  };
  const atMs = parseTimestampMs(timestamp);
  if (Number.isNaN(atMs)) {
    throw new TraceLineError(
      path,
      number,
      COLUMNS[0],
      timestamp,
      "a time such as 2024-05-10 00:00:00.009930+00:00",
    );
  }
  const promptTokens = tokens(COLUMNS[1], prompt, 1);
  return { atMs, promptTokens, outputTokens: Math.max(1, tokens(COLUMNS[2], output, 0)) };
}

/** Milliseconds since 1970, with their fraction; NaN if it is no time. Without a zone it is UTC. */
function parseTimestampMs(text: string | undefined): number {
  const [matched, date, time, fraction = ".0", zone = "Z"] = TIMESTAMP.exec(text ?? "") ?? [];
  return matched === undefined
    ? Number.NaN
    : Date.parse(`${date}T${time}${zone}`) + Number(`0${fraction}`) * 1000;
}

// Reads a trace by its file name's ending.
import type { Workload } from "../types.ts";
import { readAzureCsv } from "./azure-csv.ts";
import { readMooncake } from "./mooncake.ts";
import type { TraceOptions } from "./options.ts";

/**
 * A file that ends in `.csv` is Azure's format, any other Mooncake's. Throws what `readAzureCsv` and `readMooncake`
 * throw.
 */
export function readTrace(path: string, options: TraceOptions = {}): Promise<Workload> {
  return /\.csv$/i.test(path) ? readAzureCsv(path, options) : readMooncake(path, options);
}

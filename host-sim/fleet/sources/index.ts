// Workloads of the fleet simulator: recorded ones and drawn ones.
export { readAzureCsv } from "./azure-csv.ts";
export { SourceOptionsError, TraceLineError } from "./errors.ts";
export { DEFAULT_REPLICAS, type Generated, type GeneratorOptions, generate } from "./generate.ts";
export { readMooncake } from "./mooncake.ts";
export { readTrace } from "./read-trace.ts";
export type { TraceOptions } from "./options.ts";
export { GENERATORS } from "./workloads/index.ts";
export type { Generator } from "./workloads/workload.ts";
export { estimateLoad } from "./load.ts";
export { reuseCeiling, reuseOf } from "./reuse.ts";

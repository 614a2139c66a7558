// Options that scripts/bench.mjs hands to every benchmark.
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { WASM_PATH } from "../../../cli/envoy.ts";

export interface BenchOptions {
  /** Rounds of each of the two (or more) that are compared, taken in turns. */
  readonly rounds: number;
  /** Length of one round. */
  readonly seconds: number;
  /** The module under test. */
  readonly wasmPath: string;
  /** What to type for the same run. */
  readonly command: string;
}

/** An option that is not a number in its range. */
export class BenchOptionError extends Error {
  readonly code = "ERR_BENCH_OPTION";
  constructor(option: string, value: string) {
    super(`--${option} ${value}: expected a number above 0`);
    this.name = "BenchOptionError";
  }
}

/** @throws BenchOptionError */
export function benchOptions(name: string, defaults: { rounds: number; seconds: number }): BenchOptions {
  const { values } = parseArgs({
    options: { rounds: { type: "string" }, seconds: { type: "string" }, wasm: { type: "string" } },
  });
  const given = Object.entries(values).map(([option, value]) => ` --${option} ${value}`);
  return {
    rounds: Math.ceil(positive("rounds", values.rounds, defaults.rounds)),
    seconds: positive("seconds", values.seconds, defaults.seconds),
    wasmPath: values.wasm === undefined ? WASM_PATH : resolve(values.wasm),
    command: `npm run bench -- ${name}${given.join("")}`,
  };
}

function positive(option: string, text: string | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!(value > 0)) throw new BenchOptionError(option, text);
  return value;
}

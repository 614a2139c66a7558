// The command line of `npm start`: what it takes, and the workload that it asks for.
import { Command, InvalidArgumentError } from "commander";
import { defaultWorkload } from "../host-sim/workload/generate.ts";
import type { WorkloadOptions } from "../host-sim/workload/types.ts";
import { pdWorkload } from "./pd-demo.ts";

export const DEFAULT_PORT = 8080;

/** Options as given; what has a default is there. */
export interface StartFlags {
  endpoints?: string;
  config?: string;
  once?: boolean;
  concurrency: number;
  seed: number;
  requests?: number;
  rate?: number;
  port: number;
  json?: boolean;
  /** Prefill and decode replicas against replicas that do both. */
  pd?: boolean;
}

function numberFrom(min: number, max: number, whole: boolean): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !(value >= min && value <= max) || (whole && !Number.isInteger(value))) {
      throw new InvalidArgumentError(`expected a ${whole ? "whole " : ""}number from ${min} to ${max}`);
    }
    return value;
  };
}

/** Reads the command line; ends the program with a message when it cannot be read. */
export function readFlags(argv: readonly string[]): StartFlags {
  const workload = defaultWorkload();
  const pd = pdWorkload();
  return new Command("npm start --")
    .description("Routes LLM requests through Envoy with the endpoint picker inside.")
    .option("--endpoints <list>", "real servers as host:port,host:port; no demonstration")
    .option("--config <file>", "fleet file, or an EndpointPickerConfig with file-discovery; no demonstration")
    .option("--once", "end after the demonstration, also on a terminal")
    .option("--concurrency <n>", "Envoy's worker threads", numberFrom(1, 64, true), 2)
    .option("--seed <n>", "seed of the demonstration's workload", numberFrom(0, 2 ** 31, true), workload.seed)
    .option("--pd", "demonstrate prefill and decode on replicas of their own against replicas that do both")
    .option(
      "--requests <n>",
      `requests of the demonstration (default: ${workload.requests}, with --pd ${pd.requests})`,
      numberFrom(1, 100_000, true),
    )
    .option(
      "--rate <n>",
      `arrivals a second (default: ${workload.ratePerSecond}, with --pd ${pd.ratePerSecond})`,
      numberFrom(0.1, 1000, false),
    )
    .option("--port <n>", "port to serve on; 0 = any", numberFrom(0, 65_535, true), DEFAULT_PORT)
    .option("--json", "print the demonstration's figures as JSON")
    .parse(argv)
    .opts<StartFlags>();
}

/** The demonstration's workload: the command line's wishes over the defaults of its kind. */
export function workloadOf({ pd, seed, requests, rate }: StartFlags): WorkloadOptions {
  const overrides = {
    seed,
    ...(requests === undefined ? {} : { requests }),
    ...(rate === undefined ? {} : { ratePerSecond: rate }),
  };
  return pd === true ? pdWorkload(overrides) : defaultWorkload(overrides);
}

/** Its arrivals a second. */
export function ratePerSecond(flags: StartFlags): number {
  return workloadOf(flags).ratePerSecond;
}

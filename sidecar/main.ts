#!/usr/bin/env node
// The program: command line, start, signals, exit codes.
import { Command } from "commander";
import { Sidecar } from "./app.ts";
import { type Flags, loadSettings } from "./config/load.ts";
import { SidecarError } from "./errors.ts";
import { makeLogger } from "./log.ts";

/**
 * Exit codes: 0 stopped by a signal, 1 failed while running, 2 the command line or configuration is not
 * valid.
 */
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
/** A stop that takes longer is cut off. */
const STOP_TIMEOUT_MS = 3_000;

interface Options extends Flags {
  readonly check?: boolean;
}

function parseCommandLine(argv: readonly string[]): Options {
  const command = new Command("epp-wasm-sidecar")
    .description(
      "Feeds the endpoint picker inside Envoy with what only the fleet knows: endpoints, queues, GPUs.",
    )
    .option("-c, --config <file>", "own configuration, or an EndpointPickerConfig, in YAML")
    .option(
      "--picker-config <file>",
      "EndpointPickerConfig whose data layer and discovery make one more pool",
    )
    .option(
      "--pool <name>",
      'name of the pool made by --endpoints, --inference-pool or an EndpointPickerConfig (default: "default")',
    )
    .option("--endpoints <list>", "ip:port,ip:port: a pool of fixed endpoints")
    .option("--inference-pool <[namespace/]name>", "a pool of the pods of this Kubernetes InferencePool")
    .option(
      "--control <where>",
      "control listener: unix:/path or http://127.0.0.1:port (token: EPP_CONTROL_TOKEN)",
    )
    .option("--listen <host:port>", "own HTTP server for /healthz, /readyz and /metrics")
    .option("--log-level <level>", "trace, debug, info, warn, error, fatal or silent")
    .option("--check", "check the configuration and exit")
    .allowExcessArguments(false)
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : EXIT_USAGE));
  command.parse(argv as string[]);
  return command.opts<Options>();
}

function makeSidecar(options: Options): Sidecar {
  try {
    const settings = loadSettings(options, process.env);
    const sidecar = new Sidecar(settings);
    if (options.check === true) {
      process.stdout.write("configuration is valid\n");
      process.exit(0);
    }
    return sidecar;
  } catch (error) {
    if (!(error instanceof SidecarError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(EXIT_USAGE);
  }
}

async function run(): Promise<void> {
  const sidecar = makeSidecar(parseCommandLine(process.argv));
  const stop = (signal: NodeJS.Signals): void => {
    setTimeout(() => process.exit(EXIT_FAILED), STOP_TIMEOUT_MS).unref();
    sidecar.stop().then(
      () => process.exit(0),
      (error: unknown) => fatal(error, `stop by ${signal} failed`),
    );
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  await sidecar.start();
}

function fatal(error: unknown, message: string): never {
  makeLogger("fatal").fatal({ err: error }, message);
  process.exit(EXIT_FAILED);
}

process.on("uncaughtException", (error) => fatal(error, "unexpected failure"));
process.on("unhandledRejection", (error) => fatal(error, "unexpected failure"));
run().catch((error: unknown) => fatal(error, "cannot start"));

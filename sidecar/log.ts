// The log: one JSON line an event on standard output.
import { type DestinationStream, type Logger as PinoLogger, pino, stdTimeFunctions } from "pino";

export type Logger = PinoLogger;

/** Levels a configuration may name, most detailed first. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;

/**
 * @param level one of LOG_LEVELS
 * @param destination where lines go; standard output, written synchronously, if left out: nothing is lost at
 * exit
 */
export function makeLogger(level: string, destination?: DestinationStream): Logger {
  const options = { level, base: { program: "epp-wasm-sidecar" }, timestamp: stdTimeFunctions.isoTime };
  return destination === undefined ? pino(options) : pino(options, destination);
}

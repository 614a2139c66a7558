// Child processes for the scripts: run one to its end, capture or show its output, report how long it took.
import { spawn } from "node:child_process";

/** Output kept of a child; more is dropped from the front. */
const OUTPUT_CHARS_MAX = 4_194_304;

/** A command ended with another code than 0, or could not be started. */
export class CommandError extends Error {
  code = "ERR_COMMAND";
  constructor(command, exitCode, output) {
    super(
      `\`${command}\` ended with ${exitCode === null ? "a signal" : `code ${exitCode}`}\n${output.slice(-4_000)}`,
    );
    this.name = "CommandError";
    this.exitCode = exitCode;
    this.output = output;
  }
}

/**
 * Runs a command to its end.
 * @param options.show true: its output goes to ours as it comes; false: only into the result
 * @returns {code, output}: exit code (null after a signal, 127 when it could not be started), both streams' text
 */
export function run(command, args, { cwd, env, show = false } = {}) {
  return new Promise((settle) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    const take = (target) => (text) => {
      output = (output + text).slice(-OUTPUT_CHARS_MAX);
      if (show) target.write(text);
    };
    child.stdout.setEncoding("utf8").on("data", take(process.stdout));
    child.stderr.setEncoding("utf8").on("data", take(process.stderr));
    child.once("error", (error) => settle({ code: 127, output: output + error.message }));
    child.once("close", (code) => settle({ code, output }));
  });
}

/** Runs a command that has to succeed. @throws CommandError */
export async function runOrThrow(command, args, options) {
  const { code, output } = await run(command, args, options);
  if (code !== 0) throw new CommandError([command, ...args].join(" "), code, output);
  return output;
}

/**
 * Does one step of the set-up: says what it does before, and how long it took after.
 * @returns what `work` returns
 */
export async function step(title, work) {
  const started = performance.now();
  process.stderr.write(`· ${title} …\n`);
  const result = await work();
  process.stderr.write(`  done in ${((performance.now() - started) / 1000).toFixed(1)} s\n`);
  return result;
}

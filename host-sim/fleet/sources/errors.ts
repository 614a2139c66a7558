// What can be wrong with a trace file or with what is asked of a generator.

/** A line of a trace cannot be used. The message names file, line, field, value and what was expected. */
export class TraceLineError extends Error {
  readonly code = "bad_trace_line";
  readonly line: number;

  constructor(path: string, line: number, field: string, value: unknown, expected: string) {
    super(`${path}:${line}: ${field} is ${describe(value)}, expected ${expected}`);
    this.line = line;
  }
}

/** The options cannot give a workload. The message names the option, its value and what was expected. */
export class SourceOptionsError extends RangeError {
  readonly code = "bad_source_options";

  constructor(option: string, value: unknown, expected: string) {
    super(`${option} is ${describe(value)}, expected ${expected}`);
  }
}

/** Characters of an offending value that a message repeats. */
const VALUE_CHARACTERS_MAX = 60;

function describe(value: unknown): string {
  const text = value === undefined ? "absent" : (JSON.stringify(value) ?? String(value));
  return text.length > VALUE_CHARACTERS_MAX ? `${text.slice(0, VALUE_CHARACTERS_MAX)}…` : text;
}

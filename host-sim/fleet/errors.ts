// What is refused before or during a simulated run, one class a cause.

/** A number of a run's set-up is out of range. */
export class RunOptionError extends RangeError {
  readonly code = "ERR_RUN_OPTION";
  constructor(field: string, value: unknown, expected: string) {
    super(`${field} is ${String(value)}, expected ${expected}`);
    this.name = "RunOptionError";
  }
}

/** A request of the workload contradicts itself or the one before. */
export class WorkloadError extends RangeError {
  readonly code = "ERR_WORKLOAD";
  constructor(workload: string, field: string, value: unknown, expected: string) {
    super(`workload ${workload}: ${field} is ${String(value)}, expected ${expected}`);
    this.name = "WorkloadError";
  }
}

/** A policy chose what cannot be. */
export class ChoiceError extends RangeError {
  readonly code = "ERR_CHOICE";
  constructor(policy: string, request: number, field: string, value: unknown, expected: string) {
    super(`policy ${policy}, request ${request}: ${field} is ${String(value)}, expected ${expected}`);
    this.name = "ChoiceError";
  }
}

/** Requests wait and nothing is left that could serve them. */
export class StalledError extends Error {
  readonly code = "ERR_STALLED";
  constructor(policy: string, open: number, nowMs: number) {
    super(`policy ${policy}: ${open} requests wait at ${nowMs} ms and no engine works`);
    this.name = "StalledError";
  }
}

/** The filter did what a gateway of the simulator cannot go on from. */
export class FilterError extends Error {
  readonly code = "ERR_FILTER";
  constructor(what: string) {
    super(`the filter ${what}`);
    this.name = "FilterError";
  }
}

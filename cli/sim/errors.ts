// What is wrong with a call of `npm run sim`, and what may go wrong beside it.

/** An option's value is none that it takes. */
export class SimFlagError extends Error {
  readonly code = "ERR_SIM_FLAG";
  constructor(option: string, value: unknown, expected: string) {
    super(`${option} is ${JSON.stringify(value)}, expected ${expected}`);
    this.name = "SimFlagError";
  }
}

/** A run failed on its thread. */
export class SimRunError extends Error {
  readonly code = "ERR_SIM_RUN";
  constructor(what: string, reason: string) {
    super(`${what}: ${reason}`);
    this.name = "SimRunError";
  }
}

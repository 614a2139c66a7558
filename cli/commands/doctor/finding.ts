// What doctor reports: one finding a fault, with what to do about it.

export type Severity = "error" | "warning";

/** A fault of the gateway or the sidecar. */
export interface Finding {
  /** Stable name of the fault, for scripts. */
  readonly code: string;
  /** error: requests fail or are routed blindly. warning: it works, and will not under load or failure. */
  readonly severity: Severity;
  /** What is wrong, where. */
  readonly what: string;
  /** What to change. */
  readonly mend: string;
}

export function error(code: string, what: string, mend: string): Finding {
  return { code, severity: "error", what, mend };
}

export function warning(code: string, what: string, mend: string): Finding {
  return { code, severity: "warning", what, mend };
}

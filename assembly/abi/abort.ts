// What AssemblyScript calls when it would throw: Envoy has no env.abort, so the module traps.

/** Ends the call with a trap; the host answers 503 and, under FAIL_RELOAD, starts a fresh VM. */
export function abortModule(_message: usize, _file: usize, _line: u32, _column: u32): void {
  unreachable();
}

// Small modules that Envoy accepts or refuses at load, each for one reason.
import binaryen from "binaryen";
import { ENV_FUNCTIONS, WASI_FUNCTIONS, WASI_MODULES } from "../../host-sim/host/abi.ts";

/** A module in text form and whether Envoy's host takes it. */
export interface ModuleVariant {
  readonly name: string;
  readonly accepted: boolean;
  /** Code of the error host-sim refuses it with. */
  readonly code?: string;
  readonly wat: string;
}

const ABI = `(func (export "proxy_abi_version_0_2_1"))`;
const MEMORY = `(memory (export "memory") 1)`;
const MALLOC = `(func (export "malloc") (param i32) (result i32) (i32.const 1024))`;

/** A module of these parts around the obligatory ones. */
function module(...parts: string[]): string {
  return `(module ${parts.join(" ")} ${MEMORY} ${ABI} ${MALLOC})`;
}

function importing(module_: string, name: string, type: string, parts = ""): string {
  return module(`(import "${module_}" "${name}" (func $f ${type}))`, parts);
}

const LOG = "(param i32 i32 i32) (result i32)";
const CALL_LOG = "(drop (call $f (i32.const 2) (i32.const 0) (i32.const 0)))";

const VALUE_TYPES: Readonly<Record<string, string>> = { i: "i32", l: "i64" };

/** An import in text form from a signature like `ii>i`. */
function importText(from: string, name: string, signature: string): string {
  const [parameters = "", result = ""] = signature.split(">");
  const types = (letters: string): string => [...letters].map((letter) => VALUE_TYPES[letter]).join(" ");
  const parts = `${parameters === "" ? "" : `(param ${types(parameters)})`} ${result === "" ? "" : `(result ${types(result)})`}`;
  return `(import "${from}" "${name}" (func ${parts}))`;
}

/** Every host function this host offers, imported under the signature it offers. */
function everything(): string {
  const env = Object.entries(ENV_FUNCTIONS).map(([name, signature]) => importText("env", name, signature));
  const wasi = Object.entries(WASI_FUNCTIONS).flatMap(([name, signature]) =>
    WASI_MODULES.map((from) => importText(from, name, signature)),
  );
  return module(...env, ...wasi);
}

export const MODULE_VARIANTS: readonly ModuleVariant[] = [
  { name: "one that imports every host function of the table in abi.ts", accepted: true, wat: everything() },
  { name: "nothing but the obligatory exports", accepted: true, wat: module() },
  {
    name: "proxy_on_memory_allocate instead of malloc",
    accepted: true,
    wat: `(module ${MEMORY} ${ABI} (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 8)))`,
  },
  { name: "no ABI marker", accepted: false, code: "ABI_VERSION", wat: `(module ${MEMORY} ${MALLOC})` },
  { name: "no malloc", accepted: false, code: "MALLOC_MISSING", wat: `(module ${MEMORY} ${ABI})` },
  {
    name: "malloc with two parameters",
    accepted: false,
    code: "EXPORT_SIGNATURE",
    wat: `(module ${MEMORY} ${ABI} (func (export "malloc") (param i32 i32) (result i32) (i32.const 8)))`,
  },
  {
    name: "env.abort, which asc imports by default",
    accepted: false,
    code: "IMPORT_UNKNOWN",
    wat: importing("env", "abort", "(param i32 i32 i32 i32)"),
  },
  {
    name: "proxy_clear_route_cache, which only ABI 0.1.0 has",
    accepted: false,
    code: "IMPORT_UNKNOWN",
    wat: importing("env", "proxy_clear_route_cache", "(result i32)"),
  },
  {
    name: "proxy_continue_request, which only ABI 0.1.0 has",
    accepted: false,
    code: "IMPORT_UNKNOWN",
    wat: importing("env", "proxy_continue_request", "(result i32)"),
  },
  { name: "proxy_log as it is", accepted: true, wat: importing("env", "proxy_log", LOG) },
  {
    name: "proxy_log without a result",
    accepted: false,
    code: "IMPORT_SIGNATURE",
    wat: importing("env", "proxy_log", "(param i32 i32 i32)"),
  },
  {
    name: "proxy_increment_metric with a 32-bit offset",
    accepted: false,
    code: "IMPORT_SIGNATURE",
    wat: importing("env", "proxy_increment_metric", "(param i32 i32) (result i32)"),
  },
  {
    name: "proxy_get_log_level, new in 0.2.1",
    accepted: true,
    wat: importing("env", "proxy_get_log_level", "(param i32) (result i32)"),
  },
  {
    name: "WASI under its old name",
    accepted: true,
    wat: importing("wasi_unstable", "random_get", "(param i32 i32) (result i32)"),
  },
  {
    name: "a WASI function Envoy does not have",
    accepted: false,
    code: "IMPORT_UNKNOWN",
    wat: importing("wasi_snapshot_preview1", "proc_raise", "(param i32) (result i32)"),
  },
  {
    name: "an imported global",
    accepted: false,
    code: "IMPORT_UNKNOWN",
    wat: module(`(import "env" "base" (global i32))`),
  },
  {
    name: "an imported memory",
    accepted: true,
    wat: `(module (import "env" "memory" (memory 1)) ${ABI} ${MALLOC})`,
  },
  {
    name: "proxy_on_tick with a result",
    accepted: false,
    code: "EXPORT_SIGNATURE",
    wat: module(`(func (export "proxy_on_tick") (param i32) (result i32) (i32.const 0))`),
  },
  {
    name: "proxy_on_request_headers as in ABI 0.1.0",
    accepted: false,
    code: "EXPORT_SIGNATURE",
    wat: module(`(func (export "proxy_on_request_headers") (param i32 i32) (result i32) (i32.const 0))`),
  },
  {
    name: "vm_start answers false",
    accepted: false,
    code: "VM_START_REFUSED",
    wat: module(`(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 0))`),
  },
  {
    name: "vm_start traps",
    accepted: false,
    code: "VM_START_REFUSED",
    wat: module(`(func (export "proxy_on_vm_start") (param i32 i32) (result i32) (unreachable))`),
  },
  {
    name: "configure answers false",
    accepted: false,
    code: "CONFIGURE_REFUSED",
    wat: module(`(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 0))`),
  },
  {
    name: "configure answers true",
    accepted: true,
    wat: module(`(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))`),
  },
  {
    name: "_initialize logs",
    accepted: true,
    wat: importing("env", "proxy_log", LOG, `(func (export "_initialize") ${CALL_LOG})`),
  },
  {
    name: "_initialize asks for the time, which is restricted",
    accepted: false,
    code: "INITIALIZE_TRAPPED",
    wat: importing(
      "env",
      "proxy_get_current_time_nanoseconds",
      "(param i32) (result i32)",
      `(func (export "_initialize") (drop (call $f (i32.const 0))))`,
    ),
  },
  {
    name: "_initialize reads the WASI clock",
    accepted: true,
    wat: importing(
      "wasi_snapshot_preview1",
      "clock_time_get",
      "(param i32 i64 i32) (result i32)",
      `(func (export "_initialize") (drop (call $f (i32.const 0) (i64.const 1) (i32.const 0))))`,
    ),
  },
  {
    name: "_initialize traps",
    accepted: false,
    code: "INITIALIZE_TRAPPED",
    wat: module(`(func (export "_initialize") unreachable)`),
  },
  {
    name: "_start runs where there is no _initialize, and traps",
    accepted: false,
    code: "INITIALIZE_TRAPPED",
    wat: module(`(func (export "_start") unreachable)`),
  },
  {
    name: "_start is not looked at where there is an _initialize",
    accepted: true,
    wat: module(`(func (export "_start") unreachable)`, `(func (export "_initialize"))`),
  },
  {
    name: "a start section that calls the host",
    accepted: false,
    code: "INITIALIZE_TRAPPED",
    wat: importing("env", "proxy_log", LOG, `(func $s ${CALL_LOG}) (start $s)`),
  },
];

/** The binary of a variant. */
export function variantBinary(variant: ModuleVariant): Uint8Array {
  const parsed = binaryen.parseText(variant.wat);
  try {
    return parsed.emitBinary();
  } finally {
    parsed.dispose();
  }
}

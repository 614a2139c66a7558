// The one part of WASI that the filter reads: environment variables, which Envoy passes to a VM when its
// vm_config.environment_variables names them. Source: proxy-wasm-cpp-host src/exports.cc, wasi_unstable_environ_*.

// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environ_sizes_get(count: usize, bytes: usize): u32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "environ_get")
declare function environ_get(environ: usize, buffer: usize): u32;

/** Variables and bytes of all of them; a larger environment counts as empty. */
export const ENVIRONMENT_VARIABLES_MAX: u32 = 64;
export const ENVIRONMENT_BYTES_MAX: u32 = 8192;

const sizes: usize = memory.data(8, 4);
const pointers: usize = memory.data(64 * 4, 4);
const bytes: usize = memory.data(8192, 4);

/** Reads the environment; returns the number of variables, each "NAME=value\0" at environmentVariable(i). */
export function environmentRead(): u32 {
  if (environ_sizes_get(sizes, sizes + 4) != 0) return 0;
  const count = load<u32>(sizes);
  if (count > ENVIRONMENT_VARIABLES_MAX || load<u32>(sizes, 4) > ENVIRONMENT_BYTES_MAX) return 0;
  return environ_get(pointers, bytes) == 0 ? count : 0;
}

export function environmentVariable(index: u32): usize {
  return load<u32>(pointers + (<usize>index << 2));
}

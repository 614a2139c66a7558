// The WASI functions Envoy offers: output to its log, environment, clock, random; everything else refused.
import type { HostFunctions } from "./imports.ts";
import type { WasmVm } from "./vm.ts";

const ESUCCESS = 0;
const EBADF = 8;
const EFAULT = 21;
const ENOENT = 44;
const ENOSYS = 52;
const ENOTSUP = 58;
const STDOUT = 1;
const STDERR = 2;
const LEVEL_INFO = 2;
const LEVEL_ERROR = 4;
const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;

/** WASI for one VM (proxy-wasm-cpp-host src/exports.cc, wasi_unstable_*). */
export function wasiFunctions(vm: WasmVm): HostFunctions {
  return {
    ...environmentFunctions(vm),
    ...fileFunctions(vm),
    clock_time_get: (id: number, _precision: bigint, out: number) => {
      const { clock } = vm.thread;
      let time: bigint;
      if (id === CLOCK_REALTIME) time = clock.wallNs();
      else if (id === CLOCK_MONOTONIC) time = BigInt(Math.round(clock.monotonicMs() * 1e6));
      else return ENOTSUP;
      return vm.setU64(out, time) ? ESUCCESS : EFAULT;
    },
    random_get: (pointer: number, length: number) => {
      const target = vm.bytes(pointer, length);
      if (target === null) return EFAULT;
      vm.thread.host.fillRandom(target);
      return ESUCCESS;
    },
    proc_exit: (_code: number) => {},
    // Yielding to nobody is a success.
    sched_yield: () => ESUCCESS,
    poll_oneoff: () => ENOSYS,
  };
}

function environmentFunctions(vm: WasmVm): HostFunctions {
  return {
    environ_sizes_get: (countOut: number, bytesOut: number) => {
      let bytes = 0;
      for (const [key, value] of vm.environment)
        bytes += Buffer.byteLength(key) + Buffer.byteLength(value) + 2;
      return vm.setWord(countOut, vm.environment.length) && vm.setWord(bytesOut, bytes) ? ESUCCESS : EFAULT;
    },
    environ_get: (pointersOut: number, textOut: number) => {
      let pointer = pointersOut >>> 0;
      let text = textOut >>> 0;
      for (const [key, value] of vm.environment) {
        const line = Buffer.from(`${key}=${value}\0`);
        const target = vm.bytes(text, line.length);
        if (target === null || !vm.setWord(pointer, text)) return EFAULT;
        target.set(line);
        pointer += 4;
        text += line.length;
      }
      return ESUCCESS;
    },
    args_sizes_get: (countOut: number, bytesOut: number) =>
      vm.setWord(countOut, 0) && vm.setWord(bytesOut, 0) ? ESUCCESS : EFAULT,
    args_get: (_pointers: number, _text: number) => ESUCCESS,
  };
}

function fileFunctions(vm: WasmVm): HostFunctions {
  const { host } = vm.thread;
  return {
    fd_write: (descriptor: number, vectors: number, count: number, writtenOut: number) => {
      if (descriptor !== STDOUT && descriptor !== STDERR) return EBADF;
      let text = "";
      for (let index = 0; index < count >>> 0; index++) {
        const vector = vm.bytes((vectors >>> 0) + index * 8, 8);
        const part = vector === null ? null : vm.text(vector.readUInt32LE(0), vector.readUInt32LE(4));
        if (part === null) return EFAULT;
        text += part;
      }
      const level = descriptor === STDOUT ? LEVEL_INFO : LEVEL_ERROR;
      if (text.length > 0)
        host.log(vm.thread, vm.context().plugin?.rootId ?? "", level, text.replace(/\n$/, ""));
      return vm.setWord(writtenOut, text.length) ? ESUCCESS : EFAULT;
    },
    fd_read: (_fd: number, _vectors: number, _count: number, _read: number) => ENOSYS,
    fd_seek: (_fd: number, _offset: bigint, _whence: number, _out: number) => ESUCCESS,
    fd_close: (_fd: number) => ESUCCESS,
    fd_fdstat_get: (descriptor: number, out: number) => {
      if (descriptor !== STDOUT && descriptor !== STDERR) return EBADF;
      const target = vm.bytes(out, 24);
      // fs_rights_base = FD_WRITE, everything else zero.
      if (target !== null) target.fill(0).writeUInt32LE(64, 8);
      return ESUCCESS;
    },
    fd_fdstat_set_flags: (_fd: number, _flags: number) => ENOSYS,
    path_open: () => ENOENT,
    fd_prestat_get: (_fd: number, _out: number) => EBADF,
    fd_prestat_dir_name: (_fd: number, _path: number, _length: number) => ENOSYS,
  };
}

// Host functions for logging, time, ticks, contexts, properties, metrics, foreign functions and gRPC.
import {
  LOG_LEVEL_MAX,
  METRIC_ID_INCREMENT,
  METRIC_TYPE_MASK,
  METRIC_TYPE_MAX,
  MetricType,
  Result,
} from "./abi.ts";
import { foreignFunctions } from "./foreign.ts";
import type { HostFunctions } from "./imports.ts";
import { MetricStore, type Metric } from "./metrics.ts";
import { readProperty } from "./properties.ts";
import type { WasmVm } from "./vm.ts";

/** A tick period no Envoy timer accepts, ms; beyond it the period is taken as unsigned all the same. */
const U32_MAX = 0xffff_ffff;

/** Logging, time, ticks, effective context, done, properties, metrics, foreign functions, gRPC. */
export function systemFunctions(vm: WasmVm): HostFunctions {
  return {
    ...contextFunctions(vm),
    ...propertyFunctions(vm),
    ...metricFunctions(vm),
    ...grpcFunctions(vm),
    pthread_equal: (left: number, right: number) => (left === right ? 1 : 0),
    emscripten_notify_memory_growth: (_memory: number) => {},
    // Name resolution never answers here: the filter API of Envoy has no user of it in this project.
    envoy_resolve_dns: (_pointer: number, _length: number, _token: number) => Result.UNIMPLEMENTED,
  };
}

function contextFunctions(vm: WasmVm): HostFunctions {
  const { clock, host } = vm.thread;
  return {
    proxy_log: (level: number, pointer: number, length: number) => {
      if (level >>> 0 > LOG_LEVEL_MAX) return Result.BAD_ARGUMENT;
      const message = vm.text(pointer, length);
      if (message === null) return Result.INVALID_MEMORY_ACCESS;
      host.log(vm.thread, vm.context().plugin?.rootId ?? "", level, message);
      return Result.OK;
    },
    proxy_get_log_level: (out: number) =>
      vm.setWord(out, host.logLevel) ? Result.OK : Result.INVALID_MEMORY_ACCESS,
    proxy_get_status: (codeOut: number, pointerOut: number, sizeOut: number) => {
      const status = vm.context().root?.status ?? { code: 0, message: "" };
      if (!vm.setWord(codeOut, status.code)) return Result.INVALID_MEMORY_ACCESS;
      return vm.returnText(status.message, pointerOut, sizeOut) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_get_current_time_nanoseconds: (out: number) =>
      vm.setU64(out, clock.wallNs()) ? Result.OK : Result.INVALID_MEMORY_ACCESS,
    proxy_set_tick_period_milliseconds: (periodMs: number) => {
      vm.context().root?.setTickPeriod((periodMs >>> 0) % (U32_MAX + 1));
      return Result.OK;
    },
    proxy_set_effective_context: (id: number) => {
      if (!vm.contexts.has(id >>> 0) && id !== 0) return Result.BAD_ARGUMENT;
      vm.effectiveId = id >>> 0;
      return Result.OK;
    },
    proxy_done: () => {
      const root = vm.context().root;
      const key = root?.pluginKey ?? "";
      const pending = vm.pendingDone.get(key);
      if (pending === undefined) return Result.NOT_FOUND;
      vm.pendingDone.delete(key);
      vm.afterCall.push(() => pending.onDelete());
      return Result.OK;
    },
  };
}

function propertyFunctions(vm: WasmVm): HostFunctions {
  const foreign = foreignFunctions(vm);
  return {
    proxy_get_property: (path: number, pathLength: number, pointerOut: number, sizeOut: number) => {
      const text = vm.text(path, pathLength);
      if (text === null) return Result.INVALID_MEMORY_ACCESS;
      const context = vm.context();
      const value = readProperty(text, (name) => context.property(name));
      if (typeof value === "number") return value;
      return vm.returnBytes(value, pointerOut, sizeOut) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_set_property: (path: number, pathLength: number, value: number, valueLength: number) => {
      const text = vm.text(path, pathLength);
      const bytes = vm.bytes(value, valueLength);
      if (text === null || bytes === null) return Result.INVALID_MEMORY_ACCESS;
      return vm.context().setProperty(text, bytes);
    },
    proxy_call_foreign_function: (
      name: number,
      nameLength: number,
      args: number,
      argsLength: number,
      pointerOut: number,
      sizeOut: number,
    ) => {
      const functionName = vm.text(name, nameLength);
      const argument = vm.bytes(args, argsLength);
      if (functionName === null || argument === null) return Result.INVALID_MEMORY_ACCESS;
      const fn = foreign[functionName];
      if (fn === undefined) return Result.NOT_FOUND;
      const { result, value } = fn(Buffer.from(argument));
      let pointer = 0;
      if (value.length > 0 && pointerOut !== 0) {
        pointer = vm.allocate(value.length);
        if (pointer !== 0) vm.mem().set(value, pointer);
      }
      if (pointerOut !== 0 && !vm.setWord(pointerOut, pointer)) return Result.INVALID_MEMORY_ACCESS;
      if (sizeOut !== 0 && !vm.setWord(sizeOut, value.length)) return Result.INVALID_MEMORY_ACCESS;
      return result;
    },
  };
}

/** Adds a signed amount to a gauge or a positive one to a counter. */
function increment(metric: Metric | undefined, id: number, offset: bigint): Result {
  if ((id & METRIC_TYPE_MASK) > MetricType.GAUGE) return Result.BAD_ARGUMENT;
  if (metric === undefined) return Result.NOT_FOUND;
  if (metric.kind === MetricType.COUNTER && offset <= 0n) return Result.BAD_ARGUMENT;
  metric.value = BigInt.asUintN(64, metric.value + offset);
  return Result.OK;
}

/** Adds to a counter, sets a gauge, samples a histogram. */
function record(metric: Metric | undefined, value: bigint): Result {
  if (metric === undefined) return Result.NOT_FOUND;
  const unsigned = BigInt.asUintN(64, value);
  if (metric.histogram !== null) MetricStore.record(metric.histogram, Number(unsigned));
  else
    metric.value =
      metric.kind === MetricType.COUNTER ? BigInt.asUintN(64, metric.value + unsigned) : unsigned;
  return Result.OK;
}

function metricFunctions(vm: WasmVm): HostFunctions {
  return {
    proxy_define_metric: (kind: number, name: number, nameLength: number, idOut: number) => {
      const text = vm.text(name, nameLength);
      if (text === null) return Result.INVALID_MEMORY_ACCESS;
      if (kind >>> 0 > METRIC_TYPE_MAX) return Result.BAD_ARGUMENT;
      const index = kind as 0 | 1 | 2;
      const id = (vm.nextMetricId[index] += METRIC_ID_INCREMENT);
      vm.metricsById.set(id, vm.thread.host.metrics.define(kind, text));
      return vm.setWord(idOut, id) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_increment_metric: (id: number, offset: bigint) =>
      increment(vm.metricsById.get(id >>> 0), id, offset),
    proxy_record_metric: (id: number, value: bigint) => record(vm.metricsById.get(id >>> 0), value),
    proxy_get_metric: (id: number, out: number) => {
      if ((id & METRIC_TYPE_MASK) > MetricType.GAUGE) return Result.BAD_ARGUMENT;
      const metric = vm.metricsById.get(id >>> 0);
      if (metric === undefined) return Result.NOT_FOUND;
      return vm.setU64(out, metric.value) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
  };
}

/** gRPC as on an Envoy without the named cluster: starting a call is ParseFailure, tokens are unknown. */
function grpcFunctions(_vm: WasmVm): HostFunctions {
  return {
    proxy_grpc_call: () => Result.PARSE_FAILURE,
    proxy_grpc_stream: () => Result.PARSE_FAILURE,
    proxy_grpc_close: (_token: number) => Result.NOT_FOUND,
    proxy_grpc_cancel: (_token: number) => Result.NOT_FOUND,
    proxy_grpc_send: () => Result.NOT_FOUND,
  };
}

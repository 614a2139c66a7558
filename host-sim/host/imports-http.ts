// Host functions for header maps, buffers, local replies, stream control and http_call.
import { BUFFER_TYPE_MAX, MAP_TYPE_MAX, Result, STREAM_TYPE_MAX } from "./abi.ts";
import { HeaderMap } from "./header-map.ts";
import { startHttpCall } from "./http-call.ts";
import type { HostFunctions } from "./imports.ts";
import { decodePairs, encodePairs, pairsBytes } from "./pairs.ts";
import type { WasmVm } from "./vm.ts";

/** Maps, buffers, replies, continue/close, http_call. */
export function httpFunctions(vm: WasmVm): HostFunctions {
  return { ...mapReads(vm), ...mapWrites(vm), ...bufferFunctions(vm), ...streamFunctions(vm) };
}

function mapReads(vm: WasmVm): HostFunctions {
  return {
    proxy_get_header_map_value: (
      type: number,
      key: number,
      keyLength: number,
      pointerOut: number,
      sizeOut: number,
    ) => {
      if (type >>> 0 > MAP_TYPE_MAX) return Result.BAD_ARGUMENT;
      const name = vm.text(key, keyLength);
      if (name === null) return Result.INVALID_MEMORY_ACCESS;
      const context = vm.context();
      const map = context.mapForRead(type);
      if (map === null) return context.absentMapResult;
      const value = map.get(name);
      if (value === undefined) return Result.NOT_FOUND;
      return vm.returnText(value, pointerOut, sizeOut) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_get_header_map_pairs: (type: number, pointerOut: number, sizeOut: number) => {
      if (type >>> 0 > MAP_TYPE_MAX) return Result.BAD_ARGUMENT;
      const pairs = vm.context().mapForRead(type)?.pairs() ?? [];
      let pointer = 0;
      let bytes = 0;
      if (pairs.length > 0) {
        bytes = pairsBytes(pairs);
        pointer = vm.allocate(bytes);
        if (pointer === 0) return Result.INVALID_MEMORY_ACCESS;
        encodePairs(pairs, vm.mem().subarray(pointer, pointer + bytes));
      }
      const written = vm.setWord(pointerOut, pointer) && vm.setWord(sizeOut, bytes);
      return written ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_get_header_map_size: (type: number, out: number) => {
      if (type >>> 0 > MAP_TYPE_MAX) return Result.BAD_ARGUMENT;
      // Envoy takes the map for writing here, so the calls' reply maps are not available.
      const map = vm.context().mapForWrite(type);
      if (map === null) return Result.BAD_ARGUMENT;
      return vm.setWord(out, map.bytes) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
  };
}

function mapWrites(vm: WasmVm): HostFunctions {
  const write = (
    type: number,
    key: number,
    keyLength: number,
    value: number,
    valueLength: number,
    change: (map: HeaderMap, name: string, text: string) => void,
  ): Result => {
    if (type >>> 0 > MAP_TYPE_MAX) return Result.BAD_ARGUMENT;
    const name = vm.text(key, keyLength);
    const text = vm.text(value, valueLength);
    if (name === null || text === null) return Result.INVALID_MEMORY_ACCESS;
    const context = vm.context();
    const map = context.mapForWrite(type);
    if (map === null) return Result.BAD_ARGUMENT;
    change(map, name, text);
    context.onHeadersModified(type);
    return Result.OK;
  };
  return {
    proxy_add_header_map_value: (
      type: number,
      key: number,
      keyLength: number,
      value: number,
      valueLength: number,
    ) => write(type, key, keyLength, value, valueLength, (map, name, text) => map.add(name, text)),
    proxy_replace_header_map_value: (
      type: number,
      key: number,
      keyLength: number,
      value: number,
      valueLength: number,
    ) => write(type, key, keyLength, value, valueLength, (map, name, text) => map.set(name, text)),
    proxy_remove_header_map_value: (type: number, key: number, keyLength: number) =>
      write(type, key, keyLength, 0, 0, (map, name) => map.remove(name)),
    proxy_set_header_map_pairs: (type: number, data: number, length: number) => {
      if (type >>> 0 > MAP_TYPE_MAX) return Result.BAD_ARGUMENT;
      const bytes = vm.bytes(data, length);
      if (bytes === null) return Result.INVALID_MEMORY_ACCESS;
      const context = vm.context();
      const map = context.mapForWrite(type);
      if (map === null) return Result.BAD_ARGUMENT;
      map.assign(decodePairs(bytes));
      context.onHeadersModified(type);
      return Result.OK;
    },
  };
}

function bufferFunctions(vm: WasmVm): HostFunctions {
  return {
    proxy_get_buffer_bytes: (
      type: number,
      start: number,
      length: number,
      pointerOut: number,
      sizeOut: number,
    ) => {
      if (type >>> 0 > BUFFER_TYPE_MAX) return Result.BAD_ARGUMENT;
      const buffer = vm.context().buffer(type);
      if (buffer === null) return Result.NOT_FOUND;
      const from = start >>> 0;
      const bytes = Math.max(0, Math.min(length >>> 0, buffer.bytes.length - from));
      let pointer = 0;
      if (bytes > 0) {
        pointer = vm.allocate(bytes);
        if (pointer === 0) return Result.INVALID_MEMORY_ACCESS;
        buffer.bytes.copyTo(from, bytes, vm.mem().subarray(pointer, pointer + bytes));
      }
      const written = vm.setWord(pointerOut, pointer) && vm.setWord(sizeOut, bytes);
      return written ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_get_buffer_status: (type: number, lengthOut: number, flagsOut: number) => {
      if (type >>> 0 > BUFFER_TYPE_MAX) return Result.BAD_ARGUMENT;
      const buffer = vm.context().buffer(type);
      if (buffer === null) return Result.NOT_FOUND;
      const written = vm.setWord(lengthOut, buffer.bytes.length) && vm.setWord(flagsOut, 0);
      return written ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_set_buffer_bytes: (
      type: number,
      start: number,
      length: number,
      data: number,
      dataLength: number,
    ) => {
      if (type >>> 0 > BUFFER_TYPE_MAX) return Result.BAD_ARGUMENT;
      const buffer = vm.context().buffer(type);
      if (buffer === null) return Result.NOT_FOUND;
      const source = vm.bytes(data, dataLength);
      if (source === null) return Result.INVALID_MEMORY_ACCESS;
      if (!buffer.writable) return Result.BAD_ARGUMENT;
      const from = start >>> 0;
      if (from === 0) {
        buffer.bytes.drain(length >>> 0);
        buffer.bytes.prepend(Buffer.from(source));
        return Result.OK;
      }
      if (from < buffer.bytes.length) return Result.BAD_ARGUMENT;
      buffer.bytes.append(Buffer.from(source));
      return Result.OK;
    },
  };
}

function streamFunctions(vm: WasmVm): HostFunctions {
  return {
    proxy_continue_stream: (type: number) =>
      type >>> 0 > STREAM_TYPE_MAX ? Result.BAD_ARGUMENT : vm.context().continueStream(type),
    proxy_close_stream: (type: number) =>
      type >>> 0 > STREAM_TYPE_MAX ? Result.BAD_ARGUMENT : vm.context().closeStream(type),
    proxy_send_local_response: (
      status: number,
      details: number,
      detailsLength: number,
      body: number,
      bodyLength: number,
      headers: number,
      headersLength: number,
      _grpcStatus: number,
    ) => {
      const detailText = vm.text(details, detailsLength);
      const bodyBytes = vm.bytes(body, bodyLength);
      const headerBytes = vm.bytes(headers, headersLength);
      if (detailText === null || bodyBytes === null || headerBytes === null)
        return Result.INVALID_MEMORY_ACCESS;
      const map = HeaderMap.from(decodePairs(headerBytes));
      // White space in details would break access logs; Envoy replaces it.
      vm.context().sendLocalResponse(
        status >>> 0,
        Buffer.from(bodyBytes),
        map,
        detailText.replace(/\s/g, "_"),
      );
      vm.nextIterationStopped = true;
      return Result.OK;
    },
    proxy_http_call: (
      uri: number,
      uriLength: number,
      headers: number,
      headersLength: number,
      body: number,
      bodyLength: number,
      trailers: number,
      trailersLength: number,
      timeoutMs: number,
      tokenOut: number,
    ) => {
      const cluster = vm.text(uri, uriLength);
      const bodyBytes = vm.bytes(body, bodyLength);
      const headerBytes = vm.bytes(headers, headersLength);
      const trailerBytes = vm.bytes(trailers, trailersLength);
      if (cluster === null || bodyBytes === null || headerBytes === null || trailerBytes === null) {
        return Result.INVALID_MEMORY_ACCESS;
      }
      if (!vm.setWord(tokenOut, 0)) return Result.INVALID_MEMORY_ACCESS;
      const root = vm.context().root;
      if (root === null) return Result.BAD_ARGUMENT;
      const headerPairs = decodePairs(headerBytes);
      const trailerPairs = decodePairs(trailerBytes);
      const started = startHttpCall(
        root,
        cluster,
        headerPairs,
        Buffer.from(bodyBytes),
        trailerPairs,
        timeoutMs | 0,
      );
      vm.setWord(tokenOut, started.token);
      return started.result;
    },
  };
}

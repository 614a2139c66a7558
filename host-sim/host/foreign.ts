// Foreign functions Envoy registers that need nothing but the stream: filter state, route cache, properties, zlib.
import { deflateSync, inflateSync } from "node:zlib";
import { Result } from "./abi.ts";
import type { WasmVm } from "./vm.ts";

/** What a foreign function answers. */
export interface ForeignAnswer {
  readonly result: Result;
  readonly value: Uint8Array;
}

type ForeignFunction = (argument: Buffer) => ForeignAnswer;

const NOTHING = new Uint8Array(0);

function answer(result: Result, value: Uint8Array = NOTHING): ForeignAnswer {
  return { result, value };
}

/** Reads the length-delimited fields 1 and 2 of a protobuf message, both strings or bytes. */
function readTwoStrings(message: Buffer): { first: Buffer; second: Buffer } | null {
  const fields: Buffer[] = [Buffer.alloc(0), Buffer.alloc(0)];
  let position = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 35 && position < message.length; shift += 7) {
      const byte = message[position++] as number;
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
    return -1;
  };
  while (position < message.length) {
    const tag = varint();
    const value = varint();
    if (tag < 0 || value < 0) return null;
    if ((tag & 7) === 0) continue;
    if ((tag & 7) !== 2 || position + value > message.length) return null;
    const field = (tag >>> 3) - 1;
    if (field === 0 || field === 1) fields[field] = message.subarray(position, position + value);
    position += value;
  }
  return { first: fields[0] as Buffer, second: fields[1] as Buffer };
}

/**
 * The foreign functions by name (Envoy source/extensions/common/wasm/foreign.cc). CEL expressions, signature
 * verification and request signing are not part of this host: they answer NotFound like any unknown name.
 */
export function foreignFunctions(vm: WasmVm): Readonly<Record<string, ForeignFunction>> {
  const declared = new Set<string>();
  return {
    clear_route_cache: () => {
      vm.context().onHeadersModified(0);
      return answer(Result.OK);
    },
    set_envoy_filter_state: (argument) => {
      const fields = readTwoStrings(argument);
      if (fields === null) return answer(Result.BAD_ARGUMENT);
      return answer(vm.context().setEnvoyFilterState(fields.first.toString("latin1"), fields.second));
    },
    declare_property: (argument) => {
      const name = readTwoStrings(argument)?.first.toString("latin1");
      if (name === undefined || declared.has(name)) return answer(Result.BAD_ARGUMENT);
      declared.add(name);
      return answer(Result.OK);
    },
    compress: (argument) => answer(Result.OK, deflateSync(argument)),
    uncompress: (argument) => {
      try {
        return answer(Result.OK, inflateSync(argument));
      } catch {
        return answer(Result.SERIALIZATION_FAILURE);
      }
    },
  };
}

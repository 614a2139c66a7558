// Host functions for shared data and shared queues.
import { Result } from "./abi.ts";
import type { HostFunctions } from "./imports.ts";
import type { WasmVm } from "./vm.ts";

/** Shared data and queues of the process, in the VM's vm_id namespace. */
export function sharedFunctions(vm: WasmVm): HostFunctions {
  const { sharedData } = vm.thread.host;
  return {
    ...queueFunctions(vm),
    proxy_get_shared_data: (
      key: number,
      keyLength: number,
      pointerOut: number,
      sizeOut: number,
      casOut: number,
    ) => {
      const name = vm.text(key, keyLength);
      if (name === null) return Result.INVALID_MEMORY_ACCESS;
      const stored = sharedData.get(vm.vmId, name);
      if (stored === undefined) return Result.NOT_FOUND;
      if (!vm.returnBytes(stored.value, pointerOut, sizeOut)) return Result.INVALID_MEMORY_ACCESS;
      return vm.setWord(casOut, stored.cas) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_set_shared_data: (
      key: number,
      keyLength: number,
      value: number,
      valueLength: number,
      cas: number,
    ) => {
      const name = vm.text(key, keyLength);
      const bytes = vm.bytes(value, valueLength);
      if (name === null || bytes === null) return Result.INVALID_MEMORY_ACCESS;
      return sharedData.set(vm.vmId, name, bytes, cas >>> 0);
    },
  };
}

function queueFunctions(vm: WasmVm): HostFunctions {
  const { sharedQueues } = vm.thread.host;
  return {
    proxy_register_shared_queue: (name: number, nameLength: number, tokenOut: number) => {
      const text = vm.text(name, nameLength);
      if (text === null) return Result.INVALID_MEMORY_ACCESS;
      const rootId = vm.context().root?.id ?? 0;
      const { thread, vmKey } = vm;
      const token = sharedQueues.register(vm.vmId, text, (ready) => {
        // The notice reaches whatever VM of this key lives on the registrant's thread by then.
        thread.clock.post(() => {
          const context = thread.livingVm(vmKey)?.contexts.get(rootId);
          if (context !== undefined) context.root?.onQueueReady(ready);
        });
      });
      return vm.setWord(tokenOut, token) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_resolve_shared_queue: (
      vmId: number,
      vmIdLength: number,
      name: number,
      nameLength: number,
      tokenOut: number,
    ) => {
      const space = vm.text(vmId, vmIdLength);
      const text = vm.text(name, nameLength);
      if (space === null || text === null) return Result.INVALID_MEMORY_ACCESS;
      const token = sharedQueues.resolve(space === "" ? vm.vmId : space, text);
      if (token === 0) return Result.NOT_FOUND;
      return vm.setWord(tokenOut, token) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_dequeue_shared_queue: (token: number, pointerOut: number, sizeOut: number) => {
      const item = sharedQueues.dequeue(token >>> 0);
      if (typeof item === "number") return item;
      return vm.returnBytes(item, pointerOut, sizeOut) ? Result.OK : Result.INVALID_MEMORY_ACCESS;
    },
    proxy_enqueue_shared_queue: (token: number, data: number, length: number) => {
      const bytes = vm.bytes(data, length);
      if (bytes === null) return Result.INVALID_MEMORY_ACCESS;
      return sharedQueues.enqueue(token >>> 0, bytes);
    },
  };
}

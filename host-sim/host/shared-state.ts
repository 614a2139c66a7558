// Process-wide state of the host: shared data with its compare-and-set counter, and shared queues.
import { Result } from "./abi.ts";

/** A stored value with the counter value it was written under. */
export interface SharedValue {
  readonly value: Buffer;
  readonly cas: number;
}

/** Called before every set; a result other than undefined is returned instead of storing. */
export type SetFault = (vmId: string, key: string) => Result | undefined;

/**
 * Shared data of all VMs of the process, keyed by (vm_id, key). One counter for all keys, from 1, skipping 0
 * when it wraps. There is no delete and no limit (proxy-wasm-cpp-host src/shared_data.cc).
 */
export class SharedData {
  private readonly spaces = new Map<string, Map<string, SharedValue>>();
  private nextCas = 1;
  /** Failure injection; see faults.ts. */
  setFault: SetFault | null = null;

  /** The value of `key`, or undefined. The buffer is the stored one and must not be changed. */
  get(vmId: string, key: string): SharedValue | undefined {
    return this.spaces.get(vmId)?.get(key);
  }

  /**
   * Stores a copy of `value`. `cas` 0 always wins; another one must equal the stored counter, except on an absent
   * key, which it creates.
   */
  set(vmId: string, key: string, value: Uint8Array, cas: number): Result {
    const fault = this.setFault?.(vmId, key);
    if (fault !== undefined) return fault;
    let space = this.spaces.get(vmId);
    if (space === undefined) this.spaces.set(vmId, (space = new Map()));
    const old = space.get(key);
    if (old !== undefined && cas !== 0 && cas !== old.cas) return Result.CAS_MISMATCH;
    space.set(key, { value: Buffer.from(value), cas: this.takeCas() });
    return Result.OK;
  }

  /** Keys stored under a vm_id, for tests and inspection; the ABI has no such call. */
  keys(vmId: string): string[] {
    return [...(this.spaces.get(vmId)?.keys() ?? [])];
  }

  /** Forgets a namespace: its last base VM is gone. */
  deleteVmId(vmId: string): void {
    this.spaces.delete(vmId);
  }

  private takeCas(): number {
    const cas = this.nextCas;
    this.nextCas = cas === 0xffff_ffff ? 1 : cas + 1;
    return cas;
  }
}

/** Who is told of new items: a function that reaches the registrant's thread and context. */
export type QueueNotify = (token: number) => void;

interface Queue {
  readonly vmId: string;
  readonly items: Buffer[];
  notify: QueueNotify;
}

/** Shared queues of the process. The last registrant is the only one told (proxy-wasm-cpp-host src/shared_queue.cc). */
export class SharedQueues {
  private readonly tokens = new Map<string, number>();
  private readonly queues = new Map<number, Queue>();
  private nextToken = 1;

  /** Registers or takes over a queue; pending items stay. Returns its token. */
  register(vmId: string, name: string, notify: QueueNotify): number {
    const key = `${vmId}\0${name}`;
    const known = this.tokens.get(key);
    if (known !== undefined) {
      (this.queues.get(known) as Queue).notify = notify;
      return known;
    }
    const token = this.nextToken++;
    this.tokens.set(key, token);
    this.queues.set(token, { vmId, items: [], notify });
    return token;
  }

  /** The token of a queue, 0 when there is none. */
  resolve(vmId: string, name: string): number {
    return this.tokens.get(`${vmId}\0${name}`) ?? 0;
  }

  /** Takes the oldest item: a buffer, or Empty, or NotFound for an unknown token. */
  dequeue(token: number): Buffer | typeof Result.EMPTY | typeof Result.NOT_FOUND {
    const queue = this.queues.get(token);
    if (queue === undefined) return Result.NOT_FOUND;
    return queue.items.shift() ?? Result.EMPTY;
  }

  /** Appends a copy of `item` and tells the last registrant. */
  enqueue(token: number, item: Uint8Array): Result {
    const queue = this.queues.get(token);
    if (queue === undefined) return Result.NOT_FOUND;
    queue.items.push(Buffer.from(item));
    queue.notify(token);
    return Result.OK;
  }

  /** Forgets the queues of a vm_id: its last base VM is gone. */
  deleteVmId(vmId: string): void {
    for (const [key, token] of this.tokens) {
      if (this.queues.get(token)?.vmId !== vmId) continue;
      this.queues.delete(token);
      this.tokens.delete(key);
    }
  }
}

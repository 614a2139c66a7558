// Which slot an endpoint has in its pool's snapshots, and the generation of what is behind the slot.

/** Generations are 1–GENERATION_MAX; 0 is never used, so a gateway can use it for "nothing". */
export const GENERATION_MAX = 65_535;

/** One known endpoint. */
export interface Slot {
  readonly index: number;
  generation: number;
}

/** What an `update` did. */
export interface SlotChange {
  /** Addresses that got a slot. */
  readonly added: readonly string[];
  /** Addresses whose slot became free. */
  readonly removed: readonly string[];
  /** Addresses without a slot because the table is full. */
  readonly surplus: number;
}

/**
 * Slots of one pool. An address keeps its slot for as long as it is known.
 *
 * A generation names the *contents* of a slot: it is a hash of the address and of the engine process's
 * identity, so a sidecar that restarts gives an unchanged fleet the same slots and generations, and gateways
 * keep their index. Where the hash would repeat the slot's last generation it is moved on by one.
 */
export class SlotTable {
  private readonly slots = new Map<string, Slot>();
  private readonly lastGeneration: Uint16Array;
  private readonly taken: Uint8Array;

  /** @param capacity slots, ≤ POOL_ENDPOINTS_MAX */
  constructor(private readonly capacity: number) {
    this.lastGeneration = new Uint16Array(capacity);
    this.taken = new Uint8Array(capacity);
  }

  get(address: string): Slot | undefined {
    return this.slots.get(address);
  }

  get size(): number {
    return this.slots.size;
  }

  /**
   * Makes `addresses` the known ones. New addresses take the lowest free slots in sorted order; those beyond
   * the capacity, the last in that order, get none.
   */
  update(addresses: readonly string[]): SlotChange {
    const wanted = new Set(addresses);
    const removed: string[] = [];
    for (const [address, slot] of this.slots) {
      if (wanted.has(address)) continue;
      this.slots.delete(address);
      this.taken[slot.index] = 0;
      removed.push(address);
    }
    const fresh = [...wanted].filter((address) => !this.slots.has(address)).sort();
    const room = this.capacity - this.slots.size;
    const added = fresh.slice(0, room);
    let index = 0;
    for (const address of added) {
      while (this.taken[index] === 1) index += 1;
      this.taken[index] = 1;
      const slot = { index, generation: 0 };
      this.slots.set(address, slot);
      this.renew(slot, address, "");
    }
    return { added, removed, surplus: fresh.length - added.length };
  }

  /**
   * Gives an address a new generation because its engine lost its cache.
   * @param identity what names the engine process, such as its start time; "" = unknown
   */
  restarted(address: string, identity: string): void {
    const slot = this.slots.get(address);
    if (slot !== undefined) this.renew(slot, address, identity);
  }

  private renew(slot: Slot, address: string, identity: string): void {
    let generation = 1 + (hash(`${address} ${identity}`) % GENERATION_MAX);
    if (generation === this.lastGeneration[slot.index]) generation = 1 + (generation % GENERATION_MAX);
    this.lastGeneration[slot.index] = generation;
    slot.generation = generation;
  }
}

function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  }
  // FNV's low bits are weak on short texts: fold the high ones in.
  value ^= value >>> 15;
  return Math.imul(value, 0x2c1b3c6d) >>> 0;
}

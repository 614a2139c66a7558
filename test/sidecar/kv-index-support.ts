// An exact index for tests: views of simulated engines before it, a model of the gateway behind it, no sockets.
import type { CachedBlock, ReplicaKey } from "../../sidecar/kv-events/block-sink.ts";
import { BLOCKS_MAX } from "../../sidecar/kv-events/limits.ts";
import { TIERS } from "../../sidecar/kv-events/events.ts";
import { ReplicaBlocks } from "../../sidecar/kv-events/replica-blocks.ts";
import { ReplicaState } from "../../sidecar/kv-events/replica-state.ts";
import type { TokenTable } from "../../sidecar/kv-events/token-table.ts";
import type { SlotPlace } from "../../sidecar/kv-index/batch-writer.ts";
import { BatchComposer } from "../../sidecar/kv-index/composer.ts";
import { EntryBudget } from "../../sidecar/kv-index/entry-budget.ts";
import { hashName } from "../../sidecar/kv-index/hash64.ts";
import { KvIndex } from "../../sidecar/kv-index/kv-index.ts";
import { cellKeys, mixPair } from "../envoy/kv-batches.ts";
import { KvGatewayModel } from "./kv-batch-model.ts";
import { byteTable } from "./kv-events-support.ts";

/** Half a cell: how far a block's end may lie behind a cell that counts its tokens. */
const MIDPOINT_BYTES = 32;

/** One engine's view, whose connection stands from the start. */
export interface EngineView {
  readonly replica: ReplicaKey;
  readonly blocks: ReplicaBlocks;
  readonly state: ReplicaState;
}

/** Everything between events and entries. */
export class IndexSetting {
  nowMs = 0;
  readonly budget: EntryBudget;
  readonly index: KvIndex;
  readonly composer: BatchComposer;
  readonly model: KvGatewayModel;
  readonly places = new Map<string, SlotPlace>();
  readonly views: EngineView[] = [];
  private session = 1;
  private sequence = 0;
  private heartbeatAtMs = Number.NEGATIVE_INFINITY;

  constructor(entriesMax?: number) {
    this.budget = new EntryBudget(entriesMax);
    this.index = new KvIndex(this.budget, () => this.nowMs);
    this.composer = new BatchComposer(this.index);
    this.model = new KvGatewayModel((slot, generation) =>
      [...this.places.values()].some((place) => place.slot === slot && place.generation === generation),
    );
  }

  /** Follows an engine of an endpoint, whose slot is in the snapshot. */
  follow(address: string, rank = 0, options: { tokens?: TokenTable; blocksMax?: number } = {}): EngineView {
    const { tokens = byteTable(), blocksMax = BLOCKS_MAX } = options;
    const replica = { address, rank };
    this.index.followed(replica);
    const state = new ReplicaState((degraded) => this.index.state(replica, degraded));
    const blocks = new ReplicaBlocks({ replica, tokens, state, sink: this.index, blocksMax });
    state.setProgress(null);
    if (!this.places.has(address)) this.places.set(address, { slot: this.places.size, generation: 1 });
    const view = { replica, blocks, state };
    this.views.push(view);
    return view;
  }

  /** Makes one batch and hands it over. @returns whether there was one */
  push(isHeartbeat = this.nowMs - this.heartbeatAtMs >= 500): boolean {
    this.index.changedAtMs = null;
    if (!this.composer.compose(this.places, this.nowMs, isHeartbeat)) return false;
    if (isHeartbeat) this.heartbeatAtMs = this.nowMs;
    const session = Buffer.alloc(8);
    session.writeUInt32LE(this.session);
    this.sequence += 1;
    const { status, body } = this.model.take(Buffer.from(this.composer.finish(session, this.sequence)));
    if (status !== 200) throw new Error(`answered ${status}`);
    this.composer.want((JSON.parse(body) as { wanted: number[] }).wanted, this.nowMs);
    return true;
  }

  /** Pushes until nothing is left. */
  pushAll(): void {
    for (let batches = 0; this.push(false) || this.composer.hasMore; batches++) {
      if (batches > 1_000) throw new Error("it does not end");
    }
  }

  beginSession(): void {
    this.session += 1;
    this.sequence = 0;
    this.composer.forget();
  }

  /** The model's slot of an endpoint. */
  slot(address: string): ReturnType<KvGatewayModel["slots"]["get"]> {
    return this.model.slots.get(this.places.get(address)!.slot);
  }

  /** What an endpoint's entries have to be, from the blocks that its views hold. */
  expected(address: string): Map<bigint, number> {
    const found = new Map<bigint, number>();
    for (const { replica, blocks } of this.views) if (replica.address === address) addEntries(found, blocks);
    return found;
  }
}

const wide = (name: string | null): bigint => {
  if (name === null) return 0n;
  const { high, low } = hashName(name);
  return BigInt.asUintN(64, (BigInt(high) << 32n) | BigInt(low >>> 0));
};

/** Adds the entries of one engine, cell by cell of every chain that it holds. */
export function addEntries(found: Map<bigint, number>, blocks: ReplicaBlocks): void {
  const tiers = new Map<CachedBlock, number>();
  blocks.forEachHeld((_hash, tier, _copies, block) => {
    if (block === null) return;
    tiers.set(block, Math.min(tiers.get(block) ?? TIERS.length, TIERS.indexOf(tier)));
  });
  for (const block of tiers.keys()) {
    const { root } = block;
    if (root.hasMedia || root.lora?.startsWith("#")) continue;
    const chain: CachedBlock[] = [];
    for (let at: CachedBlock | null = block; at !== null; at = at.parent) chain.unshift(at);
    if (!chain.every((each) => tiers.has(each))) continue;
    addChain(found, chain, (each) => tiers.get(each)!);
  }
}

function addChain(
  found: Map<bigint, number>,
  chain: readonly CachedBlock[],
  tierOf: (block: CachedBlock) => number,
): void {
  const { root } = chain[0]!;
  const text = Buffer.concat(chain.map(({ bytes }) => bytes));
  const keys = cellKeys(text, mixPair(wide(root.lora), wide(root.cacheSalt)));
  const endOf = ({ startByte, bytes }: CachedBlock): number => startByte + bytes.length;
  keys.forEach((key, index) => {
    const end = 64 * (index + 1);
    const covering = chain.findIndex((block) => endOf(block) >= end);
    const tier = Math.max(...chain.slice(0, covering + 1).map(tierOf));
    const counted = chain.filter((block) => endOf(block) <= end + MIDPOINT_BYTES);
    const tokens = Math.max(1, counted.at(-1)?.endTokens ?? 0);
    const before = found.get(key);
    const most = Math.max(tokens, before === undefined ? 0 : before & 0x3fffffff);
    const fastest = Math.min(tier, before === undefined ? tier : before >>> 30);
    found.set(key, ((fastest << 30) | most) >>> 0);
  });
}

// The sidecar's exact index in the fleet simulator: the replicas' cache events as blocks, and batches for the filter.
import type { KvFeed } from "../../host-sim/fleet/epp-kv-events.ts";
import { MESSAGE_CLOSING, messageOpening, RenderedPrompt } from "../../host-sim/fleet/rendered-prompt.ts";
import { replicaAddress } from "../../host-sim/fleet/snapshot-endpoints.ts";
import type { CacheChange, FleetRequest, Workload } from "../../host-sim/fleet/types.ts";
import { KV_HEARTBEAT_MS } from "../../assembly/wire/kv-deltas.ts";
import type { CachedBlock, ReplicaKey } from "../../sidecar/kv-events/block-sink.ts";
import { ChainRoots } from "../../sidecar/kv-events/chain-root.ts";
import { BatchComposer } from "../../sidecar/kv-index/composer.ts";
import { EntryBudget } from "../../sidecar/kv-index/entry-budget.ts";
import { KvIndex } from "../../sidecar/kv-index/kv-index.ts";
import { encodePrompts, type PromptModel } from "../../sidecar/prompts/encode.ts";
import { emptyProgram, ROLES, transition, type PromptProgram } from "../../sidecar/prompts/program.ts";

const GPU = "gpu";
const TAKEN = 200;
const BUSY = 503;
/** Requests whose text is kept: as many as replicas store blocks of at one time. */
const TEXTS_MAX = 1_024;

/** A block that a replica holds, and how many copies of it. */
interface Held {
  readonly block: CachedBlock;
  copies: number;
}

/** The template of the simulated engines as a program. */
export function simulatedProgram(): PromptProgram {
  const { flags, literals } = emptyProgram();
  const known = [...literals];
  for (const before of [null, ...ROLES]) {
    const closing = before === null ? "" : MESSAGE_CLOSING;
    for (const next of ROLES) known[transition(before, next)] = Buffer.from(closing + messageOpening(next));
    if (before !== null) known[transition(before, null)] = Buffer.from(closing + messageOpening("assistant"));
  }
  return { flags, literals: known };
}

/** Models and adapters that a workload asks for, all with the simulated engines' template. */
export function promptModels({ requests }: Workload): PromptModel[] {
  const program = simulatedProgram();
  const names = new Map<string, boolean>();
  for (const { model, lora } of requests) {
    names.set(model, false);
    if (lora !== undefined) names.set(lora, true);
  }
  return [...names].map(([name, isAdapter]) => ({ name, isAdapter, program }));
}

/** One replica's cache by its events. */
class FollowedReplica {
  readonly key: ReplicaKey;
  private readonly held = new Map<number, Held>();

  constructor(
    replica: number,
    private readonly index: KvIndex,
    private readonly roots: ChainRoots,
    private readonly blockTokens: number,
  ) {
    this.key = { address: replicaAddress(replica), rank: 0 };
    index.followed(this.key);
    index.state(this.key, null);
  }

  empty(): void {
    this.held.clear();
    this.index.cleared(this.key);
  }

  evict(hash: number): void {
    const held = this.held.get(hash);
    if (held === undefined || --held.copies > 0) return;
    this.held.delete(hash);
    this.index.removed(this.key, held.block, GPU);
  }

  store({ hashes, from, to, request }: CacheChange & { kind: "stored" }, text: RenderedPrompt): void {
    const { blockTokens } = this;
    const first = Math.max(1, from);
    const ends = text.endBytes(Array.from({ length: to - first + 1 }, (_, i) => (first + i) * blockTokens));
    let parent = from === 0 ? null : (this.held.get(hashes[from - 1]!)?.block ?? null);
    // A block whose predecessor is not there has no place: nothing is told of it.
    if (from > 0 && parent === null) return;
    for (let i = from; i < to; i++) {
      const held = this.held.get(hashes[i]!);
      if (held !== undefined) {
        held.copies++;
        parent = held.block;
        continue;
      }
      const startByte: number = i === 0 ? 0 : ends[i - first]!;
      const block: CachedBlock = {
        hash: BigInt(hashes[i]!),
        root: parent?.root ?? this.roots.first({ loraId: null, loraName: request.lora ?? null }, null),
        parent,
        endTokens: (i + 1) * blockTokens,
        startByte,
        bytes: Buffer.from(text.bytes.subarray(startByte, ends[i + 1 - first])),
        mark: undefined,
      };
      this.held.set(hashes[i]!, { block, copies: 1 });
      this.index.stored(this.key, block, GPU);
      parent = block;
    }
  }
}

/** A sidecar that follows every replica's events without loss; its index is told in simulated time. */
export class SimulatedKvFeed implements KvFeed {
  readonly prompts: Uint8Array;
  private readonly index = new KvIndex(new EntryBudget(), () => 0);
  private readonly composer = new BatchComposer(this.index);
  private readonly replicas: readonly FollowedReplica[];
  private readonly texts = new Map<number, RenderedPrompt>();
  private readonly session = Buffer.from("simulate");
  private places: ReadonlyMap<string, { slot: number; generation: number }> = new Map();
  private sequence = 0;
  private heartbeatAtMs = Number.NEGATIVE_INFINITY;
  private nowMs = 0;
  private batch: Buffer | undefined;

  /** @param blockTokens of each replica's engine */
  constructor(blockTokens: readonly number[], models: readonly PromptModel[]) {
    this.prompts = encodePrompts(models).bytes;
    const roots = new ChainRoots();
    this.replicas = blockTokens.map((tokens, i) => new FollowedReplica(i, this.index, roots, tokens));
  }

  apply(replica: number, change: CacheChange): void {
    const followed = this.replicas[replica]!;
    if (change.kind === "emptied") followed.empty();
    else if (change.kind === "evicted") followed.evict(change.hash);
    else followed.store(change, this.textOf(change.request));
  }

  scraped(generations: readonly number[]): void {
    this.places = new Map(
      generations.map((generation, slot) => [replicaAddress(slot), { slot, generation }] as const),
    );
  }

  next(nowMs: number): Uint8Array | undefined {
    if (this.batch !== undefined) return this.batch;
    this.nowMs = nowMs;
    const isHeartbeat = nowMs - this.heartbeatAtMs >= KV_HEARTBEAT_MS;
    if (!this.composer.compose(this.places, nowMs, isHeartbeat)) return undefined;
    if (isHeartbeat) this.heartbeatAtMs = nowMs;
    this.sequence++;
    this.batch = this.composer.finish(this.session, this.sequence);
    return this.batch;
  }

  /** A gateway that is behind gets the same batch again; any other refusal is an error of ours. */
  answered(status: number, body: string): void {
    if (status === BUSY) return;
    if (status !== TAKEN) throw new Error(`the gateway answered ${status} to a batch of KV events: ${body}`);
    this.batch = undefined;
    const { wanted } = JSON.parse(body) as { readonly wanted: readonly number[] };
    this.composer.want(wanted, this.nowMs);
  }

  private textOf(request: FleetRequest): RenderedPrompt {
    let text = this.texts.get(request.index);
    if (text === undefined) {
      text = new RenderedPrompt(request);
      if (this.texts.size >= TEXTS_MAX) this.texts.delete(this.texts.keys().next().value!);
      this.texts.set(request.index, text);
    }
    return text;
  }
}

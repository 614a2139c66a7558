// Turns what an engine's cache does into events, one batch a step.
import type { ChainRoot } from "../block-hash.ts";
import type { EngineListener, EngineRequest } from "../engine-types.ts";
import type { PublishedEvent } from "./encode.ts";

/** What a sequence's blocks hold. */
export interface SequenceContent extends ChainRoot {
  /** Prompt and answer. */
  readonly tokens: readonly number[];
}

/**
 * Records one engine. Events wait for the end of a step, as in vLLM (v1/core/sched/scheduler.py,
 * `update_from_output`): what happens while nothing is computed is told with the next request.
 */
export class EventRecorder {
  /** What the engine calls. */
  readonly listener: EngineListener = {
    stored: (request, from, to) => this.store(request, from, to),
    evicted: (hash) => void this.events.push({ type: "BlockRemoved", hash }),
    cleared: () => void this.events.push({ type: "AllBlocksCleared" }),
  };
  private readonly contents = new Map<string, SequenceContent>();
  private events: PublishedEvent[] = [];

  /**
   * @param loras the replica's adapters, whose numbers count from 1
   * @param publish takes the events of a step, at least one
   */
  constructor(
    private readonly blockSize: number,
    private readonly loras: readonly string[],
    private readonly publish: (events: readonly PublishedEvent[]) => void,
  ) {}

  /** A sequence is about to be submitted under this id. */
  begin(id: string, content: SequenceContent): void {
    this.contents.set(id, content);
  }

  /** The sequence has ended. */
  end(id: string): void {
    this.contents.delete(id);
  }

  /** A step has ended. */
  flush(): void {
    if (this.events.length === 0) return;
    const { events } = this;
    this.events = [];
    this.publish(events);
  }

  private store({ id, blockHashes }: EngineRequest, from: number, to: number): void {
    const content = this.contents.get(id);
    if (content === undefined) return;
    const { lora, cacheSalt } = content;
    this.events.push({
      type: "BlockStored",
      hashes: Array.from({ length: to - from }, (_, index) => blockHashes[from + index]!),
      parent: from === 0 ? null : blockHashes[from - 1]!,
      tokens: content.tokens.slice(from * this.blockSize, to * this.blockSize),
      blockSize: this.blockSize,
      lora: lora === undefined ? null : { id: 1 + this.loras.indexOf(lora), name: lora },
      cacheSalt: cacheSalt ?? null,
    });
  }
}

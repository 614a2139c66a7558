// Requests whose prompt is being pulled from another engine: blocks allocated, nothing computed yet.
import type { EngineConfig, EngineRequest } from "./engine-types.ts";

/**
 * How long it takes to pull some blocks, ms. Whole blocks cross the network, as vLLM moves them: 127 tokens in
 * blocks of 32 were 4 blocks of bytes.
 */
export function pullDurationMs(config: EngineConfig, blocks: number): number {
  const bytes = blocks * config.blockSize * config.kvBytesPerToken;
  return config.transferBaseMs + bytes / config.transferBytesPerMs;
}

/** The pulls of one engine. Their number is bounded by the cache, as each has at least one of its blocks. */
export class KvPulls {
  private readonly endMs = new Map<EngineRequest, number>();
  private nextMs = Number.POSITIVE_INFINITY;

  /** Requests that wait for their blocks; aborted ones, whose transfer still runs, are not counted. */
  get waitingCount(): number {
    let count = 0;
    for (const request of this.endMs.keys()) if (request.state === "pulling") count++;
    return count;
  }

  /** Requests in order of allocation, aborted ones among them. */
  get requests(): Iterable<EngineRequest> {
    return this.endMs.keys();
  }

  /** End of the first transfer in ms, Infinity while none runs. */
  get nextEndMs(): number {
    return this.nextMs;
  }

  has(request: EngineRequest): boolean {
    return this.endMs.has(request);
  }

  /** Its blocks are allocated; the transfer has not begun. */
  add(request: EngineRequest): void {
    this.endMs.set(request, Number.POSITIVE_INFINITY);
  }

  /** The transfer runs, and ends at `endMs`. */
  begin(request: EngineRequest, endMs: number): void {
    this.endMs.set(request, endMs);
    this.nextMs = Math.min(this.nextMs, endMs);
  }

  remove(request: EngineRequest): void {
    this.endMs.delete(request);
    this.findNext();
  }

  /** Takes out the requests whose transfer has ended, in order of allocation. */
  takeEnded(nowMs: number): EngineRequest[] {
    if (this.nextMs > nowMs) return [];
    const ended = [...this.endMs].filter(([, endMs]) => endMs <= nowMs).map(([request]) => request);
    for (const request of ended) this.endMs.delete(request);
    this.findNext();
    return ended;
  }

  private findNext(): void {
    this.nextMs = Number.POSITIVE_INFINITY;
    for (const endMs of this.endMs.values()) this.nextMs = Math.min(this.nextMs, endMs);
  }
}

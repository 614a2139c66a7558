// Chained hashes of the KV blocks of simulated requests, straight from their spans: no token is ever made.
import { BlockChain } from "../model-server/block-hash.ts";
import type { FleetRequest } from "./types.ts";

/** Upper half of the identity of an answer that nobody repeats; spans' own ids stay below 2^53. */
const UNREPEATED = 0xffffffff;

/**
 * Hash of every full block of a request's prompt and answer. A block is known by the pieces of spans in it
 * (span, from, to), so two requests share the hashes of exactly the blocks that lie within their common leading
 * spans, wherever the spans begin. The adapter is the root of the chain.
 * @param blockTokens tokens a block, > 0
 * @returns f64[floor((promptTokens + outputTokens) / blockTokens)], integers in 1…2^53−1
 */
export function hashRequestBlocks(request: FleetRequest, blockTokens: number): Float64Array {
  const count = Math.floor((request.promptTokens + request.outputTokens) / blockTokens);
  const hashes = new Float64Array(count);
  const writer = new PieceWriter(new BlockChain({ lora: request.lora }), hashes, blockTokens);
  for (const { id, tokens } of request.spans) writer.add(Math.floor(id / 2 ** 32), id % 2 ** 32, tokens);
  const { answerSpan, index, outputTokens } = request;
  if (answerSpan === undefined) writer.add(UNREPEATED, index, outputTokens);
  else writer.add(Math.floor(answerSpan / 2 ** 32), answerSpan % 2 ** 32, outputTokens);
  return hashes;
}

/** Cuts spans at block boundaries and mixes the pieces into the chain. */
class PieceWriter {
  private block = 0;
  /** Tokens of the present block so far. */
  private filled = 0;

  constructor(
    private readonly chain: BlockChain,
    private readonly hashes: Float64Array,
    private readonly blockTokens: number,
  ) {}

  add(idHigh: number, idLow: number, tokens: number): void {
    for (let from = 0; from < tokens && this.block < this.hashes.length;) {
      const to = Math.min(tokens, from + this.blockTokens - this.filled);
      this.chain.add(idLow);
      this.chain.add(idHigh);
      this.chain.add(from);
      this.chain.add(to);
      this.filled += to - from;
      from = to;
      if (this.filled < this.blockTokens) continue;
      this.hashes[this.block] = this.chain.endBlock();
      this.block++;
      this.filled = 0;
    }
  }
}

/** Block hashes of the requests in flight, each computed once a block size. */
export class RequestBlocks {
  private readonly bySize = new Map<number, Map<number, Float64Array>>();

  /** Hashes over prompt and answer, as `hashRequestBlocks`. */
  all(request: FleetRequest, blockTokens: number): Float64Array {
    let byIndex = this.bySize.get(blockTokens);
    if (byIndex === undefined) this.bySize.set(blockTokens, (byIndex = new Map()));
    let hashes = byIndex.get(request.index);
    if (hashes === undefined) {
      hashes = hashRequestBlocks(request, blockTokens);
      byIndex.set(request.index, hashes);
    }
    return hashes;
  }

  /** Hashes of the prompt's full blocks alone. */
  prompt(request: FleetRequest, blockTokens: number): Float64Array {
    return this.all(request, blockTokens).subarray(0, Math.floor(request.promptTokens / blockTokens));
  }

  /** Forgets a request that ended. */
  release(request: FleetRequest): void {
    for (const byIndex of this.bySize.values()) byIndex.delete(request.index);
  }
}

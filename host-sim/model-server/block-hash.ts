// Chained hashes of token blocks: the identity of a prefix in the engine's KV cache.

const MIX_A = 0x85ebca6b;
const MIX_B = 0xc2b2ae35;

/** Root of a hash chain: whatever makes equal tokens mean different KV content. */
export interface ChainRoot {
  /** LoRA adapter, absent for the base model. */
  readonly lora?: string | undefined;
  /** Tenant salt of the request (`cache_salt`). */
  readonly cacheSalt?: string | undefined;
}

/** A chain of block hashes in the making: words that say what a block holds, then its hash. */
export class BlockChain {
  private a: number;
  private b: number;

  constructor(root: ChainRoot) {
    this.a = hashText(root.lora ?? "", 0x9e3779b9);
    this.b = hashText(root.cacheSalt ?? "", 0x7f4a7c15);
  }

  /** Mixes 32 bits of the present block's content in. */
  add(word: number): void {
    let a = Math.imul(this.a ^ word, MIX_A);
    a ^= a >>> 15;
    const b = Math.imul(this.b + word, MIX_B) ^ (a >>> 7);
    this.a = a;
    this.b = b ^ (b >>> 13);
  }

  /** Ends the present block. @returns its hash, an integer in 1…2^53−1 */
  endBlock(): number {
    this.a = Math.imul(this.a ^ (this.b >>> 16), MIX_B);
    this.b = Math.imul(this.b ^ (this.a >>> 13), MIX_A);
    return joinHash(this.a, this.b);
  }
}

/**
 * Hash of every full block of a token sequence, each chained to the one before, after vLLM's
 * hash_block_tokens (vllm/v1/core/kv_cache_utils.py): equal hashes mean equal prefixes under equal roots.
 * @param tokens token ids of the whole sequence. @param blockSize tokens a block, > 0.
 * @returns f64[floor(tokens / blockSize)], integers in 1…2^53−1; two different prefixes collide with
 * probability 2^−53.
 */
export function hashBlocks(tokens: ArrayLike<number>, blockSize: number, root: ChainRoot): Float64Array {
  const count = Math.floor(tokens.length / blockSize);
  const hashes = new Float64Array(count);
  const chain = new BlockChain(root);
  for (let block = 0; block < count; block++) {
    const end = (block + 1) * blockSize;
    for (let i = block * blockSize; i < end; i++) chain.add(tokens[i]!);
    hashes[block] = chain.endBlock();
  }
  return hashes;
}

/** 32-bit hash of a text (FNV-1a over UTF-16 units, mixed), starting from `seed`. */
export function hashText(text: string, seed: number): number {
  let hash = seed | 0;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash ^= hash >>> 16;
  hash = Math.imul(hash, MIX_A);
  hash ^= hash >>> 13;
  return hash >>> 0;
}

function joinHash(a: number, b: number): number {
  const joined = (a >>> 0) * 0x200000 + ((b >>> 0) & 0x1fffff);
  return joined === 0 ? 1 : joined;
}

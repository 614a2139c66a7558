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
  let a = hashText(root.lora ?? "", 0x9e3779b9);
  let b = hashText(root.cacheSalt ?? "", 0x7f4a7c15);
  for (let block = 0; block < count; block++) {
    const end = (block + 1) * blockSize;
    for (let i = block * blockSize; i < end; i++) {
      const token = tokens[i]!;
      a = Math.imul(a ^ token, MIX_A);
      a ^= a >>> 15;
      b = Math.imul(b + token, MIX_B) ^ (a >>> 7);
      b ^= b >>> 13;
    }
    a = Math.imul(a ^ (b >>> 16), MIX_B);
    b = Math.imul(b ^ (a >>> 13), MIX_A);
    hashes[block] = joinHash(a, b);
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

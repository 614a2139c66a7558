// The roots of block chains: adapter, salt, and what stands in a prompt beside its text.
import { createHash } from "node:crypto";
import type { ChainRoot } from "./block-sink.ts";
import type { BlockStored, ExtraKey } from "./events.ts";
import { SHARED_ROOTS_MAX } from "./limits.ts";

/** Makes roots; equal plain ones are one object. */
export class ChainRoots {
  private readonly shared = new Map<string, ChainRoot>();

  /**
   * Root of a chain's first block. Its keys are, in this order: the adapter's name, [picture, offset] pairs, the salt,
   * digests of embeddings (vllm/v1/core/kv_cache_utils.py, generate_block_hash_extra_keys). Versions before the
   * offsets wrote a picture's hash as a bare text, which is then taken for a salt: such a chain is found by no request.
   */
  first(event: Pick<BlockStored, "loraId" | "loraName">, keys: readonly ExtraKey[] | null): ChainRoot {
    const lora = event.loraName ?? (event.loraId === null ? null : `#${event.loraId}`);
    const rest = withoutLora(keys, event.loraName);
    const at = rest.findIndex((key) => typeof key === "string");
    const cacheSalt = at < 0 ? null : (rest[at] as string);
    const plain = this.plain(lora, cacheSalt);
    return withMedia(
      plain,
      rest.filter((_, index) => index !== at),
    );
  }

  /** Root of a block whose parent has the root `parent`: another one where the block holds more than text. */
  next(parent: ChainRoot, loraName: string | null, keys: readonly ExtraKey[] | null): ChainRoot {
    return keys === null ? parent : withMedia(parent, withoutLora(keys, loraName));
  }

  private plain(lora: string | null, cacheSalt: string | null): ChainRoot {
    const text = JSON.stringify([lora, cacheSalt]);
    const known = this.shared.get(text);
    if (known !== undefined) return known;
    if (this.shared.size >= SHARED_ROOTS_MAX) this.shared.clear();
    const root = { key: digest(text), lora, cacheSalt, hasMedia: false };
    this.shared.set(text, root);
    return root;
  }
}

function withoutLora(keys: readonly ExtraKey[] | null, loraName: string | null): readonly ExtraKey[] {
  if (keys === null) return [];
  return loraName !== null && keys[0] === loraName ? keys.slice(1) : keys;
}

/** A picture's offset counts for the key: the same picture elsewhere in equal placeholders is other content. */
function withMedia(root: ChainRoot, keys: readonly ExtraKey[]): ChainRoot {
  if (keys.length === 0) return root;
  return { ...root, key: digest(`${root.key} ${JSON.stringify(keys)}`), hasMedia: true };
}

/** 128 bits, so that keys of any input have one length. */
function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 32);
}

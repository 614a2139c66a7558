// The prompt reader and the usage reader as one small module: what their tests call from Node.
import "../../../assembly/abi/abort";
import { PROMPT_BYTES, promptBegin, promptFeed } from "../../../assembly/prompt/record";
import { USAGE_BYTES, usageBegin, usageFeed } from "../../../assembly/prompt/usage";
import { CHAIN_BYTES, chainKey, chainRelease, chainReset } from "../../../assembly/prefix/chain";

export { chainKeyCount, chainTextBytes, keyDepthBytes } from "../../../assembly/prefix/chain";
export { pagesInUse } from "../../../assembly/prefix/pages";
export { apiIsChecked, apiKeepsPrefix, apiOfPath } from "../../../assembly/prompt/api";
export { promptErrorBytes, promptErrorOffset, promptErrorPtr } from "../../../assembly/prompt/errors";
export {
  promptApi,
  promptAudios,
  promptConversation,
  promptCount,
  promptEnd,
  promptErrorCode,
  promptExtraBytes,
  promptFeed,
  promptHasEnded,
  promptHasModel,
  promptHasPrompt,
  promptImages,
  promptIngredientsHash,
  promptLoraHash,
  promptMaxTokens,
  promptMessages,
  promptModelBytes,
  promptModelHash,
  promptModelPtr,
  promptSaltHash,
  promptStream,
  promptTokenIds,
  promptTools,
  promptToolsHash,
  promptVideos,
} from "../../../assembly/prompt/record";

export {
  usageBegin,
  usageCachedTokens,
  usageCompletionTokens,
  usageEnd,
  usageFound,
  usageHasCachedTokens,
  usagePromptTokens,
  usageSawData,
} from "../../../assembly/prompt/usage";

const INPUT_BYTES: u32 = 4194304;
const input: usize = memory.data(4194304, 16);
const record: usize = memory.data(1024, 16);
const chain: usize = memory.data(128, 16);
const usage: usize = memory.data(256, 16);

export function inputPtr(): usize {
  return input;
}
export function inputBytesMax(): u32 {
  return INPUT_BYTES;
}
export function recordPtr(): usize {
  return record;
}
export function recordBytes(): u32 {
  return <u32>PROMPT_BYTES;
}
export function chainPtr(): usize {
  return chain;
}

/** Releases the last body's chain and starts a new one. */
export function begin(api: u32): void {
  chainRelease(chain);
  chainReset(chain);
  promptBegin(record, api, chain);
}

/** Feeds the bytes [from, from + len) of the input, in chunks of `chunk` bytes. */
export function feed(from: u32, len: u32, chunk: u32): u32 {
  let status: u32 = 0;
  for (let at: u32 = 0; at < len && status == 0; at += chunk) {
    status = promptFeed(record, input + from + at, min<u32>(chunk, len - at));
  }
  return status;
}

export function usagePtr(): usize {
  return usage;
}
export function usageBytes(): u32 {
  return <u32>USAGE_BYTES;
}

/** Feeds the bytes [from, from + len) of the input to the usage reader, in chunks of `chunk` bytes. */
export function usageFeedChunks(from: u32, len: u32, chunk: u32): void {
  for (let at: u32 = 0; at < len; at += chunk) usageFeed(usage, input + from + at, min<u32>(chunk, len - at));
}

/** Reads the first `len` bytes of the input as an event stream `rounds` times. For benchmarks. */
export function readUsageMany(len: u32, rounds: u32): void {
  for (let i: u32 = 0; i < rounds; i++) {
    usageBegin(usage, true);
    usageFeed(usage, input, len);
  }
}

/** The chain's key at `index` under the present ingredients. */
export function keyAt(index: u32, root: u64): u64 {
  return chainKey(chain, index, root);
}

/** Reads the first `len` bytes of the input as a body `rounds` times. For benchmarks. */
export function readMany(api: u32, len: u32, rounds: u32): u32 {
  let status: u32 = 0;
  for (let i: u32 = 0; i < rounds; i++) {
    begin(api);
    status |= promptFeed(record, input, len);
  }
  return status;
}

if (PROMPT_BYTES > 1024 || CHAIN_BYTES > 128 || USAGE_BYTES > 256) unreachable();

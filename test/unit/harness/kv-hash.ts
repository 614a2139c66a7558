// Hashes of cells, names and roots as a small module for Node, for readers that have them again in TypeScript.
import "../../../assembly/abi/abort";
import { chainKey, chainRelease, chainReset, chainText } from "../../../assembly/prefix/chain";
import { hashBytes } from "../../../assembly/text/hash";
export { mixPair } from "../../../assembly/text/hash";

const scratch: usize = memory.data(8192, 16);
const chain: usize = memory.data(112, 16);

/** Memory for what a test lays down: 8 KiB. */
export function scratchPtr(): usize {
  return scratch;
}
export function nameHash(bytes: u32): u64 {
  return hashBytes(scratch, bytes);
}
/** Starts a chain with the text that lies in the scratch. */
export function begin(bytes: u32): void {
  chainRelease(chain);
  chainReset(chain);
  chainText(chain, scratch, bytes);
}
/** Key of the cell at `index` < 64 of that text. */
export function keyAt(index: u32, root: u64): u64 {
  return chainKey(chain, index, root);
}

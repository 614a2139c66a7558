// Prompt programs and the prompts that are rendered through them, as one small module.
import "../../../assembly/abi/abort";
import {
  CELLS_BYTES,
  cellKey,
  cellsBytes,
  cellsOpen,
  cellsRelease,
  cellsReset,
  cellsText,
} from "../../../assembly/prefix/cells";
import { CHAIN_BYTES, chainRelease, chainReset } from "../../../assembly/prefix/chain";
import { pagesInUse } from "../../../assembly/prefix/pages";
import {
  PROMPT_BYTES,
  promptBegin,
  promptEnd,
  promptFeed,
  promptRender,
} from "../../../assembly/prompt/record";
import { hashBytes } from "../../../assembly/text/hash";
import { RENDER_BYTES, renderBegin } from "../../../assembly/prompt/render";
import { renderOutcome, renderRoot } from "../../../assembly/prompt/render-outcome";

export { faultField, faultFieldBytes, faultMessage, faultMessageBytes } from "../../../assembly/pool/fault";
export {
  promptModel,
  promptModelCount,
  promptModelProgram,
  promptModelRoot,
  promptProgramCount,
  promptProgramsId,
  promptProgramsReceivedMs,
  promptProgramsSequence,
  promptProgramsSkip,
  promptProgramsTake,
  promptSharedProgram,
} from "../../../assembly/pool/prompt-programs";
export { promptProgramsCheck } from "../../../assembly/pool/prompt-programs-check";
export { mixPair } from "../../../assembly/text/hash";
export { pagesInUse };

const scratch: usize = memory.data(2097152, 16);
const record: usize = memory.data(1024, 16);
const chain: usize = memory.data(128, 16);
const render: usize = memory.data(256, 16);
const cells: usize = memory.data(128, 16);
const expected: usize = memory.data(128, 16);

/** Memory for what a test lays down: 2 MiB. */
export function scratchPtr(): usize {
  return scratch;
}

export function nameHash(ptr: usize, bytes: u32): u64 {
  return hashBytes(ptr, bytes);
}

/** Starts a body of `api` in `pool`, its prompt rendered. */
export function begin(api: u32, pool: u32): void {
  chainRelease(chain);
  cellsRelease(cells);
  promptBegin(record, api, chain);
  renderBegin(render, pool, cells);
  promptRender(record, render);
}

/** Feeds [from, to) of the scratch. */
export function feed(from: u32, to: u32): u32 {
  return promptFeed(record, scratch + from, to - from);
}

export function end(): u32 {
  return promptEnd(record);
}

/** RENDER_* of the body for the model of `bytes` bytes at `model`. */
export function outcome(model: usize, bytes: u32, isWhole: bool): u32 {
  return renderOutcome(render, model, bytes, isWhole);
}
export function root(model: usize, bytes: u32): u64 {
  return renderRoot(render, model, bytes);
}
export function renderedBytes(): u32 {
  return cellsBytes(cells);
}

/**
 * Whether what was rendered is the text of `bytes` bytes at `text`, to the last byte: both get a cell of padding, so that
 * a key covers their ends.
 */
export function isRendered(text: usize, bytes: u32): bool {
  cellsRelease(expected);
  cellsText(expected, text, bytes);
  cellsText(expected, padding, 64);
  cellsText(cells, padding, 64);
  const count = cellsOpen(expected);
  let last: u64 = 0;
  if (count > 0) last = cellKey(count - 1, 0);
  const isSame = cellsOpen(cells) == count && cellKey(count - 1, 0) == last;
  cellsRelease(expected);
  return isSame && cellsBytes(cells) == bytes + 64;
}
const padding: usize = memory.data(64, 16);

/** Gives everything back; pagesInUse() is 0 then. */
export function release(): void {
  chainRelease(chain);
  cellsRelease(cells);
}

cellsReset(cells);
cellsReset(expected);
chainReset(chain);
if (PROMPT_BYTES > 1024 || CHAIN_BYTES > 128 || RENDER_BYTES > 256 || CELLS_BYTES > 128) unreachable();

// The prompt field's beginning: a second one in the same body replaces the first.
import { chainRelease } from "../prefix/chain";
import {
  AT_AUDIOS,
  AT_CHAIN,
  AT_FIRST_TURN,
  AT_IMAGES,
  AT_ITEMS,
  AT_KINDS,
  AT_MESSAGES,
  AT_TOKEN_IDS,
  AT_VIDEOS,
  AT_MODEL,
  AT_MODEL_BYTES,
  FLAG_BAD_ID,
  FLAG_JOIN,
  FLAG_MODEL,
  FLAG_PROMPT,
  clearFlag,
  hasFlag,
  renderOf,
  setFlag,
} from "./layout";
import { renderPrompt } from "./render";

/** A prompt field's value begins. Of two the last counts, as in Python's json.loads: the chain starts anew. */
export function beginPrompt(record: usize): void {
  if (hasFlag(record, FLAG_PROMPT)) {
    chainRelease(<usize>load<u32>(record, AT_CHAIN));
    store<u32>(record, 0, AT_KINDS);
    store<u32>(record, 0, AT_MESSAGES);
    store<u32>(record, 0, AT_IMAGES);
    store<u32>(record, 0, AT_AUDIOS);
    store<u32>(record, 0, AT_VIDEOS);
    store<u32>(record, 0, AT_TOKEN_IDS);
    store<u32>(record, 0, AT_ITEMS);
    store<u64>(record, 0, AT_FIRST_TURN);
    clearFlag(record, FLAG_BAD_ID | FLAG_JOIN);
  }
  setFlag(record, FLAG_PROMPT);
  if (renderOf(record) == 0) return;
  const modelBytes = hasFlag(record, FLAG_MODEL) ? <u32>load<u16>(record, AT_MODEL_BYTES) : 0;
  renderPrompt(renderOf(record), record + AT_MODEL, modelBytes);
}

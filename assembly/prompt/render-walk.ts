// What the walk over a body tells the rendering: names, brackets, and text that is no message's.
import { API_CHAT, API_COMPLETIONS } from "./api";
import { FIELD_NONE } from "./fields";
import { AT_API, SCOPE_LIST, SCOPE_MESSAGE, SCOPE_PART, SCOPE_ROOT, renderOf } from "./layout";
import {
  renderCompletion,
  renderListEnd,
  renderMember,
  renderMessage,
  renderMessageEnd,
  renderPartEnd,
  renderPartMember,
} from "./render";
import { RENDER_CONTENT, renderBreak } from "./render-layout";
import { renderField } from "./render-outcome";

// All take the prompt record, whose renderOf is not 0.

/** The name of a member, `bytes` bytes at `word`, in `scope`; `field`: FIELD_* or PART_* of it. */
export function renderKey(record: usize, scope: u8, field: u8, word: usize, bytes: u32): void {
  const render = renderOf(record);
  if (scope == SCOPE_MESSAGE) renderMember(render, field, bytes);
  else if (scope == SCOPE_PART) renderPartMember(render, field, bytes);
  else if (scope == SCOPE_ROOT && field == FIELD_NONE) renderField(render, word, bytes);
}

/** An object where a message is expected. */
export function renderObject(record: usize): void {
  const isChat = <u32>load<u8>(record, AT_API) == API_CHAT;
  if (isChat) renderMessage(renderOf(record));
  else renderBreak(renderOf(record), RENDER_CONTENT);
}

/** The closing bracket of `scope`. */
export function renderClose(record: usize, scope: u8): void {
  const render = renderOf(record);
  if (scope == SCOPE_MESSAGE) renderMessageEnd(render);
  else if (scope == SCOPE_PART) renderPartEnd(render);
  else if (scope == SCOPE_LIST && <u32>load<u8>(record, AT_API) == API_CHAT) renderListEnd(render);
}

/** A piece of a text where no message is open. */
export function renderText(record: usize, ptr: usize, bytes: u32, isFirst: bool, isLast: bool): void {
  const isCompletion = <u32>load<u8>(record, AT_API) == API_COMPLETIONS;
  if (isCompletion) renderCompletion(renderOf(record), ptr, bytes, isFirst, isLast);
  else renderBreak(renderOf(record), RENDER_CONTENT);
}

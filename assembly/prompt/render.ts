// Renders a prompt as the engine's chat template does, while its body is read: contents with literals between them.
//
// The text goes to the cells (prefix/cells.ts), from which the exact index is asked. What cannot be rendered with
// certainty breaks the rendering, and the request goes by the approximate index: a wrong text would be a wrong match.
// Chat and completions only; the readers of the body call what stands here where a render record is set.
import {
  PROGRAM_EDITS_CALLS,
  PROGRAM_EDITS_EDGES_SYSTEM,
  PROGRAM_EDITS_EMPTY,
  PROGRAM_EDITS_THINKING,
  PROGRAM_TRIMS_SYSTEM,
  PROMPT_ASSISTANT,
  PROMPT_COMPLETION,
  PROMPT_END,
  PROMPT_PART_JOIN,
  PROMPT_START,
  PROMPT_SYSTEM,
  PROMPT_USER,
} from "../wire/prompt-programs";
import { cellsReset, cellsRelease, cellsText } from "../prefix/cells";
import {
  NO_PROGRAM,
  hasLiteral,
  literalBytes,
  literalPtr,
  programFlags,
  promptModel,
  promptModelProgram,
  promptProgramsId,
  promptSharedProgram,
} from "../pool/prompt-programs";
import { ascii, textBytes } from "../text/text";
import { digestOf } from "./digest";
import { PART_CONTENT, PART_IGNORED, PART_ROLE, PART_TEXT, PART_TYPE } from "./fields";
import {
  HAD_CONTENT,
  HAD_ROLE,
  HAD_TEXT,
  HAD_TYPE,
  IS_TEXT,
  TEXT_CAME,
  RENDER_BEGUN,
  RENDER_BYTES,
  RENDER_CHANGED,
  RENDER_CONTENT,
  RENDER_EDGES,
  RENDER_ENDED,
  RENDER_MEMBER,
  RENDER_MODEL,
  RENDER_ORDER,
  RENDER_PARTS,
  RENDER_ROLE,
  RENDER_SEVERAL,
  RENDER_SOLID,
  RENDER_THINKING,
  ROLE_NONE,
  R_CELLS,
  R_CUT_BYTES,
  R_FLAGS,
  R_HELD_BYTES,
  R_ID,
  R_LAST_BYTES,
  R_MEMBERS,
  R_PART_BYTES,
  R_PART_MEMBERS,
  R_POOL,
  R_PREVIOUS,
  R_PROGRAM,
  R_REASON,
  R_ROLE,
  isBroken,
  renderBreak,
  renderHas,
  renderSet,
} from "./render-layout";
import { renderFindsThinking } from "./render-thinking";
import { renderTrim, renderTrimmed } from "./render-trim";

export { RENDER_BYTES } from "./render-layout";

const SYSTEM = ascii("system");
const SYSTEM_HASH = digestOf(SYSTEM, textBytes(SYSTEM));
const USER = ascii("user");
/** Digest of the role's name. */
export const USER_HASH = digestOf(USER, textBytes(USER));
const ASSISTANT = ascii("assistant");
const ASSISTANT_HASH = digestOf(ASSISTANT, textBytes(ASSISTANT));

/** Starts the record at `render` for a body of `pool`; `cells` is an empty cells record of the caller's, who releases it. */
export function renderBegin(render: usize, pool: u32, cells: usize): void {
  memory.fill(render, 0, RENDER_BYTES);
  store<u32>(render, <u32>cells, R_CELLS);
  store<u32>(render, pool, R_POOL);
  store<u32>(render, NO_PROGRAM, R_PROGRAM);
}

function poolOf(render: usize): u32 {
  return load<u32>(render, R_POOL);
}
function programOf(render: usize): u32 {
  return load<u32>(render, R_PROGRAM);
}

/** A prompt begins, and replaces the one before it. `model`: the body's model as far as it is known, of `modelBytes`. */
export function renderPrompt(render: usize, model: usize, modelBytes: u32): void {
  const cells = <usize>load<u32>(render, R_CELLS);
  cellsRelease(cells);
  cellsReset(cells);
  const pool = poolOf(render);
  store<u64>(render, promptProgramsId(pool), R_ID);
  store<u8>(render, PROMPT_START, R_PREVIOUS);
  store<u8>(render, 0, R_REASON);
  store<u8>(render, 0, R_FLAGS);
  // A model that is not known may yet be exchanged for one that is: the decision compares.
  const known = modelBytes > 0 ? promptModel(pool, model, modelBytes) : 0;
  const program = known != 0 ? promptModelProgram(known) : promptSharedProgram(pool);
  store<u32>(render, program, R_PROGRAM);
  if (program == NO_PROGRAM) renderBreak(render, RENDER_MODEL);
}

/** A piece of a completion's prompt. */
export function renderCompletion(render: usize, ptr: usize, bytes: u32, isFirst: bool, isLast: bool): void {
  if (isFirst && !isBroken(render)) {
    if (renderHas(render, RENDER_BEGUN)) return renderBreak(render, RENDER_SEVERAL);
    renderSet(render, RENDER_BEGUN);
    if (isKnown(render, PROMPT_COMPLETION)) addLiteral(render, PROMPT_COMPLETION);
    else renderBreak(render, RENDER_MODEL);
  }
  if (isBroken(render)) return;
  cellsText(<usize>load<u32>(render, R_CELLS), ptr, bytes);
  if (isLast) renderSet(render, RENDER_ENDED);
}

/** A message begins. */
export function renderMessage(render: usize): void {
  store<u8>(render, 0, R_MEMBERS);
  store<u8>(render, ROLE_NONE, R_ROLE);
  store<u8>(render, 0, R_FLAGS);
  store<u64>(render, 0, R_LAST_BYTES);
  store<u8>(render, 0, R_HELD_BYTES);
  store<u8>(render, 0, R_CUT_BYTES);
}

/** The name of a member of a message, PART_* of it and its length. */
export function renderMember(render: usize, field: u8, bytes: u32): void {
  if (field == PART_ROLE) return once(render, R_MEMBERS, HAD_ROLE);
  if (field != PART_CONTENT) return;
  // "output" is another API's.
  if (bytes != CONTENT_BYTES) return renderBreak(render, RENDER_MEMBER);
  once(render, R_MEMBERS, HAD_CONTENT);
}
const CONTENT_BYTES: u32 = 7;
const TEXT_BYTES: u32 = 4;

/** The same of a part of a content. */
export function renderPartMember(render: usize, field: u8, bytes: u32): void {
  if (field == PART_TYPE) return once(render, R_PART_MEMBERS, HAD_TYPE);
  if (field == PART_IGNORED) return;
  if (field != PART_TEXT || bytes != TEXT_BYTES) return renderBreak(render, RENDER_CONTENT);
  once(render, R_PART_MEMBERS, HAD_TEXT);
}

// Engines take the last of several members with one name, and its value may stand behind what was rendered.
function once(render: usize, at: usize, member: u8): void {
  const had = load<u8>(render + at);
  if ((had & member) != 0) renderBreak(render, RENDER_MEMBER);
  store<u8>(render + at, had | member);
}

/** A list of tool calls in a message that has none. Of calls there is no rendering at all. */
export function renderNoCalls(render: usize): void {
  if (isBroken(render) || !isUnchanged(render)) return;
  const flags = programFlags(poolOf(render), programOf(render));
  if ((flags & PROGRAM_EDITS_CALLS) != 0) renderBreak(render, RENDER_MEMBER);
}

/** The role of the open message, by the digest of its name. */
export function renderRole(render: usize, hash: u64): void {
  let role = ROLE_NONE;
  if (hash == USER_HASH) role = <u8>PROMPT_USER;
  else if (hash == ASSISTANT_HASH) role = <u8>PROMPT_ASSISTANT;
  else if (hash == SYSTEM_HASH) role = <u8>PROMPT_SYSTEM;
  else renderBreak(render, RENDER_ROLE);
  store<u8>(render, role, R_ROLE);
}

/** A list of parts begins: the content of the open message (`isContent`), or something inside a part. */
export function renderParts(render: usize, isContent: bool): void {
  if (isBroken(render)) return;
  renderSet(render, RENDER_PARTS);
  if (!isContent || !isKnown(render, PROMPT_PART_JOIN)) renderBreak(render, RENDER_CONTENT);
}

/** A part of the content begins. */
export function renderPart(render: usize): void {
  store<u8>(render, 0, R_PART_MEMBERS);
}

/** The part's type; `isText`: it is "text". */
export function renderPartType(render: usize, isText: bool): void {
  if (isText) store<u8>(render, load<u8>(render, R_PART_MEMBERS) | IS_TEXT, R_PART_MEMBERS);
  else renderBreak(render, RENDER_CONTENT);
}

export function renderPartEnd(render: usize): void {
  const isWhole = load<u8>(render, R_PART_MEMBERS) == (HAD_TYPE | HAD_TEXT | IS_TEXT | TEXT_CAME);
  if (!isWhole) renderBreak(render, RENDER_CONTENT);
}

/** A piece of the open message's content, or of a part of it. */
export function renderContent(render: usize, ptr: usize, bytes: u32, isFirst: bool, isLast: bool): void {
  if (isBroken(render)) return;
  if (isFirst) beginContent(render);
  if (isBroken(render)) return;
  const isPart = renderHas(render, RENDER_PARTS);
  addContent(render, ptr, bytes, isLast && !isPart);
  if (!isPart) return;
  store<u8>(render, load<u8>(render, R_PART_MEMBERS) | TEXT_CAME, R_PART_MEMBERS);
  store<u32>(render, load<u32>(render, R_PART_BYTES) + bytes, R_PART_BYTES);
  // vLLM leaves an empty part out of contents that it joins, and keeps it in others.
  if (isLast && load<u32>(render, R_PART_BYTES) == 0) renderBreak(render, RENDER_CONTENT);
}

function beginContent(render: usize): void {
  store<u32>(render, 0, R_PART_BYTES);
  if (renderHas(render, RENDER_BEGUN)) {
    if (!isUnchanged(render)) return;
    const join = PROMPT_PART_JOIN;
    const program = programOf(render);
    return addContent(
      render,
      literalPtr(poolOf(render), program, join),
      literalBytes(poolOf(render), program, join),
      false,
    );
  }
  const role = load<u8>(render, R_ROLE);
  if (role == ROLE_NONE) return renderBreak(render, RENDER_ORDER);
  const literal = <u32>load<u8>(render, R_PREVIOUS) * 4 + role;
  if (!isKnown(render, literal)) return renderBreak(render, RENDER_ROLE);
  addLiteral(render, literal);
  const flags = programFlags(poolOf(render), programOf(render));
  const isTrimmed = (flags & trimFlag(role)) != 0;
  renderSet(
    render,
    !isTrimmed && (flags & edgesFlag(role)) != 0 ? RENDER_BEGUN | RENDER_EDGES : RENDER_BEGUN,
  );
}

// The flags of system, user and assistant stand in the order of the roles.
function trimFlag(role: u32): u32 {
  return PROGRAM_TRIMS_SYSTEM << role;
}
function edgesFlag(role: u32): u32 {
  return PROGRAM_EDITS_EDGES_SYSTEM << role;
}

// `isEnd`: the content ends with this piece; else it may.
function addContent(render: usize, ptr: usize, bytes: u32, isEnd: bool): void {
  if (!isUnchanged(render)) return;
  const flags = programFlags(poolOf(render), programOf(render));
  const role = <u32>load<u8>(render, R_ROLE);
  const mayThink = role == PROMPT_ASSISTANT && (flags & PROGRAM_EDITS_THINKING) != 0;
  if (mayThink && renderFindsThinking(render, ptr, bytes)) return renderBreak(render, RENDER_THINKING);
  const watchesEnds = (flags & trimFlag(role)) != 0 || renderHas(render, RENDER_EDGES);
  if (watchesEnds) return renderTrim(render, ptr, bytes, isEnd);
  cellsText(<usize>load<u32>(render, R_CELLS), ptr, bytes);
  if (bytes > 0) renderSet(render, RENDER_SOLID);
}

/** The open message ends. */
export function renderMessageEnd(render: usize): void {
  if (isBroken(render)) return;
  if (!renderHas(render, RENDER_BEGUN)) return renderBreak(render, RENDER_CONTENT);
  renderTrimmed(render);
  // A template may ask whether there is a content, and go another way with an empty one.
  if (!renderHas(render, RENDER_SOLID)) {
    const flags = isUnchanged(render) ? programFlags(poolOf(render), programOf(render)) : 0;
    if ((flags & PROGRAM_EDITS_EMPTY) != 0) renderBreak(render, RENDER_CONTENT);
  }
  store<u8>(render, load<u8>(render, R_ROLE) + 1, R_PREVIOUS);
}

/** The list of messages ends: what asks for the answer follows. */
export function renderListEnd(render: usize): void {
  if (isBroken(render)) return;
  const previous = <u32>load<u8>(render, R_PREVIOUS);
  if (previous == PROMPT_START) return renderBreak(render, RENDER_CONTENT);
  const literal = previous * 4 + PROMPT_END;
  if (!isKnown(render, literal)) return renderBreak(render, RENDER_ROLE);
  addLiteral(render, literal);
  renderSet(render, RENDER_ENDED);
}

// The literals are those of the programs that the prompt began with.
function isUnchanged(render: usize): bool {
  if (promptProgramsId(poolOf(render)) == load<u64>(render, R_ID)) return true;
  renderBreak(render, RENDER_CHANGED);
  return false;
}

function isKnown(render: usize, literal: u32): bool {
  return isUnchanged(render) && hasLiteral(poolOf(render), programOf(render), literal);
}

function addLiteral(render: usize, literal: u32): void {
  const ptr = literalPtr(poolOf(render), programOf(render), literal);
  cellsText(<usize>load<u32>(render, R_CELLS), ptr, literalBytes(poolOf(render), programOf(render), literal));
}

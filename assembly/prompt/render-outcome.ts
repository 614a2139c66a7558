// Whether the prompt that was rendered is the one that the engine computes: what else the body has, and its keys' root.
import { cellsBytes } from "../prefix/cells";
import { promptModel, promptModelProgram, promptModelRoot, promptProgramsId } from "../pool/prompt-programs";
import { ascii, textBytes } from "../text/text";
import { hashBytes, mixPair } from "../text/hash";
import { digestOf } from "./digest";
import { INGREDIENT_SALT, INGREDIENT_TOOL_CHOICE, isWord } from "./fields";
import {
  RENDER_CHANGED,
  RENDER_CONTENT,
  RENDER_ENDED,
  RENDER_FIELD,
  RENDER_MODEL,
  RENDER_SALT,
  R_BODY,
  R_CELLS,
  R_GIVEN,
  R_ID,
  R_POOL,
  R_PROGRAM,
  R_REASON,
  R_SALT,
  R_SALT_BYTES,
  R_SALT_HASH,
  SALT_BYTES_MAX,
  renderHas,
} from "./render-layout";

const NONE = ascii("none");
const NONE_HASH = digestOf(NONE, textBytes(NONE));
const SALT_BIT: u32 = 1 << INGREDIENT_SALT;
const SALT_TOO_LONG: u8 = 0xff;

/**
 * Notes a field of the body that no ingredient stands for; its name has `bytes` bytes. SGLang has these in its APIs, and
 * makes arguments of the template of `reasoning` (sglang srt/entrypoints/openai, normalize_reasoning_inputs).
 */
export function renderField(render: usize, ptr: usize, bytes: u32): void {
  const isKeyed = isWord(ptr, bytes, "lora_path") || isWord(ptr, bytes, "extra_key");
  const isText = isWord(ptr, bytes, "input_ids") || isWord(ptr, bytes, "reasoning");
  if (isKeyed || isText) store<u8>(render, RENDER_FIELD, R_BODY);
}

/** Notes a completion's suffix that is not empty. */
export function renderSuffix(render: usize): void {
  store<u8>(render, RENDER_FIELD, R_BODY);
}

/**
 * Notes the ingredient `index` (fields.ts) with its hash; of several the last one counts. `isGiven`: it is neither
 * null nor what the engine does without it; `isText`: it is a string. An empty list of tools is no default: templates
 * tell it from none.
 */
export function renderIngredient(render: usize, index: u32, isGiven: bool, isText: bool, hash: u64): void {
  // Without tools "auto", whose hash is 0, and "none" change nothing, and with them the tools forbid to render.
  if (index == <u32>INGREDIENT_TOOL_CHOICE && isText && (hash == 0 || hash == NONE_HASH)) isGiven = false;
  const given = load<u32>(render, R_GIVEN) & ~(1 << index);
  store<u32>(render, isGiven ? given | (1 << index) : given, R_GIVEN);
  if (index != <u32>INGREDIENT_SALT || isGiven) return;
  store<u64>(render, 0, R_SALT_HASH);
  store<u8>(render, 0, R_SALT_BYTES);
}

/** A piece of the cache_salt. */
export function renderSalt(render: usize, ptr: usize, bytes: u32, isFirst: bool, isLast: bool): void {
  if (isFirst) {
    store<u8>(render, 0, R_SALT_BYTES);
    if (isLast) return store<u64>(render, saltHash(ptr, bytes), R_SALT_HASH);
  }
  const held = <u32>load<u8>(render, R_SALT_BYTES);
  if (held + bytes > SALT_BYTES_MAX) return store<u8>(render, SALT_TOO_LONG, R_SALT_BYTES);
  memory.copy(render + R_SALT + held, ptr, bytes);
  store<u8>(render, <u8>(held + bytes), R_SALT_BYTES);
  if (isLast) store<u64>(render, saltHash(render + R_SALT, held + bytes), R_SALT_HASH);
}

function saltHash(ptr: usize, bytes: u32): u64 {
  return bytes == 0 ? 0 : hashBytes(ptr, bytes);
}

/**
 * 0: the cells hold what the engine of the model named `bytes` bytes at `model` (0 bytes: of the base model) computes;
 * else RENDER_*, why not. `isWhole`: the body was read to its end; of another one the cells hold the beginning.
 */
export function renderOutcome(render: usize, model: usize, bytes: u32, isWhole: bool): u32 {
  const reason = load<u8>(render, R_REASON);
  if (reason != 0) return reason;
  if (load<u8>(render, R_BODY) != 0) return load<u8>(render, R_BODY);
  if ((load<u32>(render, R_GIVEN) & ~SALT_BIT) != 0) return RENDER_FIELD;
  if (load<u8>(render, R_SALT_BYTES) == SALT_TOO_LONG) return RENDER_SALT;
  const pool = load<u32>(render, R_POOL);
  const cells = <usize>load<u32>(render, R_CELLS);
  if (cellsBytes(cells) == 0 || (isWhole && !renderHas(render, RENDER_ENDED))) return RENDER_CONTENT;
  if (load<u64>(render, R_ID) != promptProgramsId(pool)) return RENDER_CHANGED;
  const known = promptModel(pool, model, bytes);
  return known != 0 && promptModelProgram(known) == load<u32>(render, R_PROGRAM) ? 0 : RENDER_MODEL;
}

/** Root of the rendered prompt's keys: the LoRA adapter, if the model is one, and the cache_salt. */
export function renderRoot(render: usize, model: usize, bytes: u32): u64 {
  const pool = load<u32>(render, R_POOL);
  const known = promptModel(pool, model, bytes);
  const adapter = known == 0 ? 0 : promptModelRoot(pool, known);
  return mixPair(adapter, load<u64>(render, R_SALT_HASH));
}

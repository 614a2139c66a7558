// The prompt programs in force in each pool: which model's chat template puts which literals between the messages.
import {
  LITERAL_UNKNOWN,
  MODEL_AT_FLAGS,
  MODEL_AT_NAME,
  MODEL_AT_NAME_BYTES,
  MODEL_AT_PROGRAM,
  MODEL_IS_ADAPTER,
  PROGRAM_AT_FLAGS,
  PROMPTS_AT_ID,
  PROMPTS_AT_MODELS,
  PROMPTS_AT_PROGRAMS,
  PROMPTS_BYTES_MAX,
} from "../wire/prompt-programs";
import { hashBytes } from "../text/hash";
import { compareBytes } from "./policy-check";
import { literalAt, modelAt, programAt } from "./prompt-programs-check";

//   ┌ place, 32 bytes: 0 u64 sequence seen   8 f64 received ms   16 u32 bytes (0 = none) ┐
const PLACE_BYTES: usize = 32;
const AT_SEQUENCE: usize = 0;
const AT_RECEIVED: usize = 8;
const AT_BYTES: usize = 16;
const places: usize = memory.data(16 * 32, 8);
const pushed: usize = memory.data(16 * 16384, 16);

/** "No such program." */
export const NO_PROGRAM: u32 = 0xffffffff;

function placeOf(pool: u32): usize {
  return places + <usize>pool * PLACE_BYTES;
}
function programsOf(pool: u32): usize {
  return pushed + <usize>pool * PROMPTS_BYTES_MAX;
}

/** Takes checked programs as the pool's present ones. `ptr` may lie anywhere; the bytes are copied. */
export function promptProgramsTake(pool: u32, ptr: usize, bytes: u32, sequence: u64, receivedMs: f64): void {
  memory.copy(programsOf(pool), ptr, bytes);
  const place = placeOf(pool);
  store<u64>(place, sequence, AT_SEQUENCE);
  store<f64>(place, receivedMs, AT_RECEIVED);
  store<u32>(place, bytes, AT_BYTES);
}

/** Notes the sequence of programs that were found to be bad, so that they are not read again. */
export function promptProgramsSkip(pool: u32, sequence: u64): void {
  store<u64>(placeOf(pool), sequence, AT_SEQUENCE);
}

/** Sequence number of the last programs seen; 0 = none yet. */
export function promptProgramsSequence(pool: u32): u64 {
  return load<u64>(placeOf(pool), AT_SEQUENCE);
}
/** When the gateway received the programs in force, ms; NaN = the pool never had any. */
export function promptProgramsReceivedMs(pool: u32): f64 {
  return isKnown(pool) ? load<f64>(placeOf(pool), AT_RECEIVED) : NaN;
}
/** Id of the programs in force, the same for the same content; 0 = none. */
export function promptProgramsId(pool: u32): u64 {
  return isKnown(pool) ? load<u64>(programsOf(pool), PROMPTS_AT_ID) : 0;
}
export function promptProgramCount(pool: u32): u32 {
  return isKnown(pool) ? load<u32>(programsOf(pool), PROMPTS_AT_PROGRAMS) : 0;
}
/** Models whose prompts can be rendered; 0 = no prompt of this pool is. */
export function promptModelCount(pool: u32): u32 {
  return isKnown(pool) ? load<u32>(programsOf(pool), PROMPTS_AT_MODELS) : 0;
}

function isKnown(pool: u32): bool {
  return load<u32>(placeOf(pool), AT_BYTES) != 0;
}

/** The record of the model named `bytes` bytes at `name`, of the base model when that is none; 0 = there is none. */
export function promptModel(pool: u32, name: usize, bytes: u32): usize {
  if (bytes == 0) return baseModel(pool);
  const programs = programsOf(pool);
  let from: u32 = 0;
  let to = promptModelCount(pool);
  while (from < to) {
    const middle = (from + to) >> 1;
    const model = modelAt(programs, middle);
    const there = programs + load<u32>(model, MODEL_AT_NAME);
    const order = compareBytes(there, load<u32>(model, MODEL_AT_NAME_BYTES), name, bytes);
    if (order == 0) return model;
    if (order < 0) from = middle + 1;
    else to = middle;
  }
  return 0;
}

// One base model may have several names; those of base models with different programs leave open which is meant.
function baseModel(pool: u32): usize {
  let base: usize = 0;
  for (let i: u32 = 0, count = promptModelCount(pool); i < count; i++) {
    const model = modelAt(programsOf(pool), i);
    if (load<u16>(model, MODEL_AT_FLAGS) == MODEL_IS_ADAPTER) continue;
    if (base != 0 && promptModelProgram(base) != promptModelProgram(model)) return 0;
    base = model;
  }
  return base;
}

/** Number of the program of a model's record. */
export function promptModelProgram(model: usize): u32 {
  return <u32>load<u16>(model, MODEL_AT_PROGRAM);
}

/** What a model's name adds to the root of its keys: hashBytes of a LoRA adapter's name, 0 of the base model. */
export function promptModelRoot(pool: u32, model: usize): u64 {
  if (load<u16>(model, MODEL_AT_FLAGS) != MODEL_IS_ADAPTER) return 0;
  return hashBytes(programsOf(pool) + load<u32>(model, MODEL_AT_NAME), load<u32>(model, MODEL_AT_NAME_BYTES));
}

/** The program that all models of the pool share; NO_PROGRAM: there are several, or none. */
export function promptSharedProgram(pool: u32): u32 {
  let shared = NO_PROGRAM;
  for (let i: u32 = 0, count = promptModelCount(pool); i < count; i++) {
    const program = promptModelProgram(modelAt(programsOf(pool), i));
    if (i > 0 && program != shared) return NO_PROGRAM;
    shared = program;
  }
  return shared;
}

/** PROGRAM_* flags of a program. */
export function programFlags(pool: u32, program: u32): u32 {
  return load<u32>(programAt(programsOf(pool), program), PROGRAM_AT_FLAGS);
}

/** Whether the template's literal number `index` is known. */
export function hasLiteral(pool: u32, program: u32, index: u32): bool {
  return load<u32>(literalAt(programAt(programsOf(pool), program), index)) != <u32>LITERAL_UNKNOWN;
}

/** Address of a literal that is known, literalBytes long; valid until the pool gets other programs. */
export function literalPtr(pool: u32, program: u32, index: u32): usize {
  return programsOf(pool) + load<u32>(literalAt(programAt(programsOf(pool), program), index));
}
export function literalBytes(pool: u32, program: u32, index: u32): u32 {
  return load<u32>(literalAt(programAt(programsOf(pool), program), index), 4);
}

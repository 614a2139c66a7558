// Checks pushed prompt programs (wire/prompt-programs.ts) whole, before they are stored and again before they are used.
import {
  LITERAL_UNKNOWN,
  MODEL_AT_FLAGS,
  MODEL_AT_NAME,
  MODEL_AT_NAME_BYTES,
  MODEL_AT_PROGRAM,
  MODEL_IS_ADAPTER,
  PROGRAM_AT_FLAGS,
  PROGRAM_AT_LITERALS,
  PROGRAM_FLAGS,
  PROGRAM_LITERALS,
  PROMPTS_AT_CHECKSUM,
  PROMPTS_AT_HEADER_BYTES,
  PROMPTS_AT_ID,
  PROMPTS_AT_MODELS,
  PROMPTS_AT_PROGRAMS,
  PROMPTS_AT_TOTAL_BYTES,
  PROMPTS_AT_VERSION,
  PROMPTS_BYTES_MAX,
  PROMPTS_HEADER_BYTES,
  PROMPTS_MAGIC,
  PROMPTS_MODELS_MAX,
  PROMPTS_MODEL_BYTES,
  PROMPTS_PROGRAMS_MAX,
  PROMPTS_PROGRAM_BYTES,
  PROMPTS_WIRE_VERSION,
  PROMPT_LITERAL_BYTES_MAX,
} from "../wire/prompt-programs";
import { POLICY_MODEL_BYTES_MAX } from "../wire/policy";
import { fault, faultInside, faultText, isInside } from "./fault";
import { compareBytes } from "./policy-check";
import { snapshotChecksum } from "./snapshot-check";

/** Largest id, so that it is exact as a JSON number. */
const ID_MAX: u64 = 281474976710655;

/** Address of the program number `index` of the pushed bytes at `programs`. */
export function programAt(programs: usize, index: u32): usize {
  return programs + PROMPTS_HEADER_BYTES + <usize>index * PROMPTS_PROGRAM_BYTES;
}

/** Address of the record of model number `index`. */
export function modelAt(programs: usize, index: u32): usize {
  const models = programAt(programs, load<u32>(programs, PROMPTS_AT_PROGRAMS));
  return models + <usize>index * PROMPTS_MODEL_BYTES;
}

/** Address of a program's literal number `index`: u32 offset, u32 bytes. */
export function literalAt(program: usize, index: u32): usize {
  return program + PROGRAM_AT_LITERALS + ((<usize>index) << 3);
}

/** Whether the bytes are well-formed programs; if not, fault.ts names the field. `ptr` is 8-byte aligned. */
export function promptProgramsCheck(ptr: usize, bytes: u32): bool {
  if (bytes < <u32>PROMPTS_HEADER_BYTES)
    return header("totalBytes", <f64>bytes, "at least the 64-byte header");
  if (bytes > <u32>PROMPTS_BYTES_MAX) return header("totalBytes", <f64>bytes, "at most 16384");
  if (load<u32>(ptr) != PROMPTS_MAGIC) return header("magic", load<u32>(ptr), '827609157, "EPT1"');
  const version = load<u16>(ptr, PROMPTS_AT_VERSION);
  if (version != PROMPTS_WIRE_VERSION) return header("version", version, "1, the version this filter reads");
  const headerBytes = load<u16>(ptr, PROMPTS_AT_HEADER_BYTES);
  if (headerBytes != PROMPTS_HEADER_BYTES) return header("headerBytes", headerBytes, "64");
  const total = load<u32>(ptr, PROMPTS_AT_TOTAL_BYTES);
  if (total != bytes) return header("totalBytes", total, "the number of bytes received");
  const programs = load<u32>(ptr, PROMPTS_AT_PROGRAMS);
  if (programs > <u32>PROMPTS_PROGRAMS_MAX) return header("programs", programs, "at most 8");
  const models = load<u32>(ptr, PROMPTS_AT_MODELS);
  if (models > <u32>PROMPTS_MODELS_MAX) return header("models", models, "at most 64");
  if (<u32>PROMPTS_HEADER_BYTES + programs * PROMPTS_PROGRAM_BYTES + models * PROMPTS_MODEL_BYTES > bytes) {
    return header("totalBytes", total, "room for all records");
  }
  if (load<u32>(ptr, PROMPTS_AT_CHECKSUM) != snapshotChecksum(ptr, bytes)) {
    return header("checksum", load<u32>(ptr, PROMPTS_AT_CHECKSUM), "the checksum of the bytes received");
  }
  const id = load<u64>(ptr, PROMPTS_AT_ID);
  if (id == 0 || id > ID_MAX) return header("id", <f64>id, "1 to 281474976710655");
  for (let i: u32 = 0; i < programs; i++) if (!checkProgram(ptr, bytes, i)) return false;
  for (let i: u32 = 0; i < models; i++) if (!checkModel(ptr, bytes, i, programs)) return false;
  return true;
}

function header(name: string, value: f64, expected: string): bool {
  return fault("", -1, name, value, expected);
}

function checkProgram(ptr: usize, bytes: u32, index: u32): bool {
  const program = programAt(ptr, index);
  const flags = load<u32>(program, PROGRAM_AT_FLAGS);
  if (flags > <u32>PROGRAM_FLAGS) return fault("programs", index, "flags", flags, "at most 511");
  for (let i: u32 = 0; i < <u32>PROGRAM_LITERALS; i++) {
    const offset = load<u32>(literalAt(program, i));
    const length = load<u32>(literalAt(program, i), 4);
    const most: u32 = offset == <u32>LITERAL_UNKNOWN ? 0 : PROMPT_LITERAL_BYTES_MAX;
    if (length > most) {
      const expected = most == 0 ? "0 of a literal that is not known" : "at most 2048";
      return faultInside("programs", index, "literals", i, "bytes", length, expected);
    }
    if (offset == <u32>LITERAL_UNKNOWN || isInside(bytes, offset, length)) continue;
    const expected = "an offset inside the bytes received, or 4294967295";
    return faultInside("programs", index, "literals", i, "offset", offset, expected);
  }
  return true;
}

function checkModel(ptr: usize, bytes: u32, index: u32, programs: u32): bool {
  const model = modelAt(ptr, index);
  const name = load<u32>(model, MODEL_AT_NAME);
  const length = load<u32>(model, MODEL_AT_NAME_BYTES);
  if (length == 0 || length > <u32>POLICY_MODEL_BYTES_MAX) {
    return fault("models", index, "name", length, "1 to 256 bytes");
  }
  if (!isInside(bytes, name, length)) {
    return fault("models", index, "name", name, "an offset inside the bytes received");
  }
  if (index > 0 && !isBehind(ptr, model - PROMPTS_MODEL_BYTES, name, length)) {
    return faultText("models", index, "name", ptr + name, length, "each once, in ascending order");
  }
  const program = <u32>load<u16>(model, MODEL_AT_PROGRAM);
  if (program >= programs) return fault("models", index, "program", program, "the number of a program");
  const flags = <u32>load<u16>(model, MODEL_AT_FLAGS);
  return flags <= <u32>MODEL_IS_ADAPTER || fault("models", index, "flags", flags, "0 or 1");
}

function isBehind(ptr: usize, previous: usize, name: u32, length: u32): bool {
  const before = ptr + load<u32>(previous, MODEL_AT_NAME);
  return compareBytes(before, load<u32>(previous, MODEL_AT_NAME_BYTES), ptr + name, length) < 0;
}

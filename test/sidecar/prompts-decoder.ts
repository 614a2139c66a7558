// Decodes pushed prompt programs (assembly/wire/prompt-programs.ts) as strictly as the gateway does.
import * as wire from "../../assembly/wire/prompt-programs.ts";
import type { PromptModel } from "../../sidecar/prompts/encode.ts";
import type { PromptProgram } from "../../sidecar/prompts/program.ts";
import { snapshotChecksum } from "../../sidecar/snapshot-encoder.ts";

export interface DecodedPrompts {
  readonly id: number;
  readonly programs: readonly PromptProgram[];
  readonly models: readonly PromptModel[];
}

/** @throws Error naming the first field that is wrong */
export function decodePrompts(bytes: Buffer): DecodedPrompts {
  const expect = (field: string, is: boolean): void => {
    if (!is) throw new Error(`prompts: ${field}`);
  };
  expect("bytes", bytes.length >= wire.PROMPTS_HEADER_BYTES && bytes.length <= wire.PROMPTS_BYTES_MAX);
  const u32 = (at: number): number => bytes.readUInt32LE(at);
  expect("magic", u32(wire.PROMPTS_AT_MAGIC) === wire.PROMPTS_MAGIC);
  expect("version", bytes.readUInt16LE(wire.PROMPTS_AT_VERSION) === wire.PROMPTS_WIRE_VERSION);
  expect("header bytes", bytes.readUInt16LE(wire.PROMPTS_AT_HEADER_BYTES) === wire.PROMPTS_HEADER_BYTES);
  expect("total", u32(wire.PROMPTS_AT_TOTAL_BYTES) === bytes.length);
  expect("checksum", u32(wire.PROMPTS_AT_CHECKSUM) === snapshotChecksum(bytes));
  expect(
    "header end",
    bytes.subarray(32, wire.PROMPTS_HEADER_BYTES).every((byte) => byte === 0),
  );
  const id = Number(bytes.readBigUInt64LE(wire.PROMPTS_AT_ID));
  expect("id", id >= 1 && id < 2 ** 48);
  const [programs, models] = [u32(wire.PROMPTS_AT_PROGRAMS), u32(wire.PROMPTS_AT_MODELS)];
  expect("programs", programs <= wire.PROMPTS_PROGRAMS_MAX);
  expect("models", models <= wire.PROMPTS_MODELS_MAX);
  const modelsAt = wire.PROMPTS_HEADER_BYTES + programs * wire.PROMPTS_PROGRAM_BYTES;
  const textsAt = modelsAt + models * wire.PROMPTS_MODEL_BYTES;
  const text = (field: string, offset: number, length: number): Buffer => {
    expect(field, offset >= textsAt && offset + length <= bytes.length);
    return bytes.subarray(offset, offset + length);
  };
  const decoded = Array.from({ length: programs }, (_, index) => {
    const at = wire.PROMPTS_HEADER_BYTES + index * wire.PROMPTS_PROGRAM_BYTES;
    const flags = u32(at + wire.PROGRAM_AT_FLAGS);
    expect("flags", (flags & ~wire.PROGRAM_FLAGS) === 0);
    expect(
      "program",
      bytes.subarray(at + 4, at + wire.PROGRAM_AT_LITERALS).every((byte) => byte === 0),
    );
    const literals = Array.from({ length: wire.PROGRAM_LITERALS }, (__, literal) => {
      const entry = at + wire.PROGRAM_AT_LITERALS + 8 * literal;
      const length = u32(entry + 4);
      expect("literal bytes", length <= wire.PROMPT_LITERAL_BYTES_MAX);
      if (u32(entry) !== wire.LITERAL_UNKNOWN) return text("literal", u32(entry), length);
      expect("unknown literal", length === 0);
      return null;
    });
    return { flags, literals };
  });
  let before: Buffer = Buffer.alloc(0);
  const named = Array.from({ length: models }, (_, index) => {
    const at = modelsAt + index * wire.PROMPTS_MODEL_BYTES;
    const name = text("name", u32(at + wire.MODEL_AT_NAME), u32(at + wire.MODEL_AT_NAME_BYTES));
    expect("names ascend", Buffer.compare(before, name) < 0);
    before = name;
    const flags = bytes.readUInt16LE(at + wire.MODEL_AT_FLAGS);
    const program = decoded[bytes.readUInt16LE(at + wire.MODEL_AT_PROGRAM)];
    expect("program of a model", program !== undefined);
    expect("model", flags <= wire.MODEL_IS_ADAPTER && u32(at + 12) === 0);
    return { name: name.toString(), isAdapter: flags === wire.MODEL_IS_ADAPTER, program: program! };
  });
  return { id, programs: decoded, models: named };
}

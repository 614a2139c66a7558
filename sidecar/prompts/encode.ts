// Encodes what is known of a pool's chat templates as the binary form of assembly/wire/prompt-programs.ts.
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { snapshotChecksum } from "../snapshot-encoder.ts";
import { contentId, type EncodedDocument, sortedByBytes, Texts } from "../wire-document.ts";
import { programKey, type PromptProgram } from "./program.ts";

/** A name that requests may have, and how its prompts are rendered. */
export interface PromptModel {
  readonly name: string;
  readonly isAdapter: boolean;
  readonly program: PromptProgram;
}

/** Encoded programs. */
export interface EncodedPrompts extends EncodedDocument {
  readonly programs: number;
  readonly models: number;
  /** Names that did not fit; base models come before adapters. */
  readonly omitted: readonly string[];
}

const RECORDS_AT = wire.PROMPTS_HEADER_BYTES;

/**
 * Leaves out models beyond the limits of the wire (programs, models, bytes): their requests are not rendered.
 * @param models each name once
 */
export function encodePrompts(models: readonly PromptModel[]): EncodedPrompts {
  const sorted = sortedByBytes(models, ({ name }) => name);
  const byUse = [...sorted.filter((one) => !one.isAdapter), ...sorted.filter((one) => one.isAdapter)];
  const kept = new Set<PromptModel>();
  const omitted: string[] = [];
  for (const model of byUse) {
    kept.add(model);
    if (fits([...kept])) continue;
    kept.delete(model);
    omitted.push(model.name);
  }
  const list = sorted.filter((model) => kept.has(model));
  const { bytes, programs } = write(list);
  return { id: writeHeader(bytes, programs, list.length), bytes, programs, models: list.length, omitted };
}

/** Sizes are found by writing: a pool has a few programs and at most 64 models. */
function fits(models: readonly PromptModel[]): boolean {
  if (models.length > wire.PROMPTS_MODELS_MAX) return false;
  const { bytes, programs } = write(models);
  return programs <= wire.PROMPTS_PROGRAMS_MAX && bytes.length <= wire.PROMPTS_BYTES_MAX;
}

function write(models: readonly PromptModel[]): { bytes: Buffer; programs: number } {
  const keys = [...new Set(models.map(({ program }) => programKey(program)))];
  const programs = keys.map((key) => models.find(({ program }) => programKey(program) === key)!.program);
  const modelsAt = RECORDS_AT + programs.length * wire.PROMPTS_PROGRAM_BYTES;
  const records = Buffer.alloc(modelsAt + models.length * wire.PROMPTS_MODEL_BYTES);
  const texts = new Texts(records.length);
  for (const [index, program] of programs.entries()) {
    writeProgram(records, RECORDS_AT + index * wire.PROMPTS_PROGRAM_BYTES, program, texts);
  }
  for (const [index, { name, isAdapter, program }] of models.entries()) {
    const at = modelsAt + index * wire.PROMPTS_MODEL_BYTES;
    const { offset, bytes } = texts.place(name);
    records.writeUInt32LE(offset, at + wire.MODEL_AT_NAME);
    records.writeUInt32LE(bytes.length, at + wire.MODEL_AT_NAME_BYTES);
    records.writeUInt16LE(keys.indexOf(programKey(program)), at + wire.MODEL_AT_PROGRAM);
    records.writeUInt16LE(isAdapter ? wire.MODEL_IS_ADAPTER : 0, at + wire.MODEL_AT_FLAGS);
  }
  return { bytes: Buffer.concat([records, ...texts.list], texts.end), programs: programs.length };
}

function writeProgram(records: Buffer, at: number, { flags, literals }: PromptProgram, texts: Texts): void {
  records.writeUInt32LE(flags, at + wire.PROGRAM_AT_FLAGS);
  for (let index = 0; index < wire.PROGRAM_LITERALS; index++) {
    const literal = literals[index] ?? null;
    const place = literal === null ? null : texts.place(literal);
    const entry = at + wire.PROGRAM_AT_LITERALS + 8 * index;
    records.writeUInt32LE(place === null ? wire.LITERAL_UNKNOWN : place.offset, entry);
    records.writeUInt32LE(place === null ? 0 : place.bytes.length, entry + 4);
  }
}

/** @returns the id */
function writeHeader(bytes: Buffer, programs: number, models: number): number {
  bytes.writeUInt32LE(wire.PROMPTS_MAGIC, wire.PROMPTS_AT_MAGIC);
  bytes.writeUInt16LE(wire.PROMPTS_WIRE_VERSION, wire.PROMPTS_AT_VERSION);
  bytes.writeUInt16LE(wire.PROMPTS_HEADER_BYTES, wire.PROMPTS_AT_HEADER_BYTES);
  bytes.writeUInt32LE(bytes.length, wire.PROMPTS_AT_TOTAL_BYTES);
  bytes.writeUInt32LE(programs, wire.PROMPTS_AT_PROGRAMS);
  bytes.writeUInt32LE(models, wire.PROMPTS_AT_MODELS);
  const id = contentId(bytes);
  bytes.writeBigUInt64LE(BigInt(id), wire.PROMPTS_AT_ID);
  bytes.writeUInt32LE(snapshotChecksum(bytes), wire.PROMPTS_AT_CHECKSUM);
  return id;
}

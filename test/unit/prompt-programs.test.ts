// Prompt programs in the filter: what is refused and how it is named, and which program a model has.
import { beforeAll, describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { encodePrompts } from "../../sidecar/prompts/encode.ts";
import { snapshotChecksum } from "../../sidecar/snapshot-encoder.ts";
import { POOL, Renderer, adapter, base, programOf, tagged } from "./support/prompt-renderer.ts";

let programs: Renderer;
beforeAll(async () => {
  programs = await Renderer.start();
});

const OTHER = programOf({ completion: "<bos>" });
const GOOD = [base("a", tagged()), base("m", tagged()), base("z", OTHER), adapter("lora", tagged())];
const PROGRAM = wire.PROMPTS_HEADER_BYTES;
const MODEL = PROGRAM + 2 * wire.PROMPTS_PROGRAM_BYTES;
const LITERAL_7 = PROGRAM + wire.PROGRAM_AT_LITERALS + 7 * 8;

function spoilt(spoil: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(encodePrompts(GOOD).bytes);
  spoil(bytes);
  bytes.writeUInt32LE(snapshotChecksum(bytes), wire.PROMPTS_AT_CHECKSUM);
  return bytes;
}
const u32 = (at: number, value: number): Buffer => spoilt((bytes) => bytes.writeUInt32LE(value, at));
const u16 = (at: number, value: number): Buffer => spoilt((bytes) => bytes.writeUInt16LE(value, at));

describe("the check of prompt programs", () => {
  it.each<[string, () => Uint8Array, string]>([
    ["no header", () => Buffer.from("EPT1"), "totalBytes: 4: expected at least the 64-byte header"],
    ["too many bytes", () => Buffer.alloc(16_385), "totalBytes: 16385: expected at most 16384"],
    ["another magic", () => u32(0, 0x314c5045), 'magic: 827084869: expected 827609157, "EPT1"'],
    ["the next version", () => u16(wire.PROMPTS_AT_VERSION, 2), "version: 2: expected 1, the version this"],
    ["a longer header", () => u16(wire.PROMPTS_AT_HEADER_BYTES, 72), "headerBytes: 72: expected 64"],
    ["fewer bytes than said", () => encodePrompts(GOOD).bytes.subarray(0, -1), "totalBytes"],
    ["too many programs", () => u32(wire.PROMPTS_AT_PROGRAMS, 9), "programs: 9: expected at most 8"],
    ["too many models", () => u32(wire.PROMPTS_AT_MODELS, 65), "models: 65: expected at most 64"],
    ["more records than bytes", () => u32(wire.PROMPTS_AT_PROGRAMS, 8), "room for all records"],
    [
      "a flipped bit",
      () => {
        const bytes = Buffer.from(encodePrompts(GOOD).bytes);
        bytes[bytes.length - 1]! ^= 1;
        return bytes;
      },
      "checksum",
    ],
    [
      "no id",
      () => spoilt((bytes) => bytes.writeBigUInt64LE(0n, wire.PROMPTS_AT_ID)),
      "id: 0: expected 1 to",
    ],
    [
      "an id that JSON cannot keep",
      () => spoilt((bytes) => bytes.writeBigUInt64LE(1n << 48n, wire.PROMPTS_AT_ID)),
      "id: 281474976710656: expected 1 to 281474976710655",
    ],
    ["a flag of a later version", () => u32(PROGRAM, 512), "programs[0].flags: 512: expected at most 511"],
    [
      "a literal outside",
      () => u32(LITERAL_7, 1e6),
      "programs[0].literals[7].offset: 1000000: expected an offset inside the bytes received",
    ],
    [
      "a literal that is too long",
      () => u32(LITERAL_7 + 4, 2_049),
      "programs[0].literals[7].bytes: 2049: expected at most 2048",
    ],
    [
      "bytes of a literal that is not known",
      () => u32(PROGRAM + wire.PROMPTS_PROGRAM_BYTES + wire.PROGRAM_AT_LITERALS + 4, 1),
      "programs[1].literals[0].bytes: 1: expected 0 of a literal that is not known",
    ],
    ["an empty name", () => u32(MODEL + 4, 0), "models[0].name: 0: expected 1 to 256 bytes"],
    ["a long name", () => u32(MODEL + 4, 257), "models[0].name: 257: expected 1 to 256 bytes"],
    ["a name outside", () => u32(MODEL, 1e6), "models[0].name: 1000000: expected an offset inside"],
    [
      "one name twice",
      () => spoilt((bytes) => bytes.copyWithin(MODEL + 16, MODEL, MODEL + 8)),
      'models[1].name: "a": expected each once, in ascending order',
    ],
    [
      "a program that is not there",
      () => u16(MODEL + 16 + wire.MODEL_AT_PROGRAM, 2),
      "models[1].program: 2: expected the number of a program",
    ],
    [
      "an unknown flag of a model",
      () => u16(MODEL + wire.MODEL_AT_FLAGS, 2),
      "models[0].flags: 2: expected 0",
    ],
  ])("refuses %s", (_, bytes, fault) => {
    expect(programs.fault(bytes())).toContain(fault);
  });

  it("takes programs of all sizes that the wire has", () => {
    expect(programs.fault(encodePrompts([]).bytes)).toBe("");
    expect(programs.fault(encodePrompts(GOOD).bytes)).toBe("");
    const longest = programOf(
      { "start-user": "x".repeat(wire.PROMPT_LITERAL_BYTES_MAX) },
      wire.PROGRAM_FLAGS,
    );
    const many = Array.from({ length: wire.PROMPTS_MODELS_MAX }, (_, i) =>
      base(`${i}`, i < 7 ? programOf({ completion: `${i}` }) : longest),
    );
    const { bytes, models } = encodePrompts(many);
    expect(models).toBe(wire.PROMPTS_MODELS_MAX);
    expect(programs.fault(bytes)).toBe("");
  });
});

describe("a pool's programs", () => {
  const found = (name: string): number | null => {
    const bytes = Buffer.from(name);
    const model = programs.h["promptModel"](POOL, programs.put(bytes, 65_536), bytes.length) as number;
    return model === 0 ? null : (programs.h["promptModelProgram"](model) as number);
  };

  it("are found by a model's name", () => {
    programs.take(...GOOD);
    expect(["a", "m", "lora", "z"].map(found)).toEqual([0, 0, 0, 1]);
    expect(["", "b", "lor", "loraa", "zz"].map(found)).toEqual([null, null, null, null, null]);
    const ids = ["a", "z"].map((name) => encodePrompts([base(name, OTHER)]).id);
    expect(new Set(ids).size).toBe(2);
    expect(programs.h["promptProgramsId"](POOL)).toBe(BigInt(encodePrompts(GOOD).id));
  });

  it("are the base model's for a request that names none, if that leaves no doubt", () => {
    programs.take(base("a", OTHER), base("alias", OTHER), adapter("lora", tagged()));
    expect(found("")).toBe(found("a"));
    programs.take(base("a", OTHER), base("b", tagged()));
    expect(found("")).toBeNull();
    programs.take(adapter("lora", tagged()));
    expect(found("")).toBeNull();
  });

  it("are shared where all models have the same", () => {
    const shared = (): number => programs.h["promptSharedProgram"](POOL) >>> 0;
    programs.take(base("a", OTHER), adapter("lora", OTHER));
    expect(shared()).toBe(0);
    programs.take(...GOOD);
    expect(shared()).toBe(0xffffffff);
    programs.take();
    expect(shared()).toBe(0xffffffff);
    expect(programs.h["promptModelCount"](POOL)).toBe(0);
  });

  it("are each pool's own, and none before the first push", () => {
    programs.take(...GOOD);
    const { h } = programs;
    expect([h["promptModelCount"](POOL), h["promptModelCount"](POOL + 1)]).toEqual([4, 0]);
    expect([h["promptProgramsId"](POOL + 1), h["promptProgramsReceivedMs"](POOL + 1)]).toEqual([
      0n,
      Number.NaN,
    ]);
    h["promptProgramsSkip"](POOL, 99n);
    expect([h["promptProgramsSequence"](POOL), h["promptModelCount"](POOL)]).toEqual([99n, 4]);
  });
});

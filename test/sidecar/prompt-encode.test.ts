// The bytes of prompt programs, and what does not fit into a push.
import { describe, expect, it } from "vitest";
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { encodePrompts, type PromptModel } from "../../sidecar/prompts/encode.ts";
import {
  emptyProgram,
  meet,
  programKey,
  type PromptProgram,
  renderChat,
} from "../../sidecar/prompts/program.ts";
import { renderCompletion, transition } from "../../sidecar/prompts/program.ts";
import { pythonStrip } from "../../sidecar/prompts/python-text.ts";
import { decodePrompts } from "./prompts-decoder.ts";

const START_USER = transition(null, "user");
const USER_END = transition("user", null);
const JOIN = wire.PROMPT_PART_JOIN;

/** A program of these literals. */
function programOf(literals: Readonly<Record<number, string>>, flags = 0): PromptProgram {
  const texts = emptyProgram().literals.map((_, index) => {
    return literals[index] === undefined ? null : Buffer.from(literals[index]);
  });
  return { flags, literals: texts };
}
const model = (name: string, program: PromptProgram, isAdapter = false): PromptModel => ({
  name,
  isAdapter,
  program,
});
const CHAT = programOf({ [START_USER]: "<s>user: ", [USER_END]: "\nassistant: ", [JOIN]: "\n" });

describe("the bytes of prompt programs", () => {
  it("come back as they were: models sorted by UTF-8 bytes, equal programs once", () => {
    const other = programOf({ [START_USER]: "", [wire.PROMPT_COMPLETION]: "\u00ff" }, wire.PROGRAM_FLAGS);
    const models = [
      model("\u{1f600}", CHAT),
      model("\ufffd", { ...CHAT, literals: [...CHAT.literals] }),
      model("b", other, true),
    ];
    const { id, bytes, programs, omitted } = encodePrompts(models);
    const decoded = decodePrompts(bytes);
    expect([decoded.id, programs, decoded.programs.length, omitted]).toEqual([id, 2, 2, []]);
    expect(decoded.models.map(({ name, isAdapter }) => [name, isAdapter])).toEqual([
      ["b", true],
      ["\ufffd", false],
      ["\u{1f600}", false],
    ]);
    const keys = decoded.models.map(({ program }) => programKey(program));
    expect(keys).toEqual([programKey(other), programKey(CHAT), programKey(CHAT)]);
  });

  it("have an id that stands for the content, whatever the order", () => {
    const [a, b] = [model("a", CHAT), model("b", CHAT)];
    expect(encodePrompts([a, b]).id).toBe(encodePrompts([b, a]).id);
    expect(encodePrompts([a]).id).not.toBe(encodePrompts([a, b]).id);
    expect(encodePrompts([a]).id).not.toBe(encodePrompts([model("a", CHAT, true)]).id);
    expect(decodePrompts(encodePrompts([]).bytes)).toMatchObject({ programs: [], models: [] });
  });

  it("leave out models, programs and texts beyond the limits, adapters first", () => {
    const many = Array.from({ length: 70 }, (_, i) => model(`m${String(i).padStart(2, "0")}`, CHAT, i < 60));
    const tooMany = encodePrompts(many);
    expect(tooMany.models).toBe(wire.PROMPTS_MODELS_MAX);
    expect(tooMany.omitted).toEqual(["m54", "m55", "m56", "m57", "m58", "m59"]);
    const programs = Array.from({ length: 9 }, (_, i) => model(`p${i}`, programOf({ [START_USER]: `${i}` })));
    expect(encodePrompts(programs)).toMatchObject({ programs: 8, models: 8, omitted: ["p8"] });
    const literal = (i: number): string => `${i}`.repeat(wire.PROMPT_LITERAL_BYTES_MAX);
    const long = Array.from({ length: 8 }, (_, i) => model(`l${i}`, programOf({ [START_USER]: literal(i) })));
    const { bytes, omitted, models } = encodePrompts(long);
    expect([models, omitted]).toEqual([7, ["l7"]]);
    expect(decodePrompts(bytes).models).toHaveLength(7);
    // Room is left for what is small.
    expect(encodePrompts([...long, model("z", CHAT)]).omitted).toEqual(["l7"]);
  });
});

describe("the decoder of the tests", () => {
  const good = (): Buffer => Buffer.from(encodePrompts([model("a", CHAT)]).bytes);

  it.each([
    ["a flipped bit", (bytes: Buffer) => bytes.writeUInt8(1, bytes.length - 1), "checksum"],
    ["another magic", (bytes: Buffer) => bytes.writeUInt32LE(0, wire.PROMPTS_AT_MAGIC), "magic"],
    ["another version", (bytes: Buffer) => bytes.writeUInt16LE(9, wire.PROMPTS_AT_VERSION), "version"],
    ["another length", (bytes: Buffer) => bytes.writeUInt32LE(9, wire.PROMPTS_AT_TOTAL_BYTES), "total"],
  ])("refuses %s", (_, damage, field) => {
    const bytes = good();
    damage(bytes);
    expect(() => decodePrompts(bytes)).toThrow(`prompts: ${field}`);
  });
});

describe("a program", () => {
  const user = (content: string | readonly string[]) => [{ role: "user" as const, content }];
  const text = (program: PromptProgram, content: string | readonly string[]): string | undefined =>
    renderChat(program, user(content))?.toString();

  it("renders contents between its literals, and nothing where one is not known", () => {
    expect(text(CHAT, " a ")).toBe("<s>user:  a \nassistant: ");
    expect(text(CHAT, ["a", " ", "b"])).toBe("<s>user: a\n \nb\nassistant: ");
    for (const parts of [[], [""], ["a", "", "b"]]) expect(text(CHAT, parts)).toBeUndefined();
    expect(text(programOf({ [START_USER]: "a", [USER_END]: "b" }), ["a"])).toBeUndefined();
    expect(renderChat(CHAT, [...user("a"), ...user("b")])).toBeNull();
    expect(renderCompletion(CHAT, "a")).toBeNull();
    expect(renderCompletion(programOf({ [wire.PROMPT_COMPLETION]: "<s>" }), "é")).toEqual(
      Buffer.from("<s>é"),
    );
  });

  it("trims, and leaves out what its flags name", () => {
    const flagged = (flags: number): PromptProgram => ({ ...CHAT, flags });
    expect(text(flagged(wire.PROGRAM_TRIMS_USER), "\u3000a\u0085")).toBe("<s>user: a\nassistant: ");
    expect(text(flagged(wire.PROGRAM_TRIMS_SYSTEM), " a")).toBe("<s>user:  a\nassistant: ");
    expect(text(flagged(wire.PROGRAM_EDITS_EDGES_USER), "a ")).toBeUndefined();
    expect(text(flagged(wire.PROGRAM_EDITS_EDGES_USER | wire.PROGRAM_TRIMS_USER), "a ")).toBeDefined();
    expect(text(flagged(wire.PROGRAM_EDITS_EMPTY | wire.PROGRAM_TRIMS_USER), " ")).toBeUndefined();
    expect(text(flagged(wire.PROGRAM_EDITS_EMPTY), " ")).toBeDefined();
    expect(text(flagged(wire.PROGRAM_EDITS_THINKING), "<think>")).toBeDefined();
  });

  it("meets another one in what both say", () => {
    const less = programOf({ [START_USER]: "<s>user: " }, wire.PROGRAM_EDITS_EMPTY);
    expect(programKey(meet(CHAT, less)!)).toBe(programKey(less));
    expect(meet(CHAT, programOf({ [START_USER]: "user: " }))).toBeNull();
    expect(meet(CHAT, { ...CHAT, flags: wire.PROGRAM_TRIMS_USER })).toBeNull();
    const edges = { ...CHAT, flags: wire.PROGRAM_EDITS_EDGES_USER };
    expect(meet({ ...CHAT, flags: wire.PROGRAM_TRIMS_USER }, edges)!.flags).toBe(
      wire.PROGRAM_EDITS_EDGES_USER,
    );
  });
});

describe("Python's strip", () => {
  it("takes what str.isspace says, at the ends alone", () => {
    const spaces =
      "\t\n\v\f\r\u001c\u001d\u001e\u001f \u0085\u00a0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000";
    expect(pythonStrip(`${spaces}a b${spaces}`)).toBe("a b");
    expect(pythonStrip(spaces)).toBe("");
    expect(pythonStrip("\ufeff\u200ba\u180e")).toBe("\ufeff\u200ba\u180e");
  });
});

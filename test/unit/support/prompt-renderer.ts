// Renders request bodies through the compiled prompt reader, by programs of the sidecar's encoder.
import * as wire from "../../../assembly/wire/prompt-programs.ts";
import { encodePrompts, type PromptModel } from "../../../sidecar/prompts/encode.ts";
import { type PromptProgram, type Role, transition } from "../../../sidecar/prompts/program.ts";
import { compileHarness, instantiateHarness } from "./harness.ts";

// biome-ignore lint/suspicious/noExplicitAny: every export of the harness by its name
type Exports = Record<string, any>;

/** RENDER_* of assembly/prompt/render-layout.ts, by number. */
export const OUTCOMES = [
  "rendered",
  "api",
  "model",
  "role",
  "order",
  "member",
  "content",
  "thinking",
  "white-space",
  "field",
  "salt",
  "several",
  "token-ids",
  "changed",
  "unread",
] as const;
export type Outcome = (typeof OUTCOMES)[number];

export const POOL = 5;
export const CHAT = 1;
export const COMPLETIONS = 2;

/** Literals by "start-user", "user-assistant", "user-end" …, "completion" and "part-join". */
export function programOf(literals: Readonly<Record<string, string>>, flags = 0): PromptProgram {
  const list = new Array<Buffer | null>(wire.PROGRAM_LITERALS).fill(null);
  for (const [name, text] of Object.entries(literals)) list[literalIndex(name)] = Buffer.from(text);
  return { flags, literals: list };
}

function literalIndex(name: string): number {
  if (name === "completion") return wire.PROMPT_COMPLETION;
  if (name === "part-join") return wire.PROMPT_PART_JOIN;
  const [before, next] = name.split("-") as [string, string];
  return transition(before === "start" ? null : (before as Role), next === "end" ? null : (next as Role));
}

const ROLES = ["system", "user", "assistant"];

/** Every literal of a template that writes "<|role|>" before a content and "<|end|>\n" behind it. */
export function tagged(more: Readonly<Record<string, string>> = {}, flags = 0): PromptProgram {
  const literals: Record<string, string> = { completion: "<s>", "part-join": "\n" };
  for (const before of ["start", ...ROLES]) {
    const close = before === "start" ? "<s>" : "<|end|>\n";
    for (const next of ROLES) literals[`${before}-${next}`] = `${close}<|${next}|>\n`;
    if (before !== "start") literals[`${before}-end`] = `${close}<|assistant|>\n`;
  }
  return programOf({ ...literals, ...more }, flags);
}

export const base = (name: string, program: PromptProgram): PromptModel => ({
  name,
  isAdapter: false,
  program,
});
export const adapter = (name: string, program: PromptProgram): PromptModel => ({
  name,
  isAdapter: true,
  program,
});

/** Offset of the texts in the harness's scratch memory, behind the bodies. */
const TEXT_AT = 1_048_576;

export class Renderer {
  private sequence = 0n;
  private constructor(readonly h: Exports) {}

  static async start(): Promise<Renderer> {
    return new Renderer(instantiateHarness<Exports>(await compileHarness("prompt-programs")));
  }

  put(bytes: Uint8Array, at = 0): number {
    const ptr = this.h["scratchPtr"]() + at;
    new Uint8Array(this.h["memory"].buffer, ptr, bytes.length).set(bytes);
    return ptr;
  }

  /** "field: message", or "" when the programs are good. */
  fault(bytes: Uint8Array): string {
    const { h } = this;
    if (h["promptProgramsCheck"](this.put(bytes), bytes.length)) return "";
    return `${this.text(h["faultField"](), h["faultFieldBytes"]())}: ${this.text(h["faultMessage"](), h["faultMessageBytes"]())}`;
  }

  text(ptr: number, bytes: number): string {
    return Buffer.from(this.h["memory"].buffer, ptr, bytes).toString();
  }

  /** The pool gets programs for these models. */
  take(...models: PromptModel[]): this {
    const { bytes } = encodePrompts(models);
    const fault = this.fault(bytes);
    if (fault !== "") throw new Error(fault);
    this.h["promptProgramsTake"](POOL, this.put(bytes), bytes.length, ++this.sequence, 1_000);
    return this;
  }

  /** Starts a body and feeds it: whole, in chunks of `cut` bytes, or cut at these offsets. */
  feed(api: number, body: unknown, cut: number | readonly number[] = []): this {
    const bytes = Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
    this.put(bytes);
    this.h["begin"](api, POOL);
    const cuts =
      typeof cut === "number"
        ? Array.from({ length: Math.floor(bytes.length / cut) }, (_, i) => (i + 1) * cut)
        : cut;
    let from = 0;
    for (const to of [...cuts, bytes.length]) {
      if (this.h["feed"](from, to) !== 0) throw new Error(`refused: ${bytes.toString()}`);
      from = to;
    }
    return this;
  }

  /** Ends the body. Bodies of this file are good ones. */
  end(): this {
    const code = this.h["end"]() as number;
    if (code !== 0) throw new Error(`refused with ${code}`);
    return this;
  }

  outcome(model = "m", isWhole = true): Outcome {
    const bytes = Buffer.from(model);
    return OUTCOMES[this.h["outcome"](this.put(bytes, TEXT_AT), bytes.length, isWhole)]!;
  }

  root(model = "m"): bigint {
    const bytes = Buffer.from(model);
    return BigInt.asUintN(64, this.h["root"](this.put(bytes, TEXT_AT), bytes.length));
  }

  /** hashBytes of a text's UTF-8 bytes. */
  nameHash(text: string): bigint {
    const bytes = Buffer.from(text);
    return BigInt.asUintN(64, this.h["nameHash"](this.put(bytes, TEXT_AT), bytes.length));
  }

  mixPair(left: bigint, right: bigint): bigint {
    return BigInt.asUintN(64, this.h["mixPair"](left, right));
  }

  renderedBytes(): number {
    return this.h["renderedBytes"]();
  }

  /** Whether just this was rendered. Ends the use of the body: the texts are padded for it. */
  isRendered(text: string | Uint8Array): boolean {
    const bytes = Buffer.from(text as string);
    return this.h["isRendered"](this.put(bytes, TEXT_AT), bytes.length) !== 0;
  }

  /** The outcome of a whole body, or, where it is rendered, whether as `text`. */
  read(api: number, body: unknown, text: string, cut?: number | readonly number[]): Outcome | "otherwise" {
    const outcome = this.feed(api, body, cut).end().outcome();
    if (outcome !== "rendered") return outcome;
    return this.isRendered(text) ? "rendered" : "otherwise";
  }

  chat(
    messages: unknown,
    text = "",
    fields: object = {},
    cut?: number | readonly number[],
  ): Outcome | "otherwise" {
    return this.read(CHAT, { model: "m", messages, ...fields }, text, cut);
  }

  completion(
    prompt: unknown,
    text = "",
    fields: object = {},
    cut?: number | readonly number[],
  ): Outcome | "otherwise" {
    return this.read(COMPLETIONS, { model: "m", prompt, ...fields }, text, cut);
  }
}

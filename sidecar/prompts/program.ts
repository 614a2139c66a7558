// How a chat template turns messages into text, as literals between contents, and the text that comes of it.
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { pythonStrip } from "./python-text.ts";

export const ROLES = ["system", "user", "assistant"] as const;
export type Role = (typeof ROLES)[number];

/** A message of text alone; several parts are what a list of text parts says. */
export interface Message {
  readonly role: Role;
  readonly content: string | readonly string[];
  /** It is sent with an empty list of tool calls, as clients give back what servers answered. */
  readonly hasNoCalls?: boolean;
}

/** A template as assembly/wire/prompt-programs.ts has it. */
export interface PromptProgram {
  /** PROGRAM_* flags. */
  readonly flags: number;
  /** By the wire's index; null = not known. */
  readonly literals: readonly (Uint8Array | null)[];
}

const BEFORE: Readonly<Record<Role, number>> = {
  system: wire.PROMPT_AFTER_SYSTEM,
  user: wire.PROMPT_AFTER_USER,
  assistant: wire.PROMPT_AFTER_ASSISTANT,
};
const NEXT: Readonly<Record<Role, number>> = {
  system: wire.PROMPT_SYSTEM,
  user: wire.PROMPT_USER,
  assistant: wire.PROMPT_ASSISTANT,
};
const TRIMS: Readonly<Record<Role, number>> = {
  system: wire.PROGRAM_TRIMS_SYSTEM,
  user: wire.PROGRAM_TRIMS_USER,
  assistant: wire.PROGRAM_TRIMS_ASSISTANT,
};
const EDITS_EDGES: Readonly<Record<Role, number>> = {
  system: wire.PROGRAM_EDITS_EDGES_SYSTEM,
  user: wire.PROGRAM_EDITS_EDGES_USER,
  assistant: wire.PROGRAM_EDITS_EDGES_ASSISTANT,
};
/** Where reasoning ends in an assistant's content; templates look for it. */
export const THINKING = "think>";

/** Flag of the contents that lose white space at both ends. */
export function trimFlag(role: Role): number {
  return TRIMS[role];
}

/** Flag of the contents that lose white space at their ends in another way. */
export function edgesFlag(role: Role): number {
  return EDITS_EDGES[role];
}

/** Index of the literal between two contents; null = the prompt's start, or its end. */
export function transition(before: Role | null, next: Role | null): number {
  const row = before === null ? wire.PROMPT_START : BEFORE[before];
  return row * 4 + (next === null ? wire.PROMPT_END : NEXT[next]);
}

/** Indices of the literals before the contents of a role. */
export function transitionTo(role: Role): number[] {
  return [null, ...ROLES].map((before) => transition(before, role));
}

/** Indices of the literals of a conversation, one more than it has messages. */
export function transitionsOf(roles: readonly Role[]): number[] {
  return [...roles, null].map((role, index) => transition(index === 0 ? null : roles[index - 1]!, role));
}

/** A transition by its words, as "user-assistant". */
export function transitionName(index: number): string {
  if (index === wire.PROMPT_COMPLETION) return "completion";
  if (index === wire.PROMPT_PART_JOIN) return "part-join";
  return `${["start", ...ROLES][index >> 2]}-${[...ROLES, "end"][index & 3]}`;
}

/** A program of which nothing is known. */
export function emptyProgram(): PromptProgram {
  return { flags: 0, literals: new Array<Uint8Array | null>(wire.PROGRAM_LITERALS).fill(null) };
}

/** Whether a program renders no prompt at all. */
export function isEmpty({ literals }: PromptProgram): boolean {
  return literals.every((literal) => literal === null);
}

/**
 * What two programs render alike: literals that both know, and contents that neither leaves out.
 * @returns null where they contradict each other: a literal, or a trim, is another one
 */
export function meet(a: PromptProgram, b: PromptProgram): PromptProgram | null {
  if (a === b) return a;
  const literals: (Uint8Array | null)[] = [];
  for (const [index, literal] of a.literals.entries()) {
    const other = b.literals[index] ?? null;
    if (literal !== null && other !== null && Buffer.compare(literal, other) !== 0) return null;
    literals.push(other === null ? null : literal);
  }
  let flags = a.flags | b.flags;
  for (const role of ROLES) {
    if (((a.flags ^ b.flags) & TRIMS[role]) === 0) continue;
    // Where no content with white space at an end is rendered, it does not matter who would trim it.
    if ((flags & EDITS_EDGES[role]) === 0) return null;
    flags &= ~TRIMS[role];
  }
  return { flags, literals };
}

/** Keys of programs: all models of all replicas may share one, and are compared at each look. */
const keys = new WeakMap<PromptProgram, string>();

/** Equal for equal programs only. */
export function programKey(program: PromptProgram): string {
  const known = keys.get(program);
  if (known !== undefined) return known;
  const texts = program.literals.map((literal) =>
    literal === null ? null : Buffer.from(literal).toString("latin1"),
  );
  const key = JSON.stringify([program.flags, texts]);
  keys.set(program, key);
  return key;
}

/**
 * The text of a conversation as the gateway renders it.
 * @returns null where the gateway does not render it: a literal that is not known, or contents that a flag names
 */
export function renderChat({ flags, literals }: PromptProgram, messages: readonly Message[]): Buffer | null {
  const pieces: Uint8Array[] = [];
  const indices = transitionsOf(messages.map(({ role }) => role));
  for (const [at, index] of indices.entries()) {
    const literal = literals[index] ?? null;
    if (literal === null) return null;
    pieces.push(literal);
    const message = messages[at];
    if (message === undefined) break;
    const content = contentBytes({ flags, literals }, message);
    if (content === null) return null;
    pieces.push(content);
  }
  return Buffer.concat(pieces);
}

/** The text of a completion's prompt; null = its literal is not known. */
export function renderCompletion({ literals }: PromptProgram, prompt: string): Buffer | null {
  const literal = literals[wire.PROMPT_COMPLETION] ?? null;
  return literal === null ? null : Buffer.concat([literal, Buffer.from(prompt)]);
}

function contentBytes({ flags, literals }: PromptProgram, message: Message): Buffer | null {
  const { role, content, hasNoCalls = false } = message;
  if (hasNoCalls && (flags & wire.PROGRAM_EDITS_CALLS) !== 0) return null;
  let text: string;
  if (typeof content === "string") {
    text = content;
  } else {
    const join = literals[wire.PROMPT_PART_JOIN] ?? null;
    if (join === null || content.length === 0 || content.includes("")) return null;
    text = content.join(Buffer.from(join).toString());
  }
  const edited = role === "assistant" && (flags & wire.PROGRAM_EDITS_THINKING) !== 0;
  if (edited && text.includes(THINKING)) return null;
  const stripped = pythonStrip(text);
  const body = (flags & TRIMS[role]) !== 0 ? stripped : text;
  if ((flags & EDITS_EDGES[role]) !== 0 && body !== stripped) return null;
  if ((flags & wire.PROGRAM_EDITS_EMPTY) !== 0 && body === "") return null;
  return Buffer.from(body);
}

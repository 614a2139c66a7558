// A program in the making: what is known of a template so far, and why the rest is not.
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { type Message, type PromptProgram, type Role, transitionsOf, transitionTo } from "./program.ts";
import type { PromptReason } from "./reasons.ts";
import { sentinel } from "./sentinels.ts";
import { SHAPES } from "./shapes.ts";

/** Literals and flags that change while a template is learnt. */
export class ProgramDraft {
  /** By the wire's index; null = not known. */
  readonly literals = new Array<Uint8Array | null>(wire.PROGRAM_LITERALS).fill(null);
  flags = 0;
  /** Why literals are not known. */
  readonly unknown = new Map<number, PromptReason>();

  /** @param random 0 ≤ x < 1 */
  constructor(private readonly random: () => number) {}

  get program(): PromptProgram {
    return { flags: this.flags, literals: [...this.literals] };
  }

  /** Whether a conversation of these roles has known literals alone. */
  isKnown(roles: readonly Role[]): boolean {
    return transitionsOf(roles).every((index) => this.literals[index] !== null);
  }

  giveUp(index: number, reason: PromptReason): void {
    this.literals[index] = null;
    this.unknown.set(index, reason);
  }

  /** No contents of this role are rendered. */
  giveUpRole(role: Role, reason: PromptReason): void {
    for (const index of transitionTo(role)) if (this.literals[index] !== null) this.giveUp(index, reason);
  }

  /** No conversation is rendered. */
  giveUpChat(reason: PromptReason): void {
    for (let index = 0; index < wire.PROMPT_COMPLETION; index++) {
      if (this.literals[index] !== null) this.giveUp(index, reason);
    }
    this.giveUp(wire.PROMPT_PART_JOIN, reason);
  }

  /** @returns whether the flag was not set */
  set(flag: number): boolean {
    const isNew = (this.flags & flag) === 0;
    this.flags |= flag;
    return isNew;
  }

  /** Known shapes with this role, in which it stands behind and before everything that it can. */
  contexts(role: Role): (readonly Role[])[] {
    const seen = new Set<number>();
    return SHAPES.filter((roles) => {
      if (!this.isKnown(roles)) return false;
      const around = transitionsOf(roles).filter((_, at) => roles[at] === role || roles[at - 1] === role);
      const isNew = around.some((index) => !seen.has(index));
      for (const index of around) seen.add(index);
      return isNew;
    });
  }

  /** A conversation of sentinels, but for the contents of one role, which are what `make` gives. */
  conversation(
    roles: readonly Role[],
    role: Role | null,
    make: (word: string) => Message["content"],
  ): Message[] {
    return roles.map((one) => {
      const [word] = this.sentinels(1) as [string];
      return { role: one, content: one === role ? make(word) : word };
    });
  }

  sentinels(count: number): string[] {
    return Array.from({ length: count }, () => sentinel(this.random));
  }
}

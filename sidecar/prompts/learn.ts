// Learns the program of a chat template from what a server makes of conversations whose contents are known.
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { completionsMatch, conversationsFor, mismatchOf } from "./check.ts";
import { holdsPresent } from "./dates.ts";
import { type Message, type PromptProgram, renderChat, ROLES, type Role, THINKING } from "./program.ts";
import { transitionsOf, trimFlag } from "./program.ts";
import { pythonStrip } from "./python-text.ts";
import type { PromptReason } from "./reasons.ts";
import type { Renderer } from "./render-server.ts";
import { gapsBetween, sentinel } from "./sentinels.ts";
import { leastWorth, SHAPES, SIMPLEST } from "./shapes.ts";

/** What was learnt of a template. */
export interface Learnt {
  readonly program: PromptProgram;
  /** Why literals are not known, by the wire's index. */
  readonly unknown: ReadonlyMap<number, PromptReason>;
  /** Why not even the simplest conversations are rendered; null = they are. */
  readonly reason: PromptReason | null;
}

/** What learning needs beside the server. */
export interface LearnContext {
  /** 0 ≤ x < 1. */
  readonly random: () => number;
  /** ms since 1970. */
  readonly now: () => number;
}

/** Corrections by random conversations: each gives up a literal or sets a flag, of which there are fewer. */
const CORRECTIONS_MAX = 32;

/**
 * Every literal is what stands between two sentinels in the first shape that has it, and stays where no other shape,
 * and no random conversation, says otherwise. What contradicts gives up a literal, or sets a flag by which the gateway
 * renders no such contents, so that what is left renders as the server does.
 * @throws what the renderer throws
 */
export async function learnProgram(renderer: Renderer, context: LearnContext): Promise<Learnt> {
  const learning = new Learning(renderer, context);
  await learning.run();
  return learning.result;
}

class Learning {
  private readonly literals = new Array<Uint8Array | null>(wire.PROGRAM_LITERALS).fill(null);
  private flags = 0;
  private readonly unknown = new Map<number, PromptReason>();
  /** Shapes that did not come out, and why. */
  private readonly failed: { readonly roles: readonly Role[]; readonly reason: PromptReason }[] = [];

  constructor(
    private readonly renderer: Renderer,
    private readonly context: LearnContext,
  ) {}

  get result(): Learnt {
    const rendersChat = SIMPLEST.some((roles) => this.isKnown(roles));
    const reasons = transitionsOf(SIMPLEST[0]!).map((index) => this.unknown.get(index));
    const reason = rendersChat ? null : (reasons.find((found) => found !== undefined) ?? "refused");
    return { program: this.program, unknown: this.unknown, reason };
  }

  async run(): Promise<void> {
    for (const roles of SHAPES) await this.learnShape(roles);
    this.giveUpContradicted();
    await this.learnEdges();
    await this.learnFlag(wire.PROGRAM_EDITS_EMPTY, ROLES, () => [""]);
    await this.learnFlag(wire.PROGRAM_EDITS_THINKING, ["assistant"], (word) => [
      `<${THINKING}\n${word}\n</${THINKING}\n\n${word}`,
      `${word}</${THINKING}${word}`,
    ]);
    await this.learnJoin();
    await this.correct();
    await this.learnCompletion();
  }

  private get program(): PromptProgram {
    return { flags: this.flags, literals: [...this.literals] };
  }

  private isKnown(roles: readonly Role[]): boolean {
    return transitionsOf(roles).every((index) => this.literals[index] !== null);
  }

  private giveUp(index: number, reason: PromptReason): void {
    this.literals[index] = null;
    this.unknown.set(index, reason);
  }

  private sentinels(count: number): string[] {
    return Array.from({ length: count }, () => sentinel(this.context.random));
  }

  private async learnShape(roles: readonly Role[]): Promise<void> {
    const words = this.sentinels(roles.length);
    const text = await this.renderer.chat(roles.map((role, at) => ({ role, content: words[at]! })));
    const gaps = text === null ? null : gapsBetween(text, words);
    const reason = gaps === null ? (text === null ? "refused" : "reordered") : this.adopt(roles, gaps);
    if (reason === null) return;
    this.failed.push({ roles, reason });
    for (const index of transitionsOf(roles)) {
      if (this.literals[index] === null && !this.unknown.has(index)) this.unknown.set(index, reason);
    }
  }

  /** @returns why the gaps are not what literals are; null = they are taken over */
  private adopt(roles: readonly Role[], gaps: readonly Uint8Array[]): PromptReason | null {
    const fresh = new Map<number, Uint8Array>();
    let reason: PromptReason | null = null;
    for (const [at, index] of transitionsOf(roles).entries()) {
      const gap = gaps[at]!;
      const known = this.literals[index] ?? fresh.get(index);
      if (holdsPresent(gap, this.context.now())) {
        this.giveUp(index, "dated");
        reason = "dated";
      } else if (gap.length > wire.PROMPT_LITERAL_BYTES_MAX) {
        this.giveUp(index, "literal-too-long");
        reason = "literal-too-long";
      } else if (known === undefined) {
        fresh.set(index, gap);
      } else if (Buffer.compare(known, gap) !== 0) {
        reason ??= "position-dependent";
      }
    }
    if (reason === "position-dependent") return reason;
    for (const [index, gap] of fresh) {
      // What is given up stays so: another shape may hide what was seen.
      const why = this.unknown.get(index);
      if (why === "dated" || why === "literal-too-long") continue;
      this.literals[index] = gap;
      this.unknown.delete(index);
    }
    return reason;
  }

  /** What the gateway would render otherwise than the server does. */
  private giveUpContradicted(): void {
    for (;;) {
      const found = this.failed.find(({ roles, reason }) => reason !== "refused" && this.isKnown(roles));
      if (found === undefined) return;
      this.giveUp(leastWorth(found.roles), found.reason);
    }
  }

  /** Known shapes with this role, in which it stands behind and before everything that it can. */
  private contexts(role: Role): (readonly Role[])[] {
    const seen = new Set<number>();
    return SHAPES.filter((roles) => {
      if (!this.isKnown(roles)) return false;
      const around = transitionsOf(roles).filter((_, at) => roles[at] === role || roles[at - 1] === role);
      const isNew = around.some((index) => !seen.has(index));
      for (const index of around) seen.add(index);
      return isNew;
    });
  }

  /** A conversation in which all contents of one role are what `make` gives. */
  private conversation(roles: readonly Role[], role: Role, make: (word: string) => string): Message[] {
    const words = this.sentinels(roles.length);
    return roles.map((one, at) => ({ role: one, content: one === role ? make(words[at]!) : words[at]! }));
  }

  /** Whether contents lose white space at both ends, at none, or in some other way. */
  private async learnEdges(): Promise<void> {
    for (const role of ROLES) {
      let [kept, stripped] = [true, true];
      for (const roles of this.contexts(role)) {
        const messages = this.conversation(roles, role, (word) => ` \n\t${word}\n  \n`);
        const rendered = await this.renderer.chat(messages);
        if (rendered === null) continue;
        const flags = this.flags;
        const rendersAs = (more: number): boolean =>
          renderChat({ flags: flags | more, literals: this.literals }, messages)!.equals(rendered);
        kept &&= rendersAs(0);
        stripped &&= rendersAs(trimFlag(role));
      }
      if (!kept) this.flags |= stripped ? trimFlag(role) : wire.PROGRAM_EDITS_EDGES;
      // From here on no content with such edges is rendered, whichever role it has.
      if ((this.flags & wire.PROGRAM_EDITS_EDGES) !== 0) return;
    }
  }

  private async learnFlag(
    flag: number,
    roles: readonly Role[],
    make: (word: string) => string[],
  ): Promise<void> {
    for (const role of roles) {
      for (const shape of this.contexts(role)) {
        for (const variant of make("").keys()) {
          const messages = this.conversation(shape, role, (word) => make(word)[variant]!);
          if ((await mismatchOf(this.renderer, this.program, messages)) === null) continue;
          this.flags |= flag;
          return;
        }
      }
    }
  }

  /** The literal between text parts: equal for all roles, whichever white space is in them. */
  private async learnJoin(): Promise<void> {
    const [first, second] = this.sentinels(2) as [string, string];
    const roles = SIMPLEST.find((shape) => this.isKnown(shape));
    if (roles === undefined) return;
    const words = this.sentinels(roles.length);
    const plain = roles.map((role, at) => ({ role, content: words[at]! }));
    const rendered = await this.renderer.chat([
      ...plain.slice(0, -1),
      { role: "user", content: [first, second] },
    ]);
    const gaps = rendered === null ? null : gapsBetween(rendered, [...words.slice(0, -1), first, second]);
    const join = gaps?.at(-2);
    if (join === undefined || !isText(join) || join.length > wire.PROMPT_LITERAL_BYTES_MAX) {
      this.giveUp(wire.PROMPT_PART_JOIN, rendered === null ? "refused" : "reordered");
      return;
    }
    this.literals[wire.PROMPT_PART_JOIN] = join;
    const lists = [[second], [second, first, second], [` ${first}\n`, ` ${second}\n`], [second, " "]];
    for (const role of ROLES) {
      for (const shape of this.contexts(role)) {
        for (const content of lists) {
          const messages = this.conversation(shape, role, (word) => word).map((message) =>
            message.role === role ? { role, content } : message,
          );
          if ((await mismatchOf(this.renderer, this.program, messages)) === null) continue;
          this.giveUp(wire.PROMPT_PART_JOIN, "contents-edited");
          return;
        }
      }
    }
  }

  /** Gives up, by random conversations, what does not hold, until all of them come out. */
  private async correct(): Promise<void> {
    let corrections = 0;
    for (let round = conversationsFor(this.program, this.context.random); round.length > 0;) {
      const messages = round.pop()!;
      if ((await mismatchOf(this.renderer, this.program, messages)) === null) continue;
      corrections += 1;
      if (corrections > CORRECTIONS_MAX || !(await this.explain(messages)))
        return this.giveUpChat("contents-edited");
      // What was right before the correction may be wrong after it.
      round = conversationsFor(this.program, this.context.random);
    }
  }

  /** Corrects the program by a conversation that does not come out. @returns false when it cannot be */
  private async explain(messages: readonly Message[]): Promise<boolean> {
    const plain = this.sentinels(messages.length).map((content, at) => ({
      role: messages[at]!.role,
      content,
    }));
    if ((await mismatchOf(this.renderer, this.program, plain)) !== null) {
      this.giveUp(leastWorth(messages.map(({ role }) => role)), "position-dependent");
      return true;
    }
    for (const [at, message] of messages.entries()) {
      const alone = plain.map((other, index) => (index === at ? message : other));
      if ((await mismatchOf(this.renderer, this.program, alone)) !== null)
        return this.explainContent(message);
    }
    return false;
  }

  private explainContent({ role, content }: Message): boolean {
    if (typeof content !== "string") {
      this.giveUp(wire.PROMPT_PART_JOIN, "contents-edited");
      return true;
    }
    const stripped = pythonStrip(content);
    if (stripped === "" && this.set(wire.PROGRAM_EDITS_EMPTY)) return true;
    if (content.includes(THINKING) && role === "assistant" && this.set(wire.PROGRAM_EDITS_THINKING))
      return true;
    if (stripped === content) return false;
    const wasTrimmed = (this.flags & trimFlag(role)) !== 0;
    this.flags &= ~trimFlag(role);
    return this.set(wire.PROGRAM_EDITS_EDGES) || wasTrimmed;
  }

  /** @returns whether the flag was not set */
  private set(flag: number): boolean {
    const isNew = (this.flags & flag) === 0;
    this.flags |= flag;
    return isNew;
  }

  private giveUpChat(reason: PromptReason): void {
    for (let index = 0; index < wire.PROMPT_COMPLETION; index++) {
      if (this.literals[index] !== null) this.giveUp(index, reason);
    }
    this.giveUp(wire.PROMPT_PART_JOIN, reason);
  }

  private async learnCompletion(): Promise<void> {
    const [word] = this.sentinels(1) as [string];
    const text = await this.renderer.completion(word);
    const gaps = text === null ? null : gapsBetween(text, [word]);
    // A tokenizer that adds a token at the end, too, has no text that a longer prompt goes on from.
    if (gaps === null || gaps[1]!.length > 0 || gaps[0]!.length > wire.PROMPT_LITERAL_BYTES_MAX) {
      this.giveUp(wire.PROMPT_COMPLETION, text === null ? "refused" : "reordered");
      return;
    }
    this.literals[wire.PROMPT_COMPLETION] = gaps[0]!;
    if (await completionsMatch(this.renderer, this.program, this.context.random)) return;
    this.giveUp(wire.PROMPT_COMPLETION, "contents-edited");
  }
}

function isText(bytes: Uint8Array): boolean {
  return Buffer.from(Buffer.from(bytes).toString()).equals(bytes);
}

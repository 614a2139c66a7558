// Learns the program of a chat template from what a server makes of conversations whose contents are known.
import * as wire from "../../assembly/wire/prompt-programs.ts";
import { completionsMatch, mismatchOf, withNoCalls } from "./check.ts";
import { correct } from "./correct.ts";
import { holdsPresent } from "./dates.ts";
import { ProgramDraft } from "./draft.ts";
import { edgesFlag, type PromptProgram, renderChat, ROLES, type Role, THINKING } from "./program.ts";
import { transitionsOf, trimFlag } from "./program.ts";
import type { PromptReason } from "./reasons.ts";
import type { Renderer } from "./render-server.ts";
import { gapsBetween } from "./sentinels.ts";
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

/** White space around a content: some templates strip newlines alone, and some all of it. */
const EDGES: readonly (readonly [before: string, behind: string])[] = [
  ["\n\n", "\n\n"],
  [" \n\t", "  \n "],
];
/** Makes contents out of a word. */
type Variants = readonly ((word: string) => string)[];
const EMPTY: Variants = [() => ""];
const THOUGHTS: Variants = [
  (word) => `<${THINKING}\n${word}\n</${THINKING}\n\n${word}`,
  (word) => `${word}</${THINKING}${word}`,
];
/**
 * Tags of other templates, at some of which one may cut: none of them ends in THINKING, so that no flag hides them. They
 * touch the words, as tokenizers may swallow white space around them.
 */
const TAGS: Variants = [
  (word) =>
    `[THINK]${word}[/THINK]◁think▷${word}◁/think▷<reasoning>${word}</reasoning>${word}<answer>${word}</answer>${word}`,
];
/** Some templates take these out of what users and operators write. */
const COMMANDS: Variants = [(word) => `/no_think ${word}`, (word) => `${word} /think`];

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
  private readonly draft: ProgramDraft;
  /** Shapes that did not come out, and why. */
  private readonly failed: { readonly roles: readonly Role[]; readonly reason: PromptReason }[] = [];

  constructor(
    private readonly renderer: Renderer,
    private readonly context: LearnContext,
  ) {
    this.draft = new ProgramDraft(context.random);
  }

  get result(): Learnt {
    const { program, unknown } = this.draft;
    const rendersChat = SIMPLEST.some((roles) => this.draft.isKnown(roles));
    const reasons = transitionsOf(SIMPLEST[0]!).map((index) => unknown.get(index));
    const reason = rendersChat ? null : (reasons.find((found) => found !== undefined) ?? "refused");
    return { program, unknown, reason };
  }

  async run(): Promise<void> {
    const { draft } = this;
    for (const roles of SHAPES) await this.learnShape(roles);
    this.giveUpContradicted();
    for (const role of ROLES) await this.learnEdges(role);
    for (const role of ROLES) {
      if (!(await this.keeps(role, EMPTY))) draft.set(wire.PROGRAM_EDITS_EMPTY);
    }
    if (!(await this.keeps("assistant", THOUGHTS))) draft.set(wire.PROGRAM_EDITS_THINKING);
    if (!(await this.keeps("assistant", TAGS))) draft.giveUpRole("assistant", "contents-edited");
    for (const role of ["system", "user"] as const) {
      const variants = [...THOUGHTS, ...COMMANDS, ...TAGS];
      if (!(await this.keeps(role, variants))) draft.giveUpRole(role, "contents-edited");
    }
    if (!(await this.keepsCalls())) draft.set(wire.PROGRAM_EDITS_CALLS);
    await this.learnJoin();
    await correct(this.renderer, draft, this.context.random);
    await this.learnCompletion();
  }

  private async learnShape(roles: readonly Role[]): Promise<void> {
    const { literals, unknown } = this.draft;
    const words = this.draft.sentinels(roles.length);
    const text = await this.renderer.chat(roles.map((role, at) => ({ role, content: words[at]! })));
    const gaps = text === null ? null : gapsBetween(text, words);
    const reason = gaps === null ? (text === null ? "refused" : "reordered") : this.adopt(roles, gaps);
    if (reason === null) return;
    this.failed.push({ roles, reason });
    for (const index of transitionsOf(roles)) {
      if (literals[index] === null && !unknown.has(index)) unknown.set(index, reason);
    }
  }

  /** @returns why the gaps are not what literals are; null = they are taken over */
  private adopt(roles: readonly Role[], gaps: readonly Uint8Array[]): PromptReason | null {
    const { draft } = this;
    const fresh = new Map<number, Uint8Array>();
    let reason: PromptReason | null = null;
    for (const [at, index] of transitionsOf(roles).entries()) {
      const gap = gaps[at]!;
      const known = draft.literals[index] ?? fresh.get(index);
      if (holdsPresent(gap, this.context.now())) {
        draft.giveUp(index, "dated");
        reason = "dated";
      } else if (gap.length > wire.PROMPT_LITERAL_BYTES_MAX) {
        draft.giveUp(index, "literal-too-long");
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
      const why = draft.unknown.get(index);
      if (why === "dated" || why === "literal-too-long") continue;
      draft.literals[index] = gap;
      draft.unknown.delete(index);
    }
    return reason;
  }

  /** What the gateway would render otherwise than the server does. */
  private giveUpContradicted(): void {
    for (;;) {
      const found = this.failed.find(
        ({ roles, reason }) => reason !== "refused" && this.draft.isKnown(roles),
      );
      if (found === undefined) return;
      this.draft.giveUp(leastWorth(found.roles), found.reason);
    }
  }

  /** Whether contents lose white space at both ends, at none, or in some other way. */
  private async learnEdges(role: Role): Promise<void> {
    const { draft } = this;
    let [kept, stripped] = [true, true];
    for (const roles of draft.contexts(role)) {
      for (const [before, behind] of EDGES) {
        const messages = draft.conversation(roles, role, (word) => before + word + behind);
        const rendered = await this.renderer.chat(messages);
        if (rendered === null) continue;
        const { flags, literals } = draft.program;
        kept &&= renderChat({ flags, literals }, messages)!.equals(rendered);
        stripped &&= renderChat({ flags: flags | trimFlag(role), literals }, messages)!.equals(rendered);
      }
    }
    if (!kept) draft.set(stripped ? trimFlag(role) : edgesFlag(role));
  }

  /** Whether contents of the role come out as they are. */
  private async keeps(role: Role, variants: Variants): Promise<boolean> {
    for (const roles of this.draft.contexts(role)) {
      for (const make of variants) {
        const messages = this.draft.conversation(roles, role, make);
        if ((await mismatchOf(this.renderer, this.draft.program, messages)) !== null) return false;
      }
    }
    return true;
  }

  /** Whether answers with an empty list of tool calls come out as those without one. */
  private async keepsCalls(): Promise<boolean> {
    const { draft } = this;
    for (const roles of draft.contexts("assistant")) {
      const messages = withNoCalls(draft.conversation(roles, null, (word) => word));
      if ((await mismatchOf(this.renderer, draft.program, messages)) !== null) return false;
    }
    return true;
  }

  /** The literal between text parts: equal for all roles, whichever white space is in them. */
  private async learnJoin(): Promise<void> {
    const { draft } = this;
    const roles = SIMPLEST.find((shape) => draft.isKnown(shape));
    if (roles === undefined) return;
    const [first, second] = draft.sentinels(2) as [string, string];
    const messages = draft.conversation(roles, "user", () => [first, second]);
    const before = messages.slice(0, -1).map(({ content }) => content as string);
    const rendered = await this.renderer.chat(messages);
    const join = rendered === null ? undefined : gapsBetween(rendered, [...before, first, second])?.at(-2);
    if (join === undefined || !isText(join) || join.length > wire.PROMPT_LITERAL_BYTES_MAX) {
      draft.giveUp(wire.PROMPT_PART_JOIN, rendered === null ? "refused" : "reordered");
      return;
    }
    draft.literals[wire.PROMPT_PART_JOIN] = join;
    const lists = [[second], [second, first, second], [` ${first}\n`, ` ${second}\n`], [second, " "]];
    for (const role of ROLES) {
      for (const shape of draft.contexts(role)) {
        for (const content of lists) {
          const parts = draft.conversation(shape, role, () => content);
          if ((await mismatchOf(this.renderer, draft.program, parts)) === null) continue;
          draft.giveUp(wire.PROMPT_PART_JOIN, "contents-edited");
          return;
        }
      }
    }
  }

  private async learnCompletion(): Promise<void> {
    const { draft } = this;
    const [word] = draft.sentinels(1) as [string];
    const text = await this.renderer.completion(word);
    const gaps = text === null ? null : gapsBetween(text, [word]);
    // A tokenizer that adds a token at the end, too, has no text that a longer prompt goes on from.
    if (gaps === null || gaps[1]!.length > 0 || gaps[0]!.length > wire.PROMPT_LITERAL_BYTES_MAX) {
      draft.giveUp(wire.PROMPT_COMPLETION, text === null ? "refused" : "reordered");
      return;
    }
    draft.literals[wire.PROMPT_COMPLETION] = gaps[0]!;
    if (await completionsMatch(this.renderer, draft.program, this.context.random)) return;
    draft.giveUp(wire.PROMPT_COMPLETION, "contents-edited");
  }
}

function isText(bytes: Uint8Array): boolean {
  return Buffer.from(Buffer.from(bytes).toString()).equals(bytes);
}

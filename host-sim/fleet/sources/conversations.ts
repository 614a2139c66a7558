// Clients that take turns: every request repeats the conversation so far and adds to it.
import type { Span } from "../types.ts";
import { ReadyQueue } from "./ready-queue.ts";
import { nominalAnswerMs, type SpanMaker, type Turn, type TurnSource } from "./turns.ts";

/** A conversation ends before its prompt would be longer than this, in tokens. */
export const CONVERSATION_TOKENS_MAX = 100_000;

/** What sets one sort of conversation apart from another. */
export interface ConversationStyle {
  /** First part of the session's name. */
  readonly name: string;
  /** What a new conversation begins with, and how many turns it will have, ≥ 1. */
  open(): { readonly spans: readonly Span[]; readonly turns: number; readonly lora?: string };
  /** What the client adds in a turn, from 0. */
  say(turn: number): readonly Span[];
  /** Length of the next answer, ≥ 1. */
  outputTokens(): number;
  /** From the end of an answer to the next turn, ms. */
  pauseMs(): number;
}

interface Conversation {
  readonly session: string;
  readonly spans: Span[];
  readonly lora?: string;
  promptTokens: number;
  turn: number;
  turnsLeft: number;
}

/**
 * Conversations of one style. An arrival is the next turn of the one that has been ready longest, or starts a
 * new one if none is: so many are open as the arrival rate needs.
 */
export class Conversations implements TurnSource {
  private readonly style: ConversationStyle;
  private readonly make: SpanMaker;
  private readonly waiting = new ReadyQueue<Conversation>();
  private started = 0;

  constructor(style: ConversationStyle, make: SpanMaker) {
    this.style = style;
    this.make = make;
  }

  next(atMs: number): Turn {
    const conversation = this.waiting.take(atMs) ?? this.start();
    for (const span of this.style.say(conversation.turn++)) add(conversation, span);
    conversation.turnsLeft--;
    const outputTokens = this.style.outputTokens();
    const spans = [...conversation.spans];
    const { session, lora } = conversation;
    const turn = { session, spans, outputTokens, ...(lora === undefined ? {} : { lora }) };
    const goesOn =
      conversation.turnsLeft > 0 && conversation.promptTokens + outputTokens < CONVERSATION_TOKENS_MAX;
    if (!goesOn) return turn;
    const answerSpan = this.make.nextId();
    add(conversation, { id: answerSpan, tokens: outputTokens, role: "assistant" });
    this.waiting.push(atMs + nominalAnswerMs(outputTokens) + this.style.pauseMs(), conversation);
    return { ...turn, answerSpan };
  }

  private start(): Conversation {
    const { spans, turns, lora } = this.style.open();
    return {
      session: `${this.style.name}-${this.started++}`,
      spans: [...spans],
      ...(lora === undefined ? {} : { lora }),
      promptTokens: spans.reduce((sum, { tokens }) => sum + tokens, 0),
      turn: 0,
      turnsLeft: turns,
    };
  }
}

function add(conversation: Conversation, span: Span): void {
  conversation.spans.push(span);
  conversation.promptTokens += span.tokens;
}

// The clients of a workload: chats, agents, readers of documents, and senders of single prompts.
import type { Random } from "./random.ts";
import { prose, toolDefinition, toolResult } from "./text.ts";

/** A chat message as sent. */
export interface Message {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

/** The next request of some session. */
export interface Turn {
  readonly session: string;
  readonly number: number;
  readonly messages: readonly Message[];
  readonly tools: readonly object[];
  readonly outputTokens: number;
  /** Tells the session what the model will answer; to be called once. */
  answered(answer: string): void;
}

/** Gives a request for each arrival. Arrival times do not decrease. */
export interface TurnSource {
  next(atMs: number): Turn;
}

/** Time to write an answer, per token, that think times start after: typical of a loaded server. */
const ANSWER_MS_PER_TOKEN = 30;

interface Session {
  readonly name: string;
  readonly messages: Message[];
  readonly tools: readonly object[];
  turns: number;
  turnsLeft: number;
  /** When its next turn is ready to be sent. */
  readyMs: number;
}

/** Sessions that take turns: an arrival goes to the one that has been ready longest, or to a new one. */
abstract class ConversationSource implements TurnSource {
  protected readonly random: Random;
  private readonly open: Session[] = [];
  private started = 0;

  constructor(random: Random) {
    this.random = random;
  }

  next(atMs: number): Turn {
    const session = this.takeReady(atMs) ?? this.start(this.started++);
    this.extend(session);
    const outputTokens = this.outputTokens();
    const messages = [...session.messages];
    const number = session.turns++;
    session.turnsLeft--;
    return {
      session: session.name,
      number,
      messages,
      tools: session.tools,
      outputTokens,
      answered: (answer) => {
        session.messages.push({ role: "assistant", content: answer });
        if (session.turnsLeft === 0) return;
        session.readyMs = atMs + outputTokens * ANSWER_MS_PER_TOKEN + this.pauseMs();
        this.open.push(session);
      },
    };
  }

  protected abstract start(number: number): Session;
  /** Adds what the client says in this turn. */
  protected abstract extend(session: Session): void;
  protected abstract outputTokens(): number;
  protected abstract pauseMs(): number;

  private takeReady(atMs: number): Session | undefined {
    let first = -1;
    this.open.forEach((session, i) => {
      if (session.readyMs <= atMs && (first < 0 || session.readyMs < this.open[first]!.readyMs)) first = i;
    });
    return first < 0 ? undefined : this.open.splice(first, 1)[0];
  }
}

/** People who chat. Some were at it before the load began: their first turn brings a history. */
export class ChatSource extends ConversationSource {
  private static readonly APPS = 4;
  private readonly systemPrompts: readonly string[];

  constructor(random: Random) {
    super(random);
    this.systemPrompts = Array.from({ length: ChatSource.APPS }, () =>
      prose(random, random.integer(300, 900)),
    );
  }

  protected start(number: number): Session {
    const messages: Message[] = [{ role: "system", content: this.random.pick(this.systemPrompts) }];
    for (let earlier = this.random.integer(0, 8); earlier > 0; earlier--) {
      messages.push({ role: "user", content: this.userText() });
      messages.push({ role: "assistant", content: prose(this.random, this.outputTokens()) });
    }
    const turnsLeft = this.random.integer(3, 12);
    return { name: `chat-${number}`, messages, tools: [], turns: 0, turnsLeft, readyMs: 0 };
  }

  protected extend(session: Session): void {
    session.messages.push({ role: "user", content: this.userText() });
  }

  protected outputTokens(): number {
    return this.random.logNormal(150, 0.5, 20, 400);
  }

  // Half a minute is usual; a load of half a minute needs faster readers to see second and third turns.
  protected pauseMs(): number {
    return 1000 + this.random.exponential(2000);
  }

  // One message in four brings something pasted in.
  private userText(): string {
    const pasted = this.random.uniform() < 0.25;
    return prose(
      this.random,
      pasted ? this.random.logNormal(700, 0.5, 200, 2500) : this.random.integer(15, 120),
    );
  }
}

/** Agents: a long system prompt and tools, shared by all tasks of one kind, then calls and their results. */
export class AgentSource extends ConversationSource {
  private static readonly KINDS = 6;
  private readonly kinds: readonly { systemPrompt: string; tools: readonly object[] }[];

  constructor(random: Random) {
    super(random);
    this.kinds = Array.from({ length: AgentSource.KINDS }, () => ({
      systemPrompt: prose(random, random.integer(1500, 4000)),
      tools: Array.from({ length: random.integer(6, 16) }, () => toolDefinition(random)),
    }));
  }

  protected start(number: number): Session {
    const { systemPrompt, tools } = this.random.pick(this.kinds);
    const messages: Message[] = [{ role: "system", content: systemPrompt }];
    const turnsLeft = this.random.integer(2, 8);
    return { name: `agent-${number}`, messages, tools, turns: 0, turnsLeft, readyMs: 0 };
  }

  protected extend(session: Session): void {
    if (session.turns === 0) {
      session.messages.push({ role: "user", content: prose(this.random, this.random.integer(80, 400)) });
    } else {
      const content = toolResult(this.random, this.random.logNormal(350, 0.6, 60, 2000));
      session.messages.push({ role: "tool", content });
    }
  }

  protected outputTokens(): number {
    return this.random.logNormal(70, 0.5, 16, 250);
  }

  protected pauseMs(): number {
    return 200 + this.random.exponential(800);
  }
}

/** Questions about documents that others ask about too; popular ones more often. */
export class DocumentSource implements TurnSource {
  private static readonly DOCUMENTS = 24;
  private readonly random: Random;
  private readonly documents: readonly string[];
  private readonly questions: number[];

  constructor(random: Random) {
    this.random = random;
    this.documents = Array.from({ length: DocumentSource.DOCUMENTS }, () => {
      return prose(random, random.logNormal(9000, 0.45, 3000, 24_000));
    });
    this.questions = this.documents.map(() => 0);
  }

  next(): Turn {
    const index = this.random.zipf(this.documents.length);
    const number = this.questions[index]!;
    this.questions[index] = number + 1;
    const system = "Answer from the document alone. Quote the passage that you rely on.";
    const question = prose(this.random, this.random.integer(15, 60));
    return {
      session: `document-${index}`,
      number,
      messages: [
        { role: "system", content: system },
        { role: "user", content: `${this.documents[index]!}\n\n${question}` },
      ],
      tools: [],
      outputTokens: this.random.logNormal(120, 0.5, 20, 350),
      answered: () => undefined,
    };
  }
}

/** Prompts that nobody repeats. */
export class OneOffSource implements TurnSource {
  private readonly random: Random;
  private sent = 0;

  constructor(random: Random) {
    this.random = random;
  }

  next(): Turn {
    const content = prose(this.random, this.random.logNormal(900, 0.9, 60, 8000));
    return {
      session: `one-off-${this.sent++}`,
      number: 0,
      messages: [{ role: "user", content }],
      tools: [],
      outputTokens: this.random.logNormal(150, 0.6, 16, 400),
      answered: () => undefined,
    };
  }
}

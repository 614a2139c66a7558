// Request bodies of given sizes: conversations and long documents, as chat clients send them.
import { seededRandom } from "./random.ts";

/** Sizes that the targets name, by label: bytes of body, conversations in the pool, bytes of shared system prompt. */
export const SIZES = {
  "1 KB": { bytes: 1_024, conversations: 2_048, systemBytes: 380 },
  "20 KB": { bytes: 20_480, conversations: 512, systemBytes: 4_096 },
  "220 KB": { bytes: 225_280, conversations: 64, systemBytes: 4_096 },
} as const;
export type SizeName = keyof typeof SIZES;

/** The size at which disaggregation is measured: a prompt that is worth another endpoint's time. */
const LONG = { "100 KB": { bytes: 102_400, conversations: 128, systemBytes: 4_096 } } as const;
/** Any size that bodies can be made of. */
export type BodySize = SizeName | keyof typeof LONG;

export const MODEL = "meta-llama/Llama-3.1-8B-Instruct";
const SEED = 20_240_607;
/** System prompts, each shared by an equal share of the conversations. */
const SYSTEM_PROMPTS = 8;
/** Length of one message of a conversation; a document is one message. */
const MESSAGE_BYTES = 900;
const DOCUMENT_FROM_BYTES = 100_000;
/** Digits at the start of the last message, rewritten for every request: no two requests are the same. */
const TURN_DIGITS = 10;
const TURN_MARK = "0123456789";

/** A body whose last message can be made new. */
export interface Body {
  readonly bytes: Buffer;
  /** Offset of the digits. */
  readonly turnAt: number;
}

/** Writes `turn` as the start of the last message: the prefix before it stays, the rest is a new prompt. */
export function setTurn(bytes: Buffer, turnAt: number, turn: number): void {
  let rest = turn;
  for (let i = TURN_DIGITS - 1; i >= 0; i--) {
    bytes[turnAt + i] = 48 + (rest % 10);
    rest = Math.floor(rest / 10);
  }
}

/** The pool of a size: bodies of that many bytes to within some, UTF-8, compact JSON, "messages" first. */
export function makeBodies(size: BodySize, stream = false): Body[] {
  const { bytes, conversations, systemBytes } = { ...SIZES, ...LONG }[size];
  const random = seededRandom(SEED);
  const systems = Array.from({ length: SYSTEM_PROMPTS }, () => prose(random, systemBytes));
  return Array.from({ length: conversations }, (_, index) => {
    const messages = [{ role: "system", content: systems[index % SYSTEM_PROMPTS]! }];
    const overhead = Buffer.byteLength(render(messages, stream)) + lastMessageBytes(bytes) + 80;
    fill(messages, random, bytes - overhead);
    messages.push({ role: "user", content: `${TURN_MARK} ${prose(random, lastMessageBytes(bytes))}` });
    const body = Buffer.from(render(messages, stream));
    return { bytes: body, turnAt: body.indexOf(TURN_MARK) };
  });
}

function lastMessageBytes(bytes: number): number {
  return Math.min(2_000, Math.round(bytes / 6));
}

/** Earlier turns of a conversation, or one document and the first answer about it. */
function fill(messages: { role: string; content: string }[], random: () => number, bytes: number): void {
  let left = bytes;
  for (let turn = 0; left > 120; turn++) {
    const wanted = bytes > DOCUMENT_FROM_BYTES && turn === 0 ? bytes - MESSAGE_BYTES : MESSAGE_BYTES;
    const content = prose(random, Math.min(wanted, left - 60));
    messages.push({ role: turn % 2 === 0 ? "user" : "assistant", content });
    left -= Buffer.byteLength(JSON.stringify(content)) + 32;
  }
}

function render(messages: readonly object[], stream: boolean): string {
  const rest = { model: MODEL, temperature: 0.7, max_tokens: 256, stream };
  return JSON.stringify({ messages, ...rest });
}

const WORDS = (
  "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which " +
  "one you were all her she there would their we him been has when who will no more if out so up said what its " +
  "about than into them can only other time new some could these two may first then do any like my now over such " +
  "our man me even most made after also did many off before must well back through years where much your way down " +
  "should because long each just those people mister how too little state good very make world still see own work " +
  "men day get here old between both life being under three never know same last another while us might great year " +
  "service request deployment replica cluster latency throughput customer invoice payment contract délai naïve"
).split(" ");

/** Text of about `bytes` bytes: sentences, paragraphs, here and there a quotation, a list or a line of code. */
function prose(random: () => number, bytes: number): string {
  const pieces: string[] = [];
  let length = 0;
  while (length < bytes) {
    const words = Array.from({ length: 5 + Math.floor(random() * 14) }, () => word(random));
    const chance = random();
    let sentence = `${words.join(" ")}. `;
    if (chance < 0.08) sentence = `"${words.join(" ")}," ${word(random)} ${word(random)}.\n\n`;
    else if (chance < 0.12) sentence = `\n- ${words.join(" ")}\n`;
    else if (chance < 0.14)
      sentence = `\n\`\`\`\nconst ${words[0]} = { "${words[1]}": [${words.length}] };\n\`\`\`\n`;
    pieces.push(sentence);
    length += sentence.length;
  }
  return pieces.join("").slice(0, Math.max(0, bytes));
}

function word(random: () => number): string {
  return WORDS[Math.floor(random() * WORDS.length)]!;
}

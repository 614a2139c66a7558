// Writes prose, code and JSON of a wanted length for prompts.
import { WORDS } from "../model-server/lexicon.ts";
import type { Random } from "./random.ts";

/** Tokens that a generated word costs on average, its punctuation included (measured over 100,000 words). */
const TOKENS_PER_WORD = 1.42;

const ACCENTED = ["café", "naïve", "Zürich", "São Paulo", "señor", "übung", "façade"];

/** Prose of about `tokens` tokens: sentences, paragraphs, now and then a number, a name or an identifier. */
export function prose(random: Random, tokens: number): string {
  const words = Math.max(1, Math.round(tokens / TOKENS_PER_WORD));
  const parts: string[] = [];
  let sentenceLeft = 0;
  let sentencesLeft = random.integer(3, 7);
  for (let i = 0; i < words; i++) {
    let word = proseWord(random);
    if (sentenceLeft === 0) {
      if (i > 0) parts.push(sentencesLeft-- > 0 ? ". " : ".\n\n");
      if (sentencesLeft < 0) sentencesLeft = random.integer(3, 7);
      word = word[0]!.toUpperCase() + word.slice(1);
      sentenceLeft = random.integer(6, 22);
    } else {
      parts.push(random.uniform() < 0.06 ? ", " : " ");
    }
    parts.push(word);
    sentenceLeft--;
  }
  parts.push(".");
  return parts.join("");
}

function proseWord(random: Random): string {
  const kind = random.uniform();
  if (kind < 0.86) return random.pick(WORDS);
  if (kind < 0.92) return `${random.pick(WORDS)}${random.pick(["s", "ed", "ing", "ly", "able", "ation"])}`;
  if (kind < 0.96) return identifier(random);
  if (kind < 0.995) return String(random.integer(1, 100_000));
  return random.pick(ACCENTED);
}

/** A name as code has them. */
export function identifier(random: Random): string {
  return `${random.pick(WORDS)}_${random.pick(WORDS)}`;
}

/** A tool definition in OpenAI's form, about 120 to 250 tokens long. */
export function toolDefinition(random: Random): object {
  const properties: Record<string, object> = {};
  const names: string[] = [];
  for (let i = random.integer(2, 5); i > 0; i--) {
    const name = identifier(random);
    names.push(name);
    properties[name] = {
      type: random.pick(["string", "integer", "boolean"]),
      description: prose(random, 14),
    };
  }
  const parameters = { type: "object", properties, required: names.slice(0, 2) };
  return {
    type: "function",
    function: { name: identifier(random), description: prose(random, 30), parameters },
  };
}

/** Tokens of one record of a tool's result on average. */
const TOKENS_PER_RECORD = 39;

/** A tool's result: JSON records, about `tokens` tokens long. */
export function toolResult(random: Random, tokens: number): string {
  const records: object[] = [];
  for (let left = tokens; left > 0; left -= TOKENS_PER_RECORD) {
    records.push({
      id: random.integer(1, 1_000_000),
      [identifier(random)]: random.pick(WORDS),
      status: random.pick(["open", "closed", "pending"]),
      note: prose(random, 10),
    });
  }
  return JSON.stringify(records);
}

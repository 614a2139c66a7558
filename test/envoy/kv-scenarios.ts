// Requests of which the engines hold a part, asked through a gateway: each is judged by what the engine says of it.
import type { Random } from "../../host-sim/workload/random.ts";
import type { Reply } from "./clients.ts";
import { judge, type Judgement } from "./kv-judge.ts";
import { Chat, LANGUAGES, type Message, prose, question } from "./kv-texts.ts";
import { CHAT_PATH } from "./support.ts";

/** A gateway before some engines. */
export interface KvSetting {
  readonly model: string;
  readonly random: Random;
  /** Most tokens of an answer. */
  readonly answerTokensMax: number;
  /** Length of prompts, 1 = some thousands of bytes. */
  readonly scale: number;
  post(path: string, body: object): Promise<Reply>;
  /** Waits until every worker of the gateway knows what every engine holds. */
  settled(): Promise<void>;
}

type Fields = Readonly<Record<string, unknown>>;

/** One request, once everything is known, and what came of it. */
async function ask(
  setting: KvSetting,
  scenario: string,
  path: string,
  body: object,
): Promise<{ judgement: Judgement; content: string }> {
  const limit = setting.random.integer(1, setting.answerTokensMax);
  const reply = await setting.post(path, {
    model: setting.model,
    max_tokens: limit,
    temperature: 0,
    ...body,
  });
  const judgement = judge(scenario, reply);
  const [choice] = (JSON.parse(reply.text) as { choices: { message?: { content: string } }[] }).choices;
  return { judgement, content: choice?.message?.content ?? "" };
}

async function asked(
  setting: KvSetting,
  scenario: string,
  messages: readonly Message[],
  fields: Fields = {},
): Promise<Judgement> {
  await setting.settled();
  return (await ask(setting, scenario, CHAT_PATH, { messages, ...fields })).judgement;
}

/** A chat in each language, `turns` questions each; all that take a turn are asked at once. */
export async function chats(
  setting: KvSetting,
  turns: number,
  languages: readonly string[] = LANGUAGES,
  fields: Fields = {},
): Promise<Judgement[]> {
  const { random, scale } = setting;
  const system = prose(random, 600 * scale);
  const open = languages.map((language, index) => ({
    language,
    chat: new Chat(random.fork(), scale, language, index % 3 === 0 ? "" : system),
  }));
  const judgements: Judgement[] = [];
  for (let turn = 1; turn <= turns; turn++) {
    await setting.settled();
    const replies = await Promise.all(
      open.map(async ({ language, chat }) => {
        const scenario = `${language} turn ${turn}`;
        const reply = await ask(setting, scenario, CHAT_PATH, { messages: chat.ask(), ...fields });
        chat.answer(reply.content);
        return reply.judgement;
      }),
    );
    // Chats that begin together share a system prompt that nobody has yet.
    if (turn > 1) judgements.push(...replies);
  }
  return judgements;
}

/** Questions about a few documents, one after the other. */
export async function documents(setting: KvSetting, questions: number): Promise<Judgement[]> {
  const { random, scale } = setting;
  const library = Array.from({ length: 4 }, () => prose(random, random.integer(800, 4_000) * scale));
  const judgements: Judgement[] = [];
  for (let i = 0; i < questions; i++) {
    const language = random.pick(LANGUAGES);
    judgements.push(await asked(setting, `document ${i} ${language}`, question(random, library, language)));
  }
  return judgements;
}

/** Text completions that continue each other. */
export async function completions(setting: KvSetting, count: number): Promise<Judgement[]> {
  const { random, scale } = setting;
  const judgements: Judgement[] = [];
  let prompt = prose(random, 700 * scale);
  for (let i = 0; i < count; i++) {
    await setting.settled();
    const { judgement } = await ask(setting, `completion ${i}`, "/v1/completions", { prompt });
    judgements.push(judgement);
    prompt += ` ${prose(random, random.integer(1, 500) * scale)}`;
  }
  return judgements;
}

/** The same conversation under every adapter, with and without salts: each has a cache of its own. */
export async function roots(
  setting: KvSetting,
  models: readonly string[],
  rounds: number,
): Promise<Judgement[]> {
  const { random, scale } = setting;
  const messages: Message[] = [{ role: "user", content: prose(random, 1_500 * scale) }];
  const judgements: Judgement[] = [];
  for (let round = 0; round < rounds; round++) {
    for (const model of models) {
      for (const salt of [{}, { cache_salt: "tenant-a" }, { cache_salt: "Mandant-ä😀" }]) {
        const scenario = `round ${round} ${model} ${JSON.stringify(salt)}`;
        judgements.push(await asked(setting, scenario, messages, { model, ...salt }));
      }
    }
    messages.push({ role: "assistant", content: prose(random, 300 * scale) });
    messages.push({ role: "user", content: prose(random, 200 * scale) });
  }
  return judgements;
}

/** Texts whose beginnings are asked again and again. */
export function library({ random, scale }: KvSetting, count: number): readonly string[] {
  return Array.from({ length: count }, () => prose(random, 6_000 * scale));
}

/** Beginnings of texts of few, in random order: where they are more than an engine holds, old ones are evicted. */
export async function repeats(
  setting: KvSetting,
  count: number,
  texts: readonly string[],
): Promise<Judgement[]> {
  const { random } = setting;
  const judgements: Judgement[] = [];
  for (let i = 0; i < count; i++) {
    const text = random.pick(texts);
    // Not through the middle of a character: real servers refuse half of one.
    const content = text
      .slice(0, random.integer(text.length >> 2, text.length))
      .replace(/[\ud800-\udbff]$/, "");
    judgements.push(await asked(setting, `repeat ${i}`, [{ role: "user", content }]));
  }
  return judgements;
}

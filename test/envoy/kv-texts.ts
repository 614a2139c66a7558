// Chats and questions about documents in many scripts, with emoji, code and JSON: prompts that share beginnings.
import type { Random } from "../../host-sim/workload/random.ts";

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** Sentences by language. Some characters are one token of many bytes, some several tokens of one. */
const SENTENCES: Readonly<Record<string, readonly string[]>> = {
  english: [
    "The gateway compares what every replica already holds before it chooses one.",
    "Don't forget: it's the prefix that counts, isn't it?",
    "Ship 1,250 units by 03/14, at $19.99 each (excluding VAT).",
    "We'll call back as soon as they've answered; nobody's waiting .",
  ],
  german: [
    "Für größere Aufträge müssen wir außerdem die Straßenmaße prüfen.",
    "Die Übergabe erfolgt spätestens am 24. Dezember gegen 18:30 Uhr.",
    "Wer zuerst kommt, mahlt zuerst – so heißt es wenigstens.",
  ],
  french: [
    "L’hiver dernier, nous avons dîné près de la forêt ; c’était très agréable !",
    "Où est passée la clé qu’on avait laissée là-bas ?",
    "Ça coûte 12,50 € pièce, livraison comprise.",
  ],
  russian: [
    "Сервер хранит начало разговора, чтобы не вычислять его заново.",
    "Сколько стоит доставка в Новосибирск, и когда её ждать?",
    "Ёжик нёс в лес 37 яблок и один гриб.",
  ],
  japanese: [
    "東京の天気は晴れ、最高気温は二十八度です。",
    "この文章を短く要約してください。",
    "ｶﾀｶﾅ と ひらがな、全角１２３も混ぜておきます。",
  ],
  chinese: [
    "缓存命中可以减少首个词元的延迟。",
    "请把下面的合同翻译成英文，并列出风险。",
    "订单编号：〇八一五，共计三千元整。",
  ],
  korean: [
    "이전 대화를 다시 계산하지 않아도 됩니다.",
    "내일 오후 세 시에 회의실에서 만나요!",
    "가격은 12,000원이며 배송비는 별도입니다.",
  ],
  arabic: [
    "تحتفظ الخوادم ببداية المحادثة كي لا تحسبها مرة أخرى.",
    "كم تكلفة الشحن إلى القاهرة؟",
    "السعر ١٢٫٥ دينار فقط.",
  ],
  hindi: ["सर्वर बातचीत की शुरुआत को याद रखता है।", "कृपया इस अनुबंध का सारांश दीजिए।", "कुल मूल्य ₹१२,५०० है।"],
  thai: ["เซิร์ฟเวอร์จำจุดเริ่มต้นของบทสนทนาไว้", "ค่าจัดส่งไปเชียงใหม่เท่าไร"],
  emoji: ["Great job 👍🏽! 👩‍👩‍👧‍👦 🇩🇪🇯🇵 ❤️‍🔥", "🧑🏿‍🚀🚀✨ → 🪐… 100% 😀😃😄", "¯\\_(ツ)_/¯ ﷽ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ｆｕｌｌ"],
  code: [
    'if (x != null) {\n    return y[i++] ?? "";\n}\t// done\r\n',
    "SELECT id, name FROM users WHERE age >= 18 AND name LIKE 'O''Brien%';\n\n",
    '{"id":17,"tags":["a","b"],"n":-1.5e3,"ok":true}',
  ],
};

export const LANGUAGES = Object.keys(SENTENCES);

/** Text of at least so many bytes; `language` undefined = sentence by sentence another one. */
export function prose(random: Random, bytes: number, language?: string): string {
  let text = "";
  while (Buffer.byteLength(text) < bytes) {
    const sentence = random.pick(SENTENCES[language ?? random.pick(LANGUAGES)]!);
    text += `${text === "" ? "" : random.pick([" ", " ", "\n", "\n\n"])}${sentence}`;
    if (random.uniform() < 0.3) text += ` #${random.integer(0, 99_999)}`;
  }
  return text;
}

/** A conversation that grows by a question and its answer a turn. */
export class Chat {
  readonly messages: Message[] = [];

  constructor(
    private readonly random: Random,
    private readonly scale: number,
    private readonly language: string,
    system: string,
  ) {
    if (system !== "") this.messages.push({ role: "system", content: system });
  }

  /** Adds the next question. */
  ask(): readonly Message[] {
    const bytes = this.random.integer(20, 700) * this.scale;
    this.messages.push({ role: "user", content: prose(this.random, bytes, this.language) });
    return [...this.messages];
  }

  /** Adds what was answered. */
  answer(content: string): void {
    this.messages.push({ role: "assistant", content });
  }
}

/** A question about some documents of few, in an order of its own: prompts agree up to where orders differ. */
export function question(random: Random, documents: readonly string[], language: string): readonly Message[] {
  const chosen = [random.pick(documents), random.pick(documents)];
  const content = [...chosen, prose(random, 40, language)].join("\n---\n");
  return [
    { role: "system", content: "Answer from the documents alone." },
    { role: "user", content },
  ];
}

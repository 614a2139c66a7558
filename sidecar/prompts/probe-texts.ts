// Contents of the conversations with which a learnt program is checked: what users write, and what templates stumble on.
import type { Message, Role } from "./program.ts";
import { transitionsOf } from "./program.ts";

/** Texts in Unicode's composed form: what tokenizers that compose make of other forms is not the template's doing. */
const WORDS: readonly string[] = [
  ..."the router compares prefix caches of replicas before it picks one".split(" "),
  ..."über größere Straßen naïve café señor piñata Łódź žluťoučký kůň".split(" "),
  ..."быстрая лиса перепрыгивает через ленивую собаку".split(" "),
  ..."这是一个 测试。 日本語の 文章です、 한국어 문장입니다 ภาษาไทย".split(" "),
  ..."مرحبا بالعالم שלום עולם नमस्ते दुनिया γειά σου κόσμε".split(" "),
  ..."😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️ 1️⃣ 𝒳 ∑≠∞ €100 ½ “quoted” — … №5 don't l'été x² 12345 3.14159 a_b-c/d".split(" "),
];
const LINES: readonly string[] = [
  "def f(x):\n    return {\"a\": [x, None], 'b': x ** 2}",
  '{"name": "tool", "arguments": {"q": "a \\"b\\"\\n"}}',
  "<xml attribute='1'>&amp; <b>bold</b></xml>",
  "| a | b |\n|---|---|\n| 1 | 2 |",
  "# Title\n\n- one\n- two\n\n\n```js\nconst a = b ?? `x`;\n```",
  "{{ messages }} {% if x %} {# note #} %}",
  "first\r\nsecond\r\n\r\nthird\tcolumn",
  "https://example.com/?q=1&r=%20#top \\n \\u0041",
  "<answer>this</answer> [THINK]or[/THINK] <response>that</response>",
  "Question: what?\nAnswer: this.\n\nUser: no\nAssistant: yes\nSystem: maybe",
];
/** What tokenizers and templates of common models mean something by. */
const SPECIALS: readonly string[] = [
  ...[
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|begin_of_text|>",
  ],
  ...["<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"],
  ...["<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<｜User｜>", "<｜Assistant｜>", "<|pad|>"],
];
/** White space that Python and JavaScript agree on. */
const EDGES: readonly string[] = [" ", "\n", "  ", "\n\n", "\t", " \n ", "\r\n", "\u00a0", "\u3000"];
const THOUGHTS: readonly string[] = [
  "<think>\nhm\n</think>\n\nSo.",
  "<think></think>So.",
  "hm</think>So.",
  "<think>hm",
  "/no_think So.",
  "So. /think",
];

const WORDS_MAX = 40;
const LONG_WORDS = 250;

/** What is peculiar about a content; each is a reason for which a template may change it. */
export const PECULIARITIES = ["plain", "edges", "empty", "thinking", "special", "parts", "long"] as const;
export type Peculiarity = (typeof PECULIARITIES)[number];

/** Makes contents and conversations out of a source of chance. */
export class ProbeTexts {
  /** @param random 0 ≤ x < 1 */
  constructor(private readonly random: () => number) {}

  /** A content of one peculiarity. */
  content(peculiarity: Peculiarity): string | readonly string[] {
    switch (peculiarity) {
      case "plain":
        return this.text(1 + this.below(WORDS_MAX));
      case "edges":
        return this.pick(EDGES) + this.text(3) + this.pick(EDGES);
      case "empty":
        return this.below(2) === 0 ? "" : this.pick(EDGES);
      case "thinking":
        return this.pick(THOUGHTS);
      case "special":
        return `${this.text(2)} ${this.pick(SPECIALS)} ${this.text(2)}${this.pick(SPECIALS)}${this.text(1)}`;
      case "parts":
        return Array.from({ length: 1 + this.below(3) }, () => this.text(2));
      case "long":
        return this.text(LONG_WORDS);
    }
  }

  /** A conversation of these roles, most of its contents plain. */
  conversation(roles: readonly Role[], peculiarities: readonly Peculiarity[] = PECULIARITIES): Message[] {
    return roles.map((role) => {
      const peculiarity = this.below(2) === 0 ? "plain" : this.pick(peculiarities);
      return { role, content: this.content(peculiarity) };
    });
  }

  private text(words: number): string {
    const pieces: string[] = [];
    for (let word = 0; word < words; word++) {
      pieces.push(this.below(12) === 0 ? this.pick(LINES) : this.pick(WORDS));
    }
    return pieces.join(this.below(8) === 0 ? "\n" : " ");
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  private below(limit: number): number {
    return Math.floor(this.random() * limit);
  }
}

/**
 * Roles of every conversation of at most `lengthMax` messages whose transitions are all known.
 * @param known indices of literals
 * @param lengthMax there are less than 3^(lengthMax + 1) / 2 of them
 */
export function walks(known: ReadonlySet<number>, lengthMax: number): (readonly Role[])[] {
  const whole: (readonly Role[])[] = [];
  let open: (readonly Role[])[] = [[]];
  for (let length = 1; length <= lengthMax; length++) {
    open = open.flatMap((roles) =>
      (["system", "user", "assistant"] as const).map((role) => [...roles, role]),
    );
    // All transitions but the last one, to the end.
    open = open.filter((roles) =>
      transitionsOf(roles)
        .slice(0, -1)
        .every((index) => known.has(index)),
    );
    for (const roles of open) if (known.has(transitionsOf(roles).at(-1)!)) whole.push(roles);
  }
  return whole;
}

// Chat templates in the shapes of those that well-known models ship, written anew in TypeScript.
import type { Message } from "../../sidecar/prompts/program.ts";
import type { Renderer } from "../../sidecar/prompts/render-server.ts";

/** A message whose content is one text, as most templates want it. */
export interface Turn {
  readonly role: string;
  readonly content: string;
}

/** The text of a conversation with the opening of the assistant's turn. Throws where a template raises an exception. */
export type Template = (turns: readonly Turn[]) => string;

/** Renders by a template and counts what it is asked. */
export class TemplateRenderer implements Renderer {
  asked = 0;

  /**
   * @param join between text parts; null = lists are refused
   * @param bos the tokenizer's own start of a text prompt
   * @param callsReplaceText an answer with tool calls has no text, though there be none of them (DeepSeek V3 on SGLang)
   */
  constructor(
    public template: Template,
    private readonly join: string | null = "\n",
    private readonly bos = "",
    private readonly callsReplaceText = false,
  ) {}

  async chat(messages: readonly Message[]): Promise<Uint8Array | null> {
    this.asked += 1;
    try {
      return Buffer.from(this.template(messages.map((message) => this.turn(message))));
    } catch (error) {
      if (error instanceof TemplateError) return null;
      throw error;
    }
  }

  async completion(prompt: string): Promise<Uint8Array | null> {
    this.asked += 1;
    return Buffer.from(this.bos + prompt);
  }

  /** @param hasNoCalls the message has an empty list of tool calls, which most engines and templates leave out */
  private turn({ role, content, hasNoCalls = false }: Message): Turn {
    if (hasNoCalls && this.callsReplaceText) return { role, content: "" };
    if (typeof content === "string") return { role, content };
    if (this.join === null) throw new TemplateError("content is a list");
    // As vLLM joins the parts that are not empty.
    return { role, content: content.filter((text) => text !== "").join(this.join) };
  }
}

/** What raise_exception throws. */
export class TemplateError extends Error {}

function alternating(turns: readonly Turn[]): void {
  turns.forEach(({ role }, at) => {
    if (role !== (at % 2 === 0 ? "user" : "assistant")) throw new TemplateError("roles must alternate");
  });
}

/** The system message, if it is the first, and the rest. */
function split(turns: readonly Turn[]): [system: string | null, rest: readonly Turn[]] {
  const [first] = turns;
  return first?.role === "system" ? [first.content, turns.slice(1)] : [null, turns];
}

const chatml: Template = (turns) =>
  `${turns.map(({ role, content }) => `<|im_start|>${role}\n${content}<|im_end|>\n`).join("")}<|im_start|>assistant\n`;

/** A default system prompt where the conversation has none. */
const qwen25: Template = (turns) => {
  const start =
    turns[0]!.role === "system" ? "" : "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n";
  return start + chatml(turns);
};

/** Thoughts of turns before the last question are left out; an answer behind it gets empty ones. */
const qwen3: Template = (turns) => {
  const lastUser = turns.findLastIndex(({ role }) => role === "user");
  const text = turns.map(({ role, content }, at) => {
    if (role !== "assistant") return `<|im_start|>${role}\n${content}<|im_end|>\n`;
    const [thought, answer] = content.includes("</think>")
      ? [content.split("</think>")[0]!, content.split("</think>").at(-1)!.replace(/^\n+/, "")]
      : ["", content];
    const reasoning = thought.split("<think>").at(-1)!.trim();
    const shown =
      at > lastUser && (at === turns.length - 1 || reasoning !== "")
        ? `<think>\n${reasoning}\n</think>\n\n${answer.replace(/^\n+/, "")}`
        : answer;
    return `<|im_start|>assistant\n${shown}<|im_end|>\n`;
  });
  return `${text.join("")}<|im_start|>assistant\n`;
};

/** Date lines in a system turn that is always there; contents are trimmed. */
const llama31 =
  (today: () => string): Template =>
  (turns) => {
    const [system, rest] = split(turns);
    const turn = (role: string, text: string): string =>
      `<|start_header_id|>${role}<|end_header_id|>\n\n${text}<|eot_id|>`;
    const dates = `Cutting Knowledge Date: December 2023\nToday Date: ${today()}\n\n`;
    return [
      "<|begin_of_text|>",
      turn("system", dates + (system ?? "").trim()),
      ...rest.map(({ role, content }) => turn(role, content.trim())),
      "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ].join("");
  };

/** The system prompt goes into the last question. */
const mistral: Template = (turns) => {
  const [system, rest] = split(turns);
  alternating(rest);
  const text = rest.map(({ role, content }, at) => {
    if (role === "assistant") return ` ${content}</s>`;
    const before = at === rest.length - 1 && system !== null ? `${system}\n\n` : "";
    return `[INST] ${before}${content}[/INST]`;
  });
  return `<s>${text.join("")}`;
};

/** The system prompt goes into the first question, whose ends alone are trimmed. */
const llama2: Template = (turns) => {
  const [system, rest] = split(turns);
  alternating(rest);
  const text = rest.map(({ role, content }, at) => {
    if (role === "assistant") return ` ${content.trim()} </s>`;
    const whole = at === 0 && system !== null ? `<<SYS>>\n${system}\n<</SYS>>\n\n${content}` : content;
    return `<s>[INST] ${whole.trim()} [/INST]`;
  });
  return text.join("");
};

/** No system role; answers are the model's. */
const gemma: Template = (turns) => {
  if (turns[0]!.role === "system") throw new TemplateError("System role not supported");
  alternating(turns);
  const text = turns.map(({ role, content }) => {
    return `<start_of_turn>${role === "assistant" ? "model" : role}\n${content.trim()}<end_of_turn>\n`;
  });
  return `<bos>${text.join("")}<start_of_turn>model\n`;
};

/** The system prompt stands before the first question, as it is. */
const gemma3: Template = (turns) => {
  const [system, rest] = split(turns);
  alternating(rest);
  const text = rest.map(({ role, content }, at) => {
    const before = at === 0 && system !== null ? `${system}\n\n` : "";
    return `<start_of_turn>${role === "assistant" ? "model" : role}\n${before}${content.trim()}<end_of_turn>\n`;
  });
  return `<bos>${text.join("")}<start_of_turn>model\n`;
};

/** System prompts are gathered at the start; thoughts are left out of answers. */
const deepseekR1: Template = (turns) => {
  const system = turns.filter(({ role }) => role === "system").map(({ content }) => content);
  const text = turns.map(({ role, content }) => {
    if (role === "user") return `<｜User｜>${content}`;
    if (role === "system") return "";
    const answer = content.includes("</think>") ? content.split("</think>").at(-1)! : content;
    return `<｜Assistant｜>${answer}<｜end▁of▁sentence｜>`;
  });
  return `<｜begin▁of▁sentence｜>${system.join("")}${text.join("")}<｜Assistant｜><think>\n`;
};

/** The tokenizer swallows white space behind special tokens, and so at the start of contents. */
const phi3: Template = (turns) => {
  const text = turns.map(({ role, content }) => `<|${role}|>\n${content}<|end|>\n`);
  return `${text.join("")}<|assistant|>\n`.replace(/(<\|(?:system|user|assistant|end)\|>)\s+/g, "$1");
};

/** Of an answer in its own tags nothing else is shown, thoughts or not (Hunyuan). */
const tagged: Template = (turns) =>
  chatml(
    turns.map(({ role, content }) => {
      const inside = /<answer>(.*)<\/answer>/s.exec(content)?.[1] ?? content;
      return { role, content: role === "assistant" ? inside.trim() : content };
    }),
  );

/** Each turn is numbered. */
const numbered: Template = (turns) =>
  `${turns.map(({ role, content }, at) => `${at + 1}. ${role}: ${content}\n`).join("")}assistant:`;

/** Blank lines are taken out of contents. */
const falcon: Template = (turns) => {
  const clean = (text: string): string => text.trim().replaceAll("\r\n", "\n").replaceAll("\n\n", "\n");
  return `${turns.map(({ role, content }) => `${role}: ${clean(content)}\n\n`).join("")}assistant:`;
};

/** Answers before the last message lose thoughts and the newlines that they begin with. */
const qwq: Template = (turns) =>
  chatml(
    turns.map(({ role, content }, at) => {
      const isOld = role === "assistant" && at < turns.length - 1;
      return { role, content: isOld ? content.split("</think>").at(-1)!.replace(/^\n+/, "") : content };
    }),
  );

/** A system prompt may say whether to think, which is taken out of it. */
const smollm3: Template = (turns) =>
  chatml(
    turns.map(({ role, content }) => {
      return { role, content: role === "system" ? content.replaceAll(/\/(no_)?think/g, "") : content };
    }),
  );

/** A system prompt that is empty counts as none. */
const emptyIsNone: Template = (turns) => {
  const said = turns.filter(({ role, content }) => role !== "system" || content !== "");
  return said.length === 0 ? "assistant: " : chatml(said);
};

export const TEMPLATES = {
  chatml,
  qwen25,
  qwen3,
  llama31: llama31(() => "26 Jul 2024"),
  llama32: (now: () => number): Template =>
    llama31(() =>
      new Date(now()).toLocaleDateString("en-GB", {
        day: "2-digit",
        month: "short",
        year: "numeric",
        timeZone: "UTC",
      }),
    ),
  mistral,
  llama2,
  gemma,
  gemma3,
  deepseekR1,
  phi3,
  qwq,
  smollm3,
  tagged,
  numbered,
  falcon,
  emptyIsNone,
};

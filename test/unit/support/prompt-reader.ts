// Runs request and response bodies through the compiled prompt and usage readers.
import { startHarness } from "./harness.ts";

interface PromptExports {
  inputPtr(): number;
  inputBytesMax(): number;
  recordPtr(): number;
  recordBytes(): number;
  chainPtr(): number;
  usagePtr(): number;
  usageBytes(): number;
  begin(api: number): void;
  feed(from: number, len: number, chunk: number): number;
  keyAt(index: number, root: bigint): bigint;
  promptConversation(record: number): bigint;
  chainKeyCount(chain: number): number;
  chainTextBytes(chain: number): number;
  pagesInUse(): number;
  apiOfPath(ptr: number, len: number): number;
  apiIsChecked(api: number): number;
  apiKeepsPrefix(api: number): number;
  promptEnd(record: number): number;
  promptErrorPtr(record: number): number;
  promptErrorBytes(record: number): number;
  promptErrorOffset(record: number): bigint;
  promptErrorCode(record: number): number;
  promptHasModel(record: number): number;
  promptHasPrompt(record: number): number;
  promptHasEnded(record: number): number;
  promptModelPtr(record: number): number;
  promptModelBytes(record: number): number;
  promptModelHash(record: number): bigint;
  promptStream(record: number): number;
  promptMaxTokens(record: number): number;
  promptCount(record: number): number;
  promptIngredientsHash(record: number): bigint;
  promptToolsHash(record: number): bigint;
  promptSaltHash(record: number): bigint;
  promptLoraHash(record: number): bigint;
  promptMessages(record: number): number;
  promptTools(record: number): number;
  promptImages(record: number): number;
  promptAudios(record: number): number;
  promptVideos(record: number): number;
  promptTokenIds(record: number): number;
  promptExtraBytes(record: number): number;
  usageBegin(usage: number, isEventStream: number): void;
  usageFeedChunks(from: number, len: number, chunk: number): void;
  usageEnd(usage: number): void;
  usageFound(usage: number): number;
  usagePromptTokens(usage: number): number;
  usageCompletionTokens(usage: number): number;
  usageCachedTokens(usage: number): number;
  usageHasCachedTokens(usage: number): number;
  usageSawData(usage: number): number;
}

/** assembly/prompt/api.ts's API_* by their numbers. */
export const API = {
  other: 0,
  chat: 1,
  completions: 2,
  responses: 3,
  conversations: 4,
  embeddings: 5,
  images: 6,
  messages: 7,
  countTokens: 8,
  vllmGenerate: 9,
  sglangGenerate: 10,
  tokenize: 11,
  rerank: 12,
  score: 13,
  pooling: 14,
  classify: 15,
  chatRender: 16,
  completionsRender: 17,
} as const;

export interface Prompt {
  /** Text of the refusal; undefined when the body is fine. */
  readonly error: string | undefined;
  readonly errorOffset: number;
  readonly model: string;
  readonly modelHash: bigint;
  readonly stream: boolean;
  readonly maxTokens: number | undefined;
  readonly count: number;
  readonly messages: number;
  readonly tools: number;
  readonly images: number;
  readonly audios: number;
  readonly videos: number;
  readonly tokenIds: number;
  readonly textBytes: number;
  readonly extraBytes: number;
  readonly ingredients: bigint;
  readonly toolsHash: bigint;
  readonly salt: bigint;
  readonly lora: bigint;
  /** The chain's keys under the ingredients, as the decision uses them. */
  readonly keys: readonly bigint[];
  /** The chain's keys alone. */
  readonly chain: readonly bigint[];
}

export interface Usage {
  readonly prompt: number;
  readonly completion: number;
  readonly cached: number | undefined;
}

export class PromptReader {
  readonly exports: PromptExports & { memory: WebAssembly.Memory };

  private constructor(exports: PromptExports & { memory: WebAssembly.Memory }) {
    this.exports = exports;
  }

  static async start(): Promise<PromptReader> {
    return new PromptReader(await startHarness<PromptExports>("prompt"));
  }

  put(bytes: Uint8Array): void {
    if (bytes.length > this.exports.inputBytesMax()) throw new RangeError(`input of ${bytes.length} bytes`);
    new Uint8Array(this.exports.memory.buffer).set(bytes, this.exports.inputPtr());
  }

  api(path: string): number {
    const bytes = Buffer.from(path);
    this.put(bytes);
    return this.exports.apiOfPath(this.exports.inputPtr(), bytes.length);
  }

  /** Reads a whole body in chunks of `chunk` bytes; a value is sent as JSON. */
  read(api: number, body: unknown, chunk?: number): Prompt {
    const bytes =
      body instanceof Uint8Array ? body : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
    this.put(bytes);
    this.exports.begin(api);
    this.exports.feed(0, bytes.length, chunk ?? Math.max(bytes.length, 1));
    const code = this.exports.promptEnd(this.exports.recordPtr());
    return this.known(code);
  }

  /** What tells the conversation of the last body read apart. */
  conversation(): bigint {
    return BigInt.asUintN(64, this.exports.promptConversation(this.exports.recordPtr()));
  }

  /** What is known after the first bytes of a body, before its end. */
  readStart(api: number, text: string): Prompt {
    const bytes = Buffer.from(text);
    this.put(bytes);
    this.exports.begin(api);
    return this.known(this.exports.feed(0, bytes.length, Math.max(bytes.length, 1)));
  }

  private known(code: number): Prompt {
    const { exports } = this;
    const record = exports.recordPtr();
    const chain = exports.chainPtr();
    const ingredients = exports.promptIngredientsHash(record);
    const count = exports.chainKeyCount(chain);
    const keys = (root: bigint) => Array.from({ length: count }, (_, index) => exports.keyAt(index, root));
    const maxTokens = exports.promptMaxTokens(record);
    return {
      error:
        code === 0 ? undefined : this.text(exports.promptErrorPtr(record), exports.promptErrorBytes(record)),
      errorOffset: Number(exports.promptErrorOffset(record)),
      model: this.text(exports.promptModelPtr(record), exports.promptModelBytes(record)),
      modelHash: exports.promptModelHash(record),
      stream: exports.promptStream(record) !== 0,
      maxTokens: maxTokens < 0 ? undefined : maxTokens,
      count: exports.promptCount(record),
      messages: exports.promptMessages(record),
      tools: exports.promptTools(record),
      images: exports.promptImages(record),
      audios: exports.promptAudios(record),
      videos: exports.promptVideos(record),
      tokenIds: exports.promptTokenIds(record),
      textBytes: exports.chainTextBytes(chain),
      extraBytes: exports.promptExtraBytes(record),
      ingredients,
      toolsHash: exports.promptToolsHash(record),
      salt: exports.promptSaltHash(record),
      lora: exports.promptLoraHash(record),
      keys: keys(ingredients),
      chain: keys(0n),
    };
  }

  /** Reads a response; `sawData`: whether an event with generated text came. */
  usage(
    body: string | Uint8Array,
    isEventStream: boolean,
    chunk?: number,
  ): { usage: Usage | null; sawData: boolean } {
    const { exports } = this;
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    this.put(bytes);
    const usage = exports.usagePtr();
    exports.usageBegin(usage, isEventStream ? 1 : 0);
    exports.usageFeedChunks(0, bytes.length, chunk ?? Math.max(bytes.length, 1));
    exports.usageEnd(usage);
    const sawData = exports.usageSawData(usage) !== 0;
    if (exports.usageFound(usage) === 0) return { usage: null, sawData };
    const cached = exports.usageHasCachedTokens(usage) !== 0 ? exports.usageCachedTokens(usage) : undefined;
    const prompt = exports.usagePromptTokens(usage);
    return { usage: { prompt, completion: exports.usageCompletionTokens(usage), cached }, sawData };
  }

  private text(ptr: number, bytes: number): string {
    return Buffer.from(this.exports.memory.buffer, ptr, bytes).toString();
  }
}

/** Length of the common start of two key lists. */
export function sharedKeys(left: readonly bigint[], right: readonly bigint[]): number {
  const length = Math.min(left.length, right.length);
  for (let index = 0; index < length; index++) if (left[index] !== right[index]) return index;
  return length;
}

/** Bytes that one key of a short chain stands for. */
export const BLOCK_BYTES = 64;

/** Text long enough for `blocks` keys, different for every `name`. */
export function blocksOf(name: string, blocks = 4): string {
  return `${name} `.padEnd(blocks * BLOCK_BYTES, `${name} speaks on. `);
}

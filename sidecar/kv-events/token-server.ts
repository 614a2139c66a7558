// The part of a model server's API that tells of its tokens: /tokenize and /detokenize.
import type { Credentials } from "../config/credentials.ts";
import { TokenizerError } from "../errors.ts";
import { ServerApi, tokenIds } from "./server-api.ts";

/** Tokens of a text, and the vocabulary's pieces that they are. */
export interface Tokenized {
  readonly tokens: readonly number[];
  /** As many as `tokens`, or none where the server does not tell. */
  readonly pieces: readonly string[];
}

/** What a learner asks. */
export interface TokenServer {
  /** For messages. */
  readonly name: string;
  /** Throws ConnectionError, TimeoutError, StatusError or TokenizerError, like `detokenize`. */
  tokenize(text: string): Promise<Tokenized>;
  detokenize(tokens: readonly number[]): Promise<string>;
}

/**
 * A server as vLLM 0.32.0 (vllm/entrypoints/serve/tokenize) and SGLang 0.5.23 speak
 * (sglang/srt/entrypoints/openai/serving_tokenize.py). SGLang tells no pieces, and leaves special tokens out of texts
 * unless asked for them.
 */
export class HttpTokenServer implements TokenServer {
  readonly name: string;
  private readonly api: ServerApi;

  /** @param address "ip:port" */
  constructor(address: string, credentials: () => Credentials) {
    this.name = address;
    this.api = new ServerApi(address, credentials);
  }

  async tokenize(text: string): Promise<Tokenized> {
    const answer = await this.api.post("/tokenize", {
      prompt: text,
      add_special_tokens: false,
      return_token_strs: true,
    });
    const tokens = tokenIds(answer["tokens"], this.name, "/tokenize tokens");
    const pieces = answer["token_strs"];
    const isTold = Array.isArray(pieces) && pieces.every((piece) => typeof piece === "string");
    return { tokens, pieces: isTold ? (pieces as string[]) : [] };
  }

  async detokenize(tokens: readonly number[]): Promise<string> {
    const { prompt, text } = await this.api.post("/detokenize", { tokens, skip_special_tokens: false });
    const told = prompt ?? text;
    if (typeof told !== "string") throw new TokenizerError(this.name, "/detokenize prompt or text", "a text");
    return told;
  }
}

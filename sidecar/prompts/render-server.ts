// The part of a model server's API that renders prompts: token ids of conversations and of text prompts.
import type { Credentials } from "../config/credentials.ts";
import { StatusError, TokenizerError } from "../errors.ts";
import { ServerApi, tokenIds } from "../kv-events/server-api.ts";
import type { Message } from "./program.ts";

/** Renders prompts as one server does for one model. */
export interface Renderer {
  /**
   * The text of a conversation with the opening of the assistant's turn.
   * @returns null when the server refuses it
   * @throws ConnectionError, TimeoutError, StatusError when it cannot be asked; TokenizerError when its tokens cannot be
   * turned into text
   */
  chat(messages: readonly Message[]): Promise<Uint8Array | null>;
  /** The text of a completion's prompt, with what the tokenizer adds. Like `chat`. */
  completion(prompt: string): Promise<Uint8Array | null>;
}

/** Turns the tokens of a whole prompt into text; null = the bytes of one are not known. */
export type TextOf = (tokens: readonly number[]) => Promise<Uint8Array | null>;

/** Answers that say nothing of the prompt: no right to ask, too busy, behind a proxy that is. */
const NOT_ASKED: ReadonlySet<number> = new Set([401, 403, 408, 429, 502, 503, 504]);
/** Answers of a server that has no such path, or has it switched off. */
const NOT_THERE: ReadonlySet<number> = new Set([403, 404, 405, 501]);

/**
 * A server as vLLM 0.32.0 and SGLang speak. vLLM with --enable-scale-out renders by the very path that its chat takes
 * (/v1/chat/completions/render); any vLLM, and SGLang 0.5.23, tells a conversation's tokens by /tokenize. SGLang 0.5.10
 * knows text prompts alone there, and refuses conversations.
 */
export class HttpRenderer implements Renderer {
  private readonly api: ServerApi;
  private hasRenderPath = true;

  /**
   * @param address "ip:port"
   * @param model name of the base model or of an adapter
   */
  constructor(
    address: string,
    private readonly model: string,
    credentials: () => Credentials,
    private readonly textOf: TextOf,
  ) {
    this.api = new ServerApi(address, credentials);
  }

  async chat(messages: readonly Message[]): Promise<Uint8Array | null> {
    const body = {
      model: this.model,
      messages: messages.map(({ role, content, hasNoCalls = false }) => ({
        role,
        content: typeof content === "string" ? content : content.map((text) => ({ type: "text", text })),
        ...(hasNoCalls ? { tool_calls: [] } : {}),
      })),
    };
    if (this.hasRenderPath) {
      try {
        return await this.ask("/v1/chat/completions/render", body, "token_ids");
      } catch (error) {
        if (!(error instanceof StatusError) || !NOT_THERE.has(error.status)) throw error;
        this.hasRenderPath = false;
      }
    }
    // add_generation_prompt is left out: vLLM's default is true, and SGLang then renders as for a chat completion.
    return this.ask("/tokenize", body, "tokens");
  }

  completion(prompt: string): Promise<Uint8Array | null> {
    return this.ask("/tokenize", { model: this.model, prompt, add_special_tokens: true }, "tokens");
  }

  private async ask(path: string, body: object, field: string): Promise<Uint8Array | null> {
    let answer: Record<string, unknown>;
    try {
      answer = await this.api.post(path, body);
    } catch (error) {
      const isRefusal = error instanceof StatusError && !NOT_ASKED.has(error.status) && error.status >= 400;
      if (isRefusal && !(path !== "/tokenize" && NOT_THERE.has(error.status))) return null;
      throw error;
    }
    const { address } = this.api;
    const text = await this.textOf(tokenIds(answer[field], address, `${path} ${field}`));
    if (text === null) throw new TokenizerError(address, `${path} ${field}`, "tokens whose bytes are known");
    return text;
  }
}

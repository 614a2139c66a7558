// The part of a model server's API that tells of its tokens: /tokenize and /detokenize.
import { Client } from "undici";
import type { Credentials } from "../config/credentials.ts";
import { ConnectionError, StatusError, TimeoutError, TokenizerError } from "../errors.ts";

/** An answer takes at most this long. */
const TIMEOUT_MS = 2_000;
/** Bytes of an answer. A larger one is an error. */
const ANSWER_BYTES_MAX = 8_388_608;

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

/** A server as vLLM 0.32.0 speaks (vllm/entrypoints/serve/tokenize). Each call has a connection of its own. */
export class HttpTokenServer implements TokenServer {
  readonly name: string;

  /** @param address "ip:port" */
  constructor(
    address: string,
    private readonly credentials: () => Credentials,
  ) {
    this.name = address;
  }

  async tokenize(text: string): Promise<Tokenized> {
    const answer = await this.post("/tokenize", {
      prompt: text,
      add_special_tokens: false,
      return_token_strs: true,
    });
    const { tokens, token_strs: pieces } = answer;
    if (!Array.isArray(tokens) || !tokens.every((id) => Number.isInteger(id) && (id as number) >= 0)) {
      throw new TokenizerError(this.name, "/tokenize tokens", "token ids");
    }
    const isTold = Array.isArray(pieces) && pieces.every((piece) => typeof piece === "string");
    return { tokens: tokens as number[], pieces: isTold ? (pieces as string[]) : [] };
  }

  async detokenize(tokens: readonly number[]): Promise<string> {
    const { prompt } = await this.post("/detokenize", { tokens });
    if (typeof prompt !== "string") throw new TokenizerError(this.name, "/detokenize prompt", "a text");
    return prompt;
  }

  private async post(path: string, body: object): Promise<Record<string, unknown>> {
    const { tls, token } = this.credentials();
    const client = new Client(`${tls === null ? "http" : "https"}://${this.name}`, {
      connectTimeout: TIMEOUT_MS,
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
      maxResponseSize: ANSWER_BYTES_MAX,
      ...(tls === null ? {} : { connect: connectOptions(tls) }),
    });
    try {
      const { statusCode, body: answer } = await client.request({
        method: "POST",
        path,
        headers: {
          "content-type": "application/json",
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        },
        body: JSON.stringify(body),
      });
      const text = await answer.text();
      if (statusCode !== 200) throw new StatusError(this.name + path, statusCode);
      return parseObject(text, this.name + path);
    } catch (error) {
      if (error instanceof StatusError || error instanceof TokenizerError) throw error;
      const code = (error as { code?: unknown }).code;
      const isLate = typeof code === "string" && code.endsWith("_TIMEOUT");
      throw isLate ? new TimeoutError(this.name + path, TIMEOUT_MS) : new ConnectionError(this.name, error);
    } finally {
      await client.destroy();
    }
  }
}

function connectOptions(tls: NonNullable<Credentials["tls"]>): Record<string, unknown> {
  const { ca, cert, key, serverName, insecureSkipVerify } = tls;
  return {
    ...(ca === null ? {} : { ca }),
    ...(cert === null || key === null ? {} : { cert, key }),
    ...(serverName === null ? {} : { servername: serverName }),
    rejectUnauthorized: !insecureSkipVerify,
  };
}

function parseObject(text: string, source: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Told below, like any other answer that is no object.
  }
  throw new TokenizerError(source, "answer", "a JSON object");
}

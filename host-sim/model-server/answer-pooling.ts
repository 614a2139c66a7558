// The APIs that read prompts and generate nothing: /v1/embeddings, /pooling, /score, /rerank.
import { randomFrom } from "./answer.ts";
import { hashText } from "./block-hash.ts";
import { type JsonObject, optionalText, requireList } from "./body.ts";
import { type GenerationCall, readPrompts } from "./calls.ts";
import { badRequest } from "./errors.ts";
import type { Exchange } from "./exchange.ts";
import { type GenerationJob, type GenerationSink, usageOf } from "./generation-types.ts";
import type { TextModel } from "./text-model.ts";

/** Length of an embedding; real ones have thousands of dimensions, the API's shape does not depend on it. */
const DIMENSIONS = 64;

/** An API of this file: how its body is read into texts, and what it answers for them. */
export interface PoolingApi {
  readonly idPrefix: string;
  read(body: JsonObject, model: TextModel): PoolingInput;
  answer(input: PoolingInput, job: GenerationJob, head: PoolingHead): object;
}

/** What is to be embedded or scored, one prompt an item. */
export interface PoolingInput {
  readonly prompts: readonly (readonly number[])[];
  /** Documents of /rerank, in the request's order. */
  readonly documents: readonly string[];
  readonly topN: number;
}

export interface PoolingHead {
  readonly id: string;
  readonly createdSeconds: number;
  readonly modelName: string;
}

function vectorOf(prompt: readonly number[]): number[] {
  const random = randomFrom(hashText(prompt.join(" "), 0));
  const vector = Array.from({ length: DIMENSIONS }, () => random() * 2 - 1);
  const norm = Math.hypot(...vector);
  return vector.map((value) => value / norm);
}

function scoreOf(prompt: readonly number[]): number {
  return randomFrom(hashText(prompt.join(" "), 1))();
}

function usageBody(job: GenerationJob): object {
  const { promptTokens } = usageOf(job);
  return {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens,
    completion_tokens: 0,
    prompt_tokens_details: null,
  };
}

function readInput(body: JsonObject, model: TextModel): PoolingInput {
  const messages = body["messages"];
  const value = Array.isArray(messages) ? JSON.stringify(messages) : body["input"];
  return { prompts: readPrompts(value, model), documents: [], topN: 0 };
}

function textList(value: unknown, name: string): string[] {
  const list = Array.isArray(value) ? value : [value];
  if (list.length === 0 || !list.every((item) => typeof item === "string")) {
    throw badRequest(`${name} must be text or a list of texts`);
  }
  return list as string[];
}

function vectors(kind: "embedding" | "data", input: PoolingInput): object[] {
  return input.prompts.map((prompt, index) => {
    return { index, object: kind === "embedding" ? "embedding" : "pooling", [kind]: vectorOf(prompt) };
  });
}

function list(head: PoolingHead, data: readonly object[], job: GenerationJob): object {
  const { id, createdSeconds, modelName } = head;
  return { id, object: "list", created: createdSeconds, model: modelName, data, usage: usageBody(job) };
}

export const EMBEDDINGS: PoolingApi = {
  idPrefix: "embd-",
  read: readInput,
  answer: (input, job, head) => list(head, vectors("embedding", input), job),
};

export const POOLING: PoolingApi = {
  idPrefix: "pool-",
  read: readInput,
  answer: (input, job, head) => list(head, vectors("data", input), job),
};

export const SCORE: PoolingApi = {
  idPrefix: "score-",
  read(body, model) {
    const left = textList(body["text_1"] ?? body["queries"], "text_1");
    const right = textList(body["text_2"] ?? body["documents"], "text_2");
    if (left.length !== 1 && left.length !== right.length) {
      throw badRequest("Input lengths must be either 1:1, 1:N or N:N");
    }
    const pairs = right.map((text, i) => `${left.length === 1 ? left[0]! : left[i]!}\n${text}`);
    return { prompts: pairs.flatMap((pair) => readPrompts(pair, model)), documents: [], topN: 0 };
  },
  answer: (input, job, head) => {
    const data = input.prompts.map((prompt, index) => ({ index, object: "score", score: scoreOf(prompt) }));
    return list(head, data, job);
  },
};

export const RERANK: PoolingApi = {
  idPrefix: "rerank-",
  read(body, model) {
    const query = optionalText(body, "query") ?? "";
    const documents = textList(requireList(body, "documents"), "documents");
    const topN = typeof body["top_n"] === "number" && body["top_n"] > 0 ? body["top_n"] : documents.length;
    return { prompts: documents.flatMap((text) => readPrompts(`${query}\n${text}`, model)), documents, topN };
  },
  answer(input, job, { id, modelName }) {
    const results = input.prompts.map((prompt, index) => {
      return { index, document: { text: input.documents[index] }, relevance_score: scoreOf(prompt) };
    });
    results.sort((a, b) => b.relevance_score - a.relevance_score);
    const { promptTokens } = usageOf(job);
    return {
      id,
      model: modelName,
      usage: { total_tokens: promptTokens },
      results: results.slice(0, input.topN),
    };
  },
};

/** The call that reads these prompts and generates nothing. */
export function poolingCall(body: JsonObject, input: PoolingInput): GenerationCall {
  return {
    model: optionalText(body, "model"),
    prompts: input.prompts,
    choices: 1,
    maxTokens: undefined,
    maxTokensName: "max_tokens",
    givenAsTokens: false,
    stream: false,
    includeUsage: false,
    continuousUsage: false,
    ignoreEos: true,
    stop: [],
    cacheSalt: optionalText(body, "cache_salt"),
    promptOnly: true,
  };
}

/** Answers when all prompts are read. */
export function poolingSink(
  api: PoolingApi,
  input: PoolingInput,
  head: PoolingHead,
  exchange: Exchange,
): GenerationSink {
  return {
    token: () => undefined,
    done: (job) => exchange.json(200, api.answer(input, job, head)),
    failed: () => exchange.json(500, { detail: "Internal Server Error" }),
  };
}

// Which paths a replica serves, and with what.
import { messagesSink } from "./answer-anthropic.ts";
import type { AnswerContext } from "./answer-context.ts";
import { chatSink, completionSink } from "./answer-openai.ts";
import { EMBEDDINGS, POOLING, type PoolingApi, RERANK, SCORE } from "./answer-pooling.ts";
import { responsesSink } from "./answer-responses.ts";
import type { JsonObject } from "./body.ts";
import {
  type GenerationCall,
  readChatCall,
  readCompletionCall,
  readMessagesCall,
  readResponsesCall,
} from "./calls.ts";
import type { GenerationSink } from "./generation-types.ts";
import type { TextModel } from "./text-model.ts";

/** A generating API: how to read its body, how to answer. */
export interface GenerationApi {
  readonly idPrefix: string;
  /** Stands between the answer's id and a sequence's number in the engine's ids; absent: no number. */
  readonly indexSeparator?: string;
  readonly shape: "openai" | "anthropic";
  read(body: JsonObject, model: TextModel): GenerationCall;
  sink(context: AnswerContext): GenerationSink;
}

/** Paths that generate. */
export const GENERATION_APIS: ReadonlyMap<string, GenerationApi> = new Map<string, GenerationApi>([
  ["/v1/chat/completions", { idPrefix: "chatcmpl-", shape: "openai", read: readChatCall, sink: chatSink }],
  [
    "/v1/completions",
    {
      idPrefix: "cmpl-",
      indexSeparator: "-",
      shape: "openai",
      read: readCompletionCall,
      sink: completionSink,
    },
  ],
  ["/v1/messages", { idPrefix: "chatcmpl-", shape: "anthropic", read: readMessagesCall, sink: messagesSink }],
  [
    "/v1/responses",
    { idPrefix: "resp_", indexSeparator: "_", shape: "openai", read: readResponsesCall, sink: responsesSink },
  ],
]);

/** Paths that only read their prompts. */
export const POOLING_APIS: ReadonlyMap<string, PoolingApi> = new Map([
  ["/v1/embeddings", EMBEDDINGS],
  ["/pooling", POOLING],
  ["/score", SCORE],
  ["/v1/score", SCORE],
  ["/rerank", RERANK],
  ["/v1/rerank", RERANK],
  ["/v2/rerank", RERANK],
]);

/** Paths answered from the replica's state, by method. */
export const OTHER_ROUTES: ReadonlyMap<string, "GET" | "POST"> = new Map([
  ["/health", "GET"],
  ["/ping", "GET"],
  ["/load", "GET"],
  ["/version", "GET"],
  ["/metrics", "GET"],
  ["/kv_event_sources", "GET"],
  ["/v1/models", "GET"],
  ["/tokenize", "POST"],
  ["/detokenize", "POST"],
  ["/v1/messages/count_tokens", "POST"],
  ["/reset_prefix_cache", "POST"],
]);

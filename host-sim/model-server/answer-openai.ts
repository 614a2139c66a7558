// Answers of /v1/chat/completions and /v1/completions, whole and streamed, field for field as vLLM 0.32.0
// gives them.
import { type AnswerContext, failStream, failWhole } from "./answer-context.ts";
import { spliceParams } from "./disaggregation/nixl-params.ts";
import { type ApiError, KvLoadError } from "./errors.ts";
import { type GenerationJob, type GenerationSink, type Sequence, usageOf } from "./generation-types.ts";

/** The chat answer, streamed or whole as the call asks. */
export function chatSink(context: AnswerContext): GenerationSink {
  return context.call.stream ? new OpenAiStream(context, CHAT) : new OpenAiWhole(context, CHAT);
}

/** The completion answer, streamed or whole as the call asks. */
export function completionSink(context: AnswerContext): GenerationSink {
  return context.call.stream ? new OpenAiStream(context, COMPLETION) : new OpenAiWhole(context, COMPLETION);
}

/** Where the two APIs differ. */
interface Dialect {
  readonly wholeObject: string;
  readonly chunkObject: string;
  /** A first chunk that names the role precedes each choice. */
  readonly roleChunk: boolean;
  whole(sequence: Sequence, text: string): object;
  chunk(sequence: Sequence, text: string, last: boolean): object;
  /** Whether the usage tells `created_cache_tokens`. */
  readonly tellsCreated: boolean;
}

const CHAT: Dialect = {
  wholeObject: "chat.completion",
  chunkObject: "chat.completion.chunk",
  roleChunk: true,
  tellsCreated: true,
  whole: (sequence, text) => ({
    index: sequence.index,
    message: {
      role: "assistant",
      content: text,
      refusal: null,
      annotations: null,
      audio: null,
      function_call: null,
      reasoning: null,
    },
    logprobs: null,
    finish_reason: sequence.finishReason,
    stop_reason: sequence.stopText,
    token_ids: null,
    routed_experts: null,
  }),
  chunk: (sequence, text, last) => ({
    index: sequence.index,
    delta: { content: text },
    logprobs: null,
    finish_reason: last ? sequence.finishReason : null,
    ...(last ? { stop_reason: sequence.stopText } : {}),
    token_ids: null,
  }),
};

const COMPLETION: Dialect = {
  wholeObject: "text_completion",
  chunkObject: "text_completion",
  roleChunk: false,
  tellsCreated: false,
  whole: (sequence, text) => ({
    index: sequence.index,
    text,
    logprobs: null,
    finish_reason: sequence.finishReason,
    stop_reason: sequence.stopText,
    token_ids: null,
    prompt_logprobs: null,
    prompt_token_ids: null,
    routed_experts: null,
  }),
  chunk: (sequence, text, last) => ({
    index: sequence.index,
    text,
    logprobs: null,
    finish_reason: last ? sequence.finishReason : null,
    stop_reason: last ? sequence.stopText : null,
    prompt_token_ids: null,
    token_ids: null,
  }),
};

class OpenAiWhole implements GenerationSink {
  private readonly context: AnswerContext;
  private readonly dialect: Dialect;
  private readonly texts: string[] = [];

  constructor(context: AnswerContext, dialect: Dialect) {
    this.context = context;
    this.dialect = dialect;
  }

  token(sequence: Sequence, text: string): void {
    this.texts[sequence.index] = (this.texts[sequence.index] ?? "") + text;
  }

  done(job: GenerationJob): void {
    const { exchange, id, createdSeconds, modelName, fingerprint } = this.context;
    const { promptTokens, completionTokens, cachedTokens, createdCacheTokens } = usageOf(job);
    const chat = this.dialect === CHAT;
    const answer = {
      id,
      object: this.dialect.wholeObject,
      created: createdSeconds,
      model: modelName,
      choices: job.sequences.map((sequence) => {
        return this.dialect.whole(sequence, this.texts[sequence.index] ?? "");
      }),
      service_tier: null,
      system_fingerprint: fingerprint,
      usage: {
        prompt_tokens: promptTokens,
        total_tokens: promptTokens + completionTokens,
        completion_tokens: completionTokens,
        prompt_tokens_details: {
          cached_tokens: cachedTokens,
          created_cache_tokens: this.dialect.tellsCreated ? createdCacheTokens : null,
          multimodal_tokens: null,
        },
        completion_tokens_details: null,
      },
      ...(chat ? { prompt_logprobs: null, prompt_token_ids: null, prompt_text: null } : {}),
      kv_transfer_params: null,
      ec_transfer_params: null,
      metrics: null,
    };
    exchange.send(200, spliceParams(answer, job.transferParams), "application/json");
  }

  failed(error: ApiError): void {
    failWhole(this.context, error);
  }
}

class OpenAiStream implements GenerationSink {
  private readonly context: AnswerContext;
  private readonly dialect: Dialect;
  private readonly generated: number[] = [];
  private opened = false;

  constructor(context: AnswerContext, dialect: Dialect) {
    this.context = context;
    this.dialect = dialect;
    context.exchange.openStream(context.keepAliveCommentMs);
  }

  token(sequence: Sequence, text: string, last: boolean): void {
    const { call, exchange } = this.context;
    if (!this.opened) this.open(sequence.promptTokens);
    const generated = (this.generated[sequence.index] ?? 0) + 1;
    this.generated[sequence.index] = generated;
    const chunk: Record<string, unknown> = {
      ...this.head(),
      choices: [this.dialect.chunk(sequence, text, last)],
    };
    if (call.includeUsage && call.continuousUsage) {
      chunk["usage"] = shortUsage(sequence.promptTokens, generated);
    } else if (last && !call.includeUsage && this.dialect.roleChunk) {
      chunk["system_fingerprint"] = this.context.fingerprint;
    }
    exchange.event(chunk);
  }

  done(job: GenerationJob): void {
    const { call, exchange } = this.context;
    if (call.includeUsage) {
      const { promptTokens, completionTokens, cachedTokens, createdCacheTokens } = usageOf(job);
      exchange.event({
        ...this.head(),
        choices: [],
        usage: {
          prompt_tokens: promptTokens,
          total_tokens: promptTokens + completionTokens,
          completion_tokens: completionTokens,
          prompt_tokens_details: {
            cached_tokens: cachedTokens,
            ...(this.dialect.tellsCreated ? { created_cache_tokens: createdCacheTokens } : {}),
          },
        },
        system_fingerprint: this.context.fingerprint,
      });
    }
    exchange.write("data: [DONE]\n\n");
    exchange.end();
  }

  failed(error: ApiError): void {
    if (error instanceof KvLoadError && !this.opened) this.open(undefined);
    failStream(this.context, error);
  }

  private head(): Record<string, unknown> {
    const { id, createdSeconds, modelName } = this.context;
    return { id, object: this.dialect.chunkObject, created: createdSeconds, model: modelName };
  }

  // The chunks that name the role, one a choice, come with the first token, or with the failure to get there.
  private open(promptTokens: number | undefined): void {
    this.opened = true;
    if (!this.dialect.roleChunk) return;
    const { call, exchange } = this.context;
    for (let index = 0; index < call.choices; index++) {
      const chunk: Record<string, unknown> = {
        ...this.head(),
        choices: [{ index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null }],
      };
      if (call.includeUsage && call.continuousUsage && promptTokens !== undefined) {
        chunk["usage"] = shortUsage(promptTokens, 0);
      }
      exchange.event({ ...chunk, prompt_token_ids: null, prompt_text: null });
    }
  }
}

function shortUsage(promptTokens: number, completionTokens: number): object {
  return {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens + completionTokens,
    completion_tokens: completionTokens,
    completion_tokens_details: null,
  };
}

// Answers of /v1/messages, whole and streamed, as vLLM 0.32.0 gives them.
import { type AnswerContext, failStream, failWhole } from "./answer-context.ts";
import { spliceParams } from "./disaggregation/nixl-params.ts";
import type { ApiError } from "./errors.ts";
import { type GenerationJob, type GenerationSink, type Sequence, usageOf } from "./generation-types.ts";

/** The message answer, streamed or whole as the call asks. */
export function messagesSink(context: AnswerContext): GenerationSink {
  return context.call.stream ? new MessageStream(context) : new MessageWhole(context);
}

function stopReason(sequence: Sequence): string {
  if (sequence.stopText !== null) return "stop_sequence";
  return sequence.finishReason === "length" ? "max_tokens" : "end_turn";
}

function usageBody(job: GenerationJob): object {
  const { promptTokens, completionTokens, cachedTokens, createdCacheTokens } = usageOf(job);
  return {
    input_tokens: promptTokens - cachedTokens - createdCacheTokens,
    output_tokens: completionTokens,
    cache_creation_input_tokens: createdCacheTokens,
    cache_read_input_tokens: cachedTokens,
  };
}

class MessageWhole implements GenerationSink {
  private readonly context: AnswerContext;
  private text = "";

  constructor(context: AnswerContext) {
    this.context = context;
  }

  token(_sequence: Sequence, text: string): void {
    this.text += text;
  }

  done(job: GenerationJob): void {
    const { exchange, id, modelName } = this.context;
    const sequence = job.sequences[0]!;
    const answer = {
      id,
      type: "message",
      role: "assistant",
      content: [{ type: "text", text: this.text }],
      model: modelName,
      stop_reason: stopReason(sequence),
      ...(sequence.stopText === null ? {} : { stop_sequence: sequence.stopText }),
      usage: usageBody(job),
      // Left out where there is none, unlike in the other APIs.
      ...(job.transferParams === null ? {} : { kv_transfer_params: null }),
    };
    exchange.send(200, spliceParams(answer, job.transferParams), "application/json");
  }

  failed(error: ApiError): void {
    failWhole(this.context, error);
  }
}

class MessageStream implements GenerationSink {
  private readonly context: AnswerContext;
  private opened = false;

  constructor(context: AnswerContext) {
    this.context = context;
    context.exchange.openStream(context.keepAliveCommentMs);
  }

  token(sequence: Sequence, text: string): void {
    if (!this.opened) this.open(sequence);
    const delta = { type: "text_delta", text };
    this.send({ type: "content_block_delta", delta, index: 0 });
  }

  done(job: GenerationJob): void {
    const sequence = job.sequences[0]!;
    this.send({ type: "content_block_stop", index: 0 });
    const delta = { stop_reason: stopReason(sequence), stop_sequence: sequence.stopText };
    this.send({ type: "message_delta", delta, usage: usageBody(job) });
    this.send({ type: "message_stop" });
    this.context.exchange.end();
  }

  failed(error: ApiError): void {
    failStream(this.context, error);
  }

  private open(sequence: Sequence): void {
    this.opened = true;
    const { id, modelName } = this.context;
    const message = {
      id,
      type: "message",
      role: "assistant",
      content: [],
      model: modelName,
      stop_reason: null,
      stop_sequence: null,
      usage: { input_tokens: sequence.promptTokens, output_tokens: 0 },
    };
    this.send({ type: "message_start", message });
    this.send({ type: "content_block_start", content_block: { type: "text", text: "" }, index: 0 });
  }

  private send(event: { readonly type: string; readonly [field: string]: unknown }): void {
    this.context.exchange.event(event, event.type);
  }
}

// Answers of /v1/responses, whole and streamed, as vLLM 0.32.0 gives them.
import { type AnswerContext, failStream, failWhole } from "./answer-context.ts";
import { spliceParams } from "./disaggregation/nixl-params.ts";
import type { ApiError } from "./errors.ts";
import { type GenerationJob, type GenerationSink, type Sequence, usageOf } from "./generation-types.ts";

/** The response answer, streamed or whole as the call asks. */
export function responsesSink(context: AnswerContext): GenerationSink {
  return context.call.stream ? new ResponseStream(context) : new ResponseWhole(context);
}

function messageId(context: AnswerContext): string {
  return context.id.replace(/^resp_/, "msg_");
}

function message(context: AnswerContext, text: string | null): object {
  const content = text === null ? [] : [{ annotations: [], text, type: "output_text", logprobs: null }];
  const status = text === null ? "in_progress" : "completed";
  return { id: messageId(context), content, role: "assistant", status, type: "message", phase: null };
}

/** The response object; `job` is null while it is in progress. */
function response(context: AnswerContext, job: GenerationJob | null, text: string): object {
  const cut = job?.sequences[0]?.finishReason === "length";
  const status = job === null ? "in_progress" : cut ? "incomplete" : "completed";
  return {
    id: context.id,
    created_at: context.createdSeconds,
    incomplete_details: cut ? { reason: "max_output_tokens" } : null,
    instructions: null,
    metadata: null,
    model: context.modelName,
    object: "response",
    output: job === null ? [] : [message(context, text)],
    parallel_tool_calls: true,
    temperature: 1,
    tool_choice: "none",
    tools: [],
    top_p: 1,
    background: false,
    max_output_tokens: context.call.maxTokens ?? null,
    max_tool_calls: null,
    previous_response_id: null,
    prompt: null,
    reasoning: null,
    service_tier: "auto",
    status,
    text: null,
    top_logprobs: null,
    truncation: "disabled",
    usage: job === null ? null : usageBody(job),
    user: null,
    presence_penalty: 0,
    frequency_penalty: 0,
    kv_transfer_params: null,
    ec_transfer_params: null,
    input_messages: null,
    output_messages: null,
  };
}

function usageBody(job: GenerationJob): object {
  const { promptTokens, completionTokens, cachedTokens, createdCacheTokens } = usageOf(job);
  return {
    input_tokens: promptTokens,
    input_tokens_details: {
      cached_tokens: cachedTokens,
      cache_write_tokens: createdCacheTokens,
      input_tokens_per_turn: [],
      cached_tokens_per_turn: [],
    },
    output_tokens: completionTokens,
    output_tokens_details: {
      reasoning_tokens: 0,
      tool_output_tokens: 0,
      output_tokens_per_turn: [],
      tool_output_tokens_per_turn: [],
    },
    total_tokens: promptTokens + completionTokens,
  };
}

class ResponseWhole implements GenerationSink {
  private readonly context: AnswerContext;
  private text = "";

  constructor(context: AnswerContext) {
    this.context = context;
  }

  token(_sequence: Sequence, text: string): void {
    this.text += text;
  }

  done(job: GenerationJob): void {
    const answer = response(this.context, job, this.text);
    this.context.exchange.send(200, spliceParams(answer, job.transferParams), "application/json");
  }

  failed(error: ApiError): void {
    failWhole(this.context, error);
  }
}

class ResponseStream implements GenerationSink {
  private readonly context: AnswerContext;
  private text = "";
  private opened = false;
  private number = 0;

  constructor(context: AnswerContext) {
    this.context = context;
    context.exchange.openStream(context.keepAliveCommentMs);
    this.send("response.created", { response: response(context, null, "") });
    this.send("response.in_progress", { response: response(context, null, "") });
  }

  token(_sequence: Sequence, text: string): void {
    const item = { item_id: messageId(this.context), output_index: 0 };
    if (!this.opened) {
      this.opened = true;
      this.send("response.output_item.added", { item: message(this.context, null), output_index: 0 });
      const part = { annotations: [], text: "", type: "output_text", logprobs: [] };
      this.send("response.content_part.added", { content_index: 0, ...item, part });
    }
    this.text += text;
    this.send("response.output_text.delta", { content_index: 0, delta: text, ...item, logprobs: [] });
  }

  done(job: GenerationJob): void {
    const item = { item_id: messageId(this.context), output_index: 0 };
    const part = { annotations: [], text: this.text, type: "output_text", logprobs: null };
    this.send("response.output_text.done", { content_index: 0, ...item, logprobs: [], text: this.text });
    this.send("response.content_part.done", { content_index: 0, ...item, part });
    this.send("response.output_item.done", { item: message(this.context, this.text), output_index: 0 });
    this.send("response.completed", { response: response(this.context, job, this.text) });
    this.context.exchange.end();
  }

  failed(error: ApiError): void {
    failStream(this.context, error);
  }

  private send(type: string, fields: object): void {
    this.context.exchange.event({ ...fields, sequence_number: this.number++, type }, type);
  }
}

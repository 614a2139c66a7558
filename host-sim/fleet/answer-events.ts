// What a simulated replica sends back, as server-sent events of a chat completion.
import type { Ending, FleetRequest } from "./types.ts";

/** One event with a piece of text. */
export function answerEvent(request: FleetRequest): string {
  return event(request, [{ index: 0, delta: { content: "word " }, finish_reason: null }]);
}

/** The end of a stream: why it ended, the usage, and [DONE]. */
export function lastEvents(request: FleetRequest, ending: Ending): string {
  const { promptTokens, outputTokens, cachedTokens } = ending;
  const usage = {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens + outputTokens,
    completion_tokens: outputTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
  const last = event(request, [{ index: 0, delta: {}, finish_reason: "length" }]);
  return `${last}${event(request, [], usage)}data: [DONE]\n\n`;
}

/** The end of a stream that fails after its headers, as vLLM ends it. */
export function errorEvents(status: number): string {
  const error = { message: "EngineCore encountered an issue.", type: "InternalServerError", code: status };
  return `data: ${JSON.stringify({ error: { ...error, param: null } })}\n\ndata: [DONE]\n\n`;
}

/** Body of an answer that is an error, in OpenAI's form. */
export function failureBody(status: number): string {
  const tooLong = status === 400;
  const message = tooLong ? "This model's maximum context length is exceeded." : "Internal server error";
  const type = tooLong ? "BadRequestError" : "InternalServerError";
  return JSON.stringify({ error: { message, type, param: null, code: status } });
}

function event(request: FleetRequest, choices: readonly object[], usage?: object): string {
  const id = `chatcmpl-${request.index}`;
  const model = request.lora ?? request.model;
  const body = { id, object: "chat.completion.chunk", created: 1_704_067_200, model, choices, usage };
  return `data: ${JSON.stringify(body)}\n\n`;
}

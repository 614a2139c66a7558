// Works out an answer before it is generated: its tokens, its texts, and why it ends.
import { answerSeed, answerTokens, naturalLength } from "./answer.ts";
import type { GenerationCall } from "./calls.ts";
import { badParameter } from "./errors.ts";
import type { Sequence } from "./generation-types.ts";
import type { TextModel } from "./text-model.ts";

/**
 * The answer to a prompt of a call.
 * @param choice which of the call's answers to this prompt. @param contextMax tokens of prompt and answer. @param model whose words the answer has
 * @throws ApiError 400 if prompt or limit exceed the model's context
 */
export function planAnswer(
  call: GenerationCall,
  prompt: readonly number[],
  choice: number,
  contextMax: number,
  model: TextModel,
): Pick<Sequence, "answer" | "texts" | "stopText" | "finishReason"> {
  checkLength(call, prompt.length, contextMax);
  const room = contextMax - prompt.length;
  const seed = answerSeed(prompt, choice);
  const limit = call.promptOnly ? 0 : Math.min(call.maxTokens ?? room, room);
  const natural = call.ignoreEos ? Number.POSITIVE_INFINITY : naturalLength(seed);
  const answer = answerTokens(seed, Math.min(limit, natural), model.answerWords);
  const plan = cutAtStop(
    answer,
    answer.map((id) => model.tokenText(id)),
    call.stop,
  );
  return { ...plan, finishReason: plan.stopText !== null || natural <= limit ? "stop" : "length" };
}

function checkLength(call: GenerationCall, promptTokens: number, contextMax: number): void {
  if (call.maxTokens !== undefined && call.maxTokens > contextMax) {
    throw badParameter(
      `${call.maxTokensName}=${call.maxTokens} cannot be greater than max_model_len=${contextMax}. ` +
        "Please request fewer output tokens.",
      call.maxTokensName,
      String(call.maxTokens),
    );
  }
  if (promptTokens > contextMax) {
    // Of a text vLLM reads one token beyond and no more.
    const counted = call.givenAsTokens ? promptTokens : contextMax + 1;
    throw badParameter(
      `This model's maximum context length is ${contextMax} tokens. However, your prompt contains ` +
        `${counted === contextMax + 1 ? "at least " : ""}${counted} input tokens, which exceeds this limit even ` +
        "without any output tokens. Please reduce the length of the input prompt.",
      "input_tokens",
      String(counted),
    );
  }
  // A limit beyond the room is cut to it; no room is a limit of nothing.
  if (promptTokens === contextMax && !call.promptOnly) {
    throw badParameter("max_tokens must be at least 1, got 0.", "max_tokens", "0");
  }
}

// Ends the answer with the token that completes the first stop text in it, and hides the stop text.
function cutAtStop(
  answer: readonly number[],
  texts: readonly string[],
  stops: readonly string[],
): Pick<Sequence, "answer" | "texts" | "stopText"> {
  if (stops.length === 0) return { answer, texts, stopText: null };
  let text = "";
  for (let i = 0; i < texts.length; i++) {
    text += texts[i]!;
    const stopText = stops.find((stop) => text.includes(stop));
    if (stopText === undefined) continue;
    const kept = answer.slice(0, i + 1);
    return { answer: kept, texts: clipTexts(texts.slice(0, i + 1), text.indexOf(stopText)), stopText };
  }
  return { answer, texts, stopText: null };
}

// Shows only the first `length` characters of consecutive texts.
function clipTexts(texts: readonly string[], length: number): string[] {
  let shown = 0;
  return texts.map((text) => {
    const visible = text.slice(0, Math.max(0, length - shown));
    shown += text.length;
    return visible;
  });
}

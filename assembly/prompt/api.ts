// Which inference API a request speaks, from its path.
import { ascii } from "../text/text";

/** Not an inference API: the body is not read, the pick is by load. */
export const API_OTHER: u32 = 0;
/** OpenAI POST …/chat/completions. */
export const API_CHAT: u32 = 1;
/** OpenAI POST …/completions. */
export const API_COMPLETIONS: u32 = 2;
/** OpenAI POST …/responses. */
export const API_RESPONSES: u32 = 3;
/** OpenAI POST …/conversations. */
export const API_CONVERSATIONS: u32 = 4;
/** OpenAI POST …/embeddings. */
export const API_EMBEDDINGS: u32 = 5;
/** OpenAI POST …/images/generations. */
export const API_IMAGES: u32 = 6;
/** Anthropic POST …/v1/messages. */
export const API_ANTHROPIC_MESSAGES: u32 = 7;
/** Anthropic POST …/v1/messages/count_tokens: tokenises only. */
export const API_ANTHROPIC_COUNT_TOKENS: u32 = 8;
/** vLLM POST …/inference/v1/generate. */
export const API_VLLM_GENERATE: u32 = 9;
/** SGLang POST /generate. */
export const API_SGLANG_GENERATE: u32 = 10;
/** vLLM POST …/tokenize: tokenises only. */
export const API_TOKENIZE: u32 = 11;
/** vLLM, Jina and Cohere POST …/rerank. */
export const API_RERANK: u32 = 12;
/** vLLM POST …/score. */
export const API_SCORE: u32 = 13;
/** vLLM POST …/pooling. */
export const API_POOLING: u32 = 14;
/** vLLM POST …/classify. */
export const API_CLASSIFY: u32 = 15;
/** vLLM POST …/chat/completions/render: tokenises only. */
export const API_CHAT_RENDER: u32 = 16;
/** vLLM POST …/completions/render: tokenises only. */
export const API_COMPLETIONS_RENDER: u32 = 17;

/**
 * The API of a POST to the path of `bytes` bytes at `ptr`. The longest matching suffix of whole segments wins,
 * as in llm-d's parser registry (llm-d-router pkg/epp/handlers, longest suffix), so that mounted prefixes
 * (/openai/v1/…, /v1/projects/…/) work. The query string and one trailing slash do not count. /generate is
 * SGLang's only as the whole path, as there: …/models/x/generate is another server's.
 */
export function apiOfPath(ptr: usize, bytes: u32): u32 {
  bytes = pathBytes(ptr, bytes);
  if (ends(ptr, bytes, "/chat/completions")) return API_CHAT;
  if (ends(ptr, bytes, "/completions")) return API_COMPLETIONS;
  if (ends(ptr, bytes, "/responses")) return API_RESPONSES;
  if (ends(ptr, bytes, "/v1/messages")) return API_ANTHROPIC_MESSAGES;
  if (ends(ptr, bytes, "/embeddings")) return API_EMBEDDINGS;
  if (ends(ptr, bytes, "/inference/v1/generate")) return API_VLLM_GENERATE;
  if (bytes == 9 && ends(ptr, bytes, "/generate")) return API_SGLANG_GENERATE;
  if (ends(ptr, bytes, "/v1/messages/count_tokens")) return API_ANTHROPIC_COUNT_TOKENS;
  if (ends(ptr, bytes, "/tokenize")) return API_TOKENIZE;
  if (ends(ptr, bytes, "/rerank")) return API_RERANK;
  if (ends(ptr, bytes, "/score")) return API_SCORE;
  if (ends(ptr, bytes, "/pooling")) return API_POOLING;
  if (ends(ptr, bytes, "/classify")) return API_CLASSIFY;
  if (ends(ptr, bytes, "/conversations")) return API_CONVERSATIONS;
  if (ends(ptr, bytes, "/images/generations")) return API_IMAGES;
  if (ends(ptr, bytes, "/chat/completions/render")) return API_CHAT_RENDER;
  if (ends(ptr, bytes, "/completions/render")) return API_COMPLETIONS_RENDER;
  return API_OTHER;
}

const T_CHAT = ascii("/v1/chat/completions");
const T_COMPLETIONS = ascii("/v1/completions");
const T_MESSAGES = ascii("/v1/messages");
const T_SGLANG_GENERATE = ascii("/generate");

/** The path (a Text) at which engines themselves serve the API; 0 for those of which no request goes out twice. */
export function apiPath(api: u32): usize {
  switch (api) {
    case API_CHAT:
      return T_CHAT;
    case API_COMPLETIONS:
      return T_COMPLETIONS;
    case API_ANTHROPIC_MESSAGES:
      return T_MESSAGES;
    case API_SGLANG_GENERATE:
      return T_SGLANG_GENERATE;
    default:
      return 0;
  }
}

/**
 * Whether an engine that serves this API keeps the prompt's KV cache, so that noting where it went is of use.
 * Not so for tokenising and counting, for image generation, and for cross-encoders.
 */
export function apiKeepsPrefix(api: u32): bool {
  switch (api) {
    case API_CHAT:
    case API_COMPLETIONS:
    case API_RESPONSES:
    case API_EMBEDDINGS:
    case API_ANTHROPIC_MESSAGES:
    case API_VLLM_GENERATE:
    case API_SGLANG_GENERATE:
    case API_POOLING:
    case API_CLASSIFY:
      return true;
    default:
      return false;
  }
}

/**
 * Whether a body that does not fit the API is refused here. llm-d forwards the bodies of the other APIs
 * unread (count_tokens, and paths that only its passthrough parser takes): the engine answers for itself.
 */
export function apiIsChecked(api: u32): bool {
  switch (api) {
    case API_OTHER:
    case API_ANTHROPIC_COUNT_TOKENS:
    case API_TOKENIZE:
    case API_RERANK:
    case API_SCORE:
    case API_POOLING:
    case API_CLASSIFY:
      return false;
    default:
      return true;
  }
}

/** Whether a body without a model is refused, as llm-d's director does; the engines' own APIs name none. */
export function apiNeedsModel(api: u32): bool {
  return (
    apiIsChecked(api) && api != API_VLLM_GENERATE && api != API_SGLANG_GENERATE && api != API_CONVERSATIONS
  );
}

/** Whether an answer needs the prompt's computation and nothing more: no token is generated. */
export function apiAnswersAtOnce(api: u32): bool {
  return (
    api == API_EMBEDDINGS ||
    api == API_RERANK ||
    api == API_SCORE ||
    api == API_POOLING ||
    api == API_CLASSIFY
  );
}

// Length of the path without its query string and one trailing slash.
function pathBytes(ptr: usize, bytes: u32): u32 {
  for (let i: u32 = 0; i < bytes; i++) {
    const byte = load<u8>(ptr + i);
    if (byte == 0x3f || byte == 0x23) {
      bytes = i;
      break;
    }
  }
  return bytes > 1 && load<u8>(ptr + bytes - 1) == 0x2f ? bytes - 1 : bytes;
}

function ends(ptr: usize, bytes: u32, suffix: string): bool {
  const count = <u32>suffix.length;
  if (bytes < count) return false;
  const chars = changetype<usize>(suffix);
  ptr += bytes - count;
  // From the end: most paths differ there.
  for (let i = count; i > 0; i--) {
    if (<u16>load<u8>(ptr + i - 1) != load<u16>(chars + ((<usize>i - 1) << 1))) return false;
  }
  return true;
}

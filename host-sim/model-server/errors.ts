// Errors as vLLM answers them: status, type and message, in OpenAI's or Anthropic's shape.

/** An error answer of the model server. Messages follow what vLLM 0.32.0 was seen to answer. */
export class ApiError extends Error {
  readonly status: number;
  /** vLLM's error type: "BadRequestError", "NotFoundError", "Bad Request" (validation), … */
  readonly type: string;
  readonly param: string | null;

  constructor(status: number, type: string, message: string, param: string | null = null) {
    super(message);
    this.status = status;
    this.type = type;
    this.param = param;
  }

  /**
   * Body in OpenAI's shape, or in Anthropic's for /v1/messages. Validation errors keep OpenAI's everywhere.
   */
  body(shape: "openai" | "anthropic"): string {
    if (shape === "anthropic" && this.type !== VALIDATION_TYPE) {
      return JSON.stringify({ type: "error", error: { type: this.type, message: this.message } });
    }
    return JSON.stringify({
      error: { message: this.message, type: this.type, param: this.param, code: this.status },
    });
  }
}

const VALIDATION_TYPE = "Bad Request";

/** A value that the request model does not accept (FastAPI's validation, reported by vLLM as 400). */
export function validationError(
  type: string,
  location: string,
  message: string,
  input: string,
  context?: string,
): ApiError {
  const more = context === undefined ? "" : `, 'ctx': {'error': '${context}'}`;
  const detail = `{'type': '${type}', 'loc': '${location}', 'msg': '${message}', 'input': '${input}'${more}}`;
  return new ApiError(400, VALIDATION_TYPE, `1 validation error:\n  ${detail}`, location);
}

/** A field of the right type with a value that cannot be served. */
export function badParameter(message: string, name: string, value?: string): ApiError {
  const suffix = value === undefined ? `(parameter=${name})` : `(parameter=${name}, value=${value})`;
  return new ApiError(400, "BadRequestError", `${message} ${suffix}`, name);
}

/** 400 without a parameter. */
export function badRequest(message: string): ApiError {
  return new ApiError(400, "BadRequestError", message);
}

/** The request names a model that is not served. */
export function modelNotFound(model: string, served: string): ApiError {
  return new ApiError(
    404,
    "NotFoundError",
    `The model \`${model}\` does not exist. Valid aliases: ${served}.`,
    "model",
  );
}

/**
 * The server's limit of requests in flight (`--max-num-queued-reqs`) is reached. No Retry-After, as in vLLM.
 */
export function engineBusy(): ApiError {
  return new ApiError(
    503,
    "Service Unavailable",
    "The engine is currently busy and cannot accept new requests. " +
      "Please try again later or on a different instance.",
  );
}

/** What a request gets whose engine died under it. */
export function engineDead(): ApiError {
  return new ApiError(
    500,
    "InternalServerError",
    "EngineCore encountered an issue. See stack trace for the root cause.",
  );
}

/**
 * The prompt's KV could not be had from another replica. Unlike a dead engine this ends one request, whose stream
 * opens before the error, as was seen.
 */
export class KvLoadError extends ApiError {
  constructor(message = "Internal server error") {
    super(500, "InternalServerError", message);
  }
}

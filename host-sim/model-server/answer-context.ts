// What every API's answer needs to know of its request, and how answers fail.
import type { GenerationCall } from "./calls.ts";
import type { ApiError } from "./errors.ts";
import type { Exchange } from "./exchange.ts";

/** A request that is being answered. */
export interface AnswerContext {
  readonly exchange: Exchange;
  readonly call: GenerationCall;
  /** Id of the answer: the API's prefix and the request's X-Request-Id, or a random one. */
  readonly id: string;
  readonly createdSeconds: number;
  /** Model as the client named it, or the server's. */
  readonly modelName: string;
  readonly fingerprint: string;
  readonly keepAliveCommentMs: number;
}

/** There is no answer, because the engine died or the prompt's KV could not be had. */
export function failWhole({ exchange }: AnswerContext, error: ApiError): void {
  exchange.send(error.status, error.body("openai"), "application/json");
}

/** The same during a stream: the status is out, so the error comes as an event, then [DONE]. */
export function failStream({ exchange }: AnswerContext, error: ApiError): void {
  exchange.write(`data: ${error.body("openai")}\n\ndata: [DONE]\n\n`);
  exchange.end();
}

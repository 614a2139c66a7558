// Sends planned requests at their time, whatever became of the ones before (open loop), and measures the
// answers.
import { Agent, type Dispatcher } from "undici";
import type { FailureKind, RequestResult } from "./result.ts";
import { EventParser } from "./sse.ts";
import type { PlannedRequest } from "./types.ts";

/** Requests in flight; further ones fail as "overload" and are not sent. */
export const IN_FLIGHT_MAX = 4096;
/** Silence after which a request is given up. */
const SILENCE_MS_MAX = 60_000;
/** Bytes of an error response that are read. */
const ERROR_BYTES_MAX = 4096;
/** A time that was not measured. */
const NONE = Number.NaN;

/** Settings of a load run. */
export interface LoadOptions {
  /** Base URL, without a path. */
  readonly url: string;
  /** A new connection for every request, as from many clients; else connections are kept and reused. */
  readonly freshConnections?: boolean;
  /** Called after each answer. */
  readonly onResult?: (result: RequestResult, done: number) => void;
  readonly signal?: AbortSignal;
}

/** Sends every request of the plan at its time and waits for all answers. Results are in the plan's order. */
export async function runLoad(
  plan: readonly PlannedRequest[],
  options: LoadOptions,
): Promise<RequestResult[]> {
  const agent = new Agent({
    connections: null,
    pipelining: 1,
    // Below the 4 s and more that proxies and servers keep idle connections, so that none is reused while it
    // closes.
    keepAliveTimeout: 3000,
    headersTimeout: SILENCE_MS_MAX,
    bodyTimeout: SILENCE_MS_MAX,
    connect: { timeout: 5000 },
  });
  const startMs = performance.now();
  const running: Promise<RequestResult>[] = [];
  let inFlight = 0;
  let done = 0;
  const send = async (request: PlannedRequest): Promise<RequestResult> => {
    inFlight++;
    const result =
      inFlight > IN_FLIGHT_MAX
        ? failedResult(request, startMs, "overload", `${inFlight} requests in flight`)
        : await new Measurement(request, startMs).run(agent, options);
    inFlight--;
    options.onResult?.(result, ++done);
    return result;
  };
  const { promise: aborted, release } = abortion(options.signal);
  let timer: NodeJS.Timeout | undefined;
  // A timer may fire a fraction of a millisecond early: nothing is sent before its time.
  const sleepUntil = async (atMs: number): Promise<void> => {
    for (let leftMs = atMs - performance.now(); leftMs > 0; leftMs = atMs - performance.now()) {
      await new Promise((resolve) => (timer = setTimeout(resolve, Math.ceil(leftMs))));
    }
  };
  try {
    for (const request of plan) {
      await Promise.race([sleepUntil(startMs + request.atMs), aborted]);
      running.push(send(request));
    }
    return await Promise.race([Promise.all(running), aborted]);
  } finally {
    release();
    clearTimeout(timer);
    // Ends what is still in flight after an abort: those measurements settle as failures, unheard.
    await agent.destroy();
  }
}

/** A promise that rejects when the signal fires; `release` forgets about it. */
function abortion(signal: AbortSignal | undefined): { promise: Promise<never>; release: () => void } {
  let release = (): void => undefined;
  const promise = new Promise<never>((_, reject) => {
    if (signal === undefined) return;
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", abort);
    release = () => signal.removeEventListener("abort", abort);
    if (signal.aborted) abort();
  });
  promise.catch(() => undefined);
  return { promise, release };
}

interface StreamChunk {
  readonly choices?: readonly { readonly delta?: { readonly content?: string } }[];
  readonly usage?: {
    readonly prompt_tokens: number;
    readonly completion_tokens: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number } | null;
  } | null;
  readonly system_fingerprint?: string | null;
  readonly error?: { readonly message?: string };
}

/** The failure that a measurement ends with. */
class RequestFailure extends Error {
  readonly kind: FailureKind;
  constructor(kind: FailureKind, detail: string) {
    super(detail);
    this.kind = kind;
  }
}

class Measurement {
  private readonly request: PlannedRequest;
  private readonly startMs: number;
  private sentAtMs = NONE;
  private firstTokenAtMs = NONE;
  private lastTokenAtMs = NONE;
  private endAtMs = NONE;
  private status = 0;
  private servedBy = "";
  private text = "";
  private finished = false;
  private usage: StreamChunk["usage"];

  constructor(request: PlannedRequest, startMs: number) {
    this.request = request;
    this.startMs = startMs;
  }

  async run(agent: Agent, options: LoadOptions): Promise<RequestResult> {
    this.sentAtMs = performance.now();
    try {
      await this.exchange(agent, options);
      return this.result(null, "");
    } catch (error) {
      return this.result(
        classify(error, this.status),
        error instanceof Error ? error.message : String(error),
      );
    }
  }

  private async exchange(agent: Agent, options: LoadOptions): Promise<void> {
    const response = await agent.request({
      origin: options.url,
      path: this.request.path,
      method: "POST",
      headers: { "content-type": "application/json", accept: "text/event-stream" },
      body: this.request.body,
      reset: options.freshConnections ?? false,
    });
    this.status = response.statusCode;
    const servedBy = response.headers["x-served-by"];
    if (typeof servedBy === "string") this.servedBy = servedBy;
    if (response.statusCode !== 200) throw await statusFailure(response);
    const parser = new EventParser((data) => this.takeEvent(data));
    for await (const chunk of response.body as AsyncIterable<Uint8Array>) parser.push(chunk);
    this.endAtMs = performance.now();
    if (!this.finished) throw new RequestFailure("incomplete", "the stream ended without [DONE]");
    if (this.text !== this.request.answer) {
      throw new RequestFailure("wrong-answer", `${this.text.length} characters, not the expected answer`);
    }
  }

  private takeEvent(data: string): void {
    if (data === "[DONE]") {
      this.finished = true;
      return;
    }
    const chunk = JSON.parse(data) as StreamChunk;
    if (chunk.error !== undefined) throw new RequestFailure("stream-error", chunk.error.message ?? data);
    const content = chunk.choices?.[0]?.delta?.content ?? "";
    if (content !== "") {
      const nowMs = performance.now();
      if (Number.isNaN(this.firstTokenAtMs)) this.firstTokenAtMs = nowMs;
      this.lastTokenAtMs = nowMs;
      this.text += content;
    }
    if (chunk.usage) this.usage = chunk.usage;
    if (this.servedBy === "" && chunk.system_fingerprint) this.servedBy = chunk.system_fingerprint;
  }

  private result(failure: FailureKind | null, failureDetail: string): RequestResult {
    const outputTokens = this.usage?.completion_tokens ?? 0;
    const { index, kind, session, turn, atMs } = this.request;
    return {
      index,
      kind,
      session,
      turn,
      sentMs: this.sentAtMs - this.startMs,
      lateMs: this.sentAtMs - this.startMs - atMs,
      timeToFirstTokenMs: this.firstTokenAtMs - this.sentAtMs,
      endToEndMs: failure === null ? this.endAtMs - this.sentAtMs : NONE,
      timePerTokenMs:
        outputTokens > 1 ? (this.lastTokenAtMs - this.firstTokenAtMs) / (outputTokens - 1) : NONE,
      promptTokens: this.usage?.prompt_tokens ?? 0,
      cachedTokens: this.usage?.prompt_tokens_details?.cached_tokens ?? 0,
      outputTokens,
      servedBy: this.servedBy,
      status: this.status,
      failure,
      failureDetail,
    };
  }
}

async function statusFailure(response: Dispatcher.ResponseData): Promise<RequestFailure> {
  const text = (await response.body.text()).slice(0, ERROR_BYTES_MAX);
  const kind = response.statusCode >= 500 ? "http-5xx" : "http-4xx";
  return new RequestFailure(kind, `${response.statusCode} ${text}`);
}

function classify(error: unknown, status: number): FailureKind {
  if (error instanceof RequestFailure) return error.kind;
  const code = (error as { code?: string }).code ?? "";
  if (code === "ECONNREFUSED" || code === "UND_ERR_CONNECT_TIMEOUT") return "connect";
  if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT") return "timeout";
  return status === 200 ? "incomplete" : "reset";
}

function failedResult(
  request: PlannedRequest,
  startMs: number,
  failure: FailureKind,
  failureDetail: string,
): RequestResult {
  const { index, kind, session, turn, atMs } = request;
  const sentMs = performance.now() - startMs;
  return {
    ...{ index, kind, session, turn, sentMs, lateMs: sentMs - atMs },
    ...{ timeToFirstTokenMs: NONE, endToEndMs: NONE, timePerTokenMs: NONE },
    ...{ promptTokens: 0, cachedTokens: 0, outputTokens: 0, servedBy: "", status: 0, failure, failureDetail },
  };
}

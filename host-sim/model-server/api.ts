// A replica's APIs: how one request is led from its path to its answer, and what is recorded of it.
import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { modelList } from "./answer-models.ts";
import { poolingCall, type PoolingApi, poolingSink } from "./answer-pooling.ts";
import { detokenize, tokenize } from "./answer-tokenize.ts";
import { hashText } from "./block-hash.ts";
import { type JsonObject, parseBody } from "./body.ts";
import { readCountTokens } from "./calls.ts";
import type { KvConnector, KvLeg } from "./disaggregation/leg.ts";
import type { Clock } from "./driver.ts";
import { ApiError, modelNotFound } from "./errors.ts";
import { BodyTooLargeError, Exchange, readBody } from "./exchange.ts";
import type { GenerationService } from "./generation.ts";
import type { GenerationJob, GenerationSink } from "./generation-types.ts";
import { kvEventSources } from "./kv-events/config.ts";
import type { ReplicaEvents } from "./kv-events/replica-events.ts";
import { HttpMetrics } from "./http-metrics.ts";
import { MetricsPage } from "./metrics-page.ts";
import { type Faults, type ReplicaConfig, VLLM_VERSION } from "./replica-types.ts";
import { GENERATION_APIS, type GenerationApi, OTHER_ROUTES, POOLING_APIS } from "./routes.ts";

/** Stands for every model that a replica does not serve, so that its counts are bounded. */
export const UNKNOWN_MODEL = "(unknown)";

/** What the APIs of one process stand on. */
export interface ApiParts {
  readonly config: ReplicaConfig;
  readonly clock: Clock;
  readonly service: GenerationService;
  readonly connector: KvConnector | undefined;
  readonly events: ReplicaEvents | undefined;
  /** May change at any time; `errors` counts down here. */
  readonly faults: Faults;
  /** Calls by the model that they named are counted here. */
  readonly callsByModel: Map<string, number>;
}

/** The APIs of one process of a replica; a restart begins with new ones. */
export class ReplicaApi {
  private readonly config: ReplicaConfig;
  private readonly clock: Clock;
  private readonly service: GenerationService;
  private readonly connector: KvConnector | undefined;
  private readonly faults: Faults;
  private readonly http = new HttpMetrics();
  private readonly page = new MetricsPage();
  private readonly startSeconds = Date.now() / 1000;
  private readonly fingerprint: string;

  constructor(private readonly parts: ApiParts) {
    this.config = parts.config;
    this.clock = parts.clock;
    this.service = parts.service;
    this.connector = parts.connector;
    this.faults = parts.faults;
    const nameHash = hashText(parts.config.name, 0).toString(16).padStart(8, "0");
    this.fingerprint = `vllm-${VLLM_VERSION}-${nameHash}`;
  }

  /** Answers a request, and records it once it is over. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "/").split("?", 1)[0]!;
    const exchange = new Exchange(request, response, this.responseHeaders(request), this.clock());
    const handler = handlerOf(path);
    response.on("close", () => this.record(exchange, handler));
    try {
      await this.dispatch(path, exchange);
    } catch (error) {
      const shape = GENERATION_APIS.get(path)?.shape ?? "openai";
      if (error instanceof ApiError) exchange.send(error.status, error.body(shape), "application/json");
      else if (error instanceof BodyTooLargeError) exchange.json(413, { detail: error.message });
      else if (!request.destroyed) exchange.send(500, "Internal Server Error", "text/plain; charset=utf-8");
    }
  }

  private responseHeaders(request: IncomingMessage): Record<string, string> {
    const headers: Record<string, string> = {
      server: "uvicorn",
      vary: "Origin",
      "x-served-by": this.config.name,
    };
    const id = request.headers["x-request-id"];
    if (this.config.requestIdHeaders && typeof id === "string") headers["x-request-id"] = id;
    return headers;
  }

  private async dispatch(path: string, exchange: Exchange): Promise<void> {
    const generation = GENERATION_APIS.get(path);
    const pooling = this.config.poolingApis ? POOLING_APIS.get(path) : undefined;
    const method = generation || pooling ? "POST" : OTHER_ROUTES.get(path);
    if (method === undefined) return exchange.json(404, { detail: "Not Found" });
    if (exchange.request.method !== method) {
      return exchange.json(405, { detail: "Method Not Allowed" }, { allow: method });
    }
    if (generation === undefined && pooling === undefined) return this.serveOther(path, exchange);
    if (await this.misbehave(exchange)) return;
    const text = await this.readText(exchange);
    if (generation !== undefined) await this.generate(generation, text, exchange);
    else if (pooling !== undefined) this.pool(pooling, parseBody(text), exchange);
  }

  private async misbehave(exchange: Exchange): Promise<boolean> {
    if (this.faults.resetOnRequest) {
      exchange.reset();
      return true;
    }
    if (this.faults.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, this.faults.delayMs));
    if (this.faults.errors <= 0) return false;
    this.faults.errors--;
    exchange.request.resume();
    const error = new ApiError(this.faults.errorStatus, "InternalServerError", "Injected fault");
    exchange.send(error.status, error.body("openai"), "application/json");
    return true;
  }

  private async readJson(exchange: Exchange): Promise<JsonObject> {
    return parseBody(await this.readText(exchange));
  }

  private async readText(exchange: Exchange): Promise<string> {
    const text = await readBody(exchange.request);
    const type = exchange.header("content-type")?.split(";", 1)[0]?.trim().toLowerCase();
    if (type !== "application/json" && type !== undefined) {
      const message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed";
      throw new ApiError(400, "Bad Request", message);
    }
    return text;
  }

  private async generate(api: GenerationApi, text: string, exchange: Exchange): Promise<void> {
    const body = parseBody(text);
    const asked = api.read(body, this.config.textModel);
    const lora = this.resolveModel(asked.model);
    const id = this.answerId(api.idPrefix, exchange);
    const gone = new AbortController();
    exchange.onAbort(() => gone.abort());
    const { indexSeparator } = api;
    const leg = await this.connector?.legOf({
      body,
      text,
      call: asked,
      lora,
      id,
      indexSeparator,
      signal: gone.signal,
    });
    const call = leg?.call ?? asked;
    const context = {
      exchange,
      call,
      id,
      createdSeconds: Math.floor(Date.now() / 1000),
      modelName: call.model ?? this.config.modelName,
      fingerprint: this.fingerprint,
      keepAliveCommentMs: this.config.keepAliveCommentMs,
    };
    this.run(exchange, call, lora, () => api.sink(context), leg);
  }

  private pool(api: PoolingApi, body: JsonObject, exchange: Exchange): void {
    const input = api.read(body, this.config.textModel);
    const call = poolingCall(body, input);
    const lora = this.resolveModel(call.model);
    const head = {
      id: this.answerId(api.idPrefix, exchange),
      createdSeconds: Math.floor(Date.now() / 1000),
      modelName: call.model ?? this.config.modelName,
    };
    this.run(exchange, call, lora, () => poolingSink(api, input, head, exchange));
  }

  private run(
    exchange: Exchange,
    call: GenerationJob["call"],
    lora: string | undefined,
    openSink: () => GenerationSink,
    leg?: KvLeg,
  ): void {
    if (exchange.closed) {
      leg?.refused();
      return;
    }
    const rankText = exchange.header("x-data-parallel-rank");
    const rank = rankText === undefined ? undefined : Number(rankText);
    const open = (): GenerationSink => {
      const sink = this.withFaults(openSink(), exchange);
      return leg === undefined ? sink : leg.wrap(sink);
    };
    const job = this.startJob(call, lora, rank, open, leg);
    exchange.onAbort(() => this.service.abort(job));
  }

  private startJob(
    call: GenerationJob["call"],
    lora: string | undefined,
    rank: number | undefined,
    openSink: () => GenerationSink,
    leg: KvLeg | undefined,
  ): GenerationJob {
    try {
      return this.service.start(call, lora, rank, openSink, leg);
    } catch (error) {
      leg?.refused();
      throw error;
    }
  }

  private withFaults(sink: GenerationSink, exchange: Exchange): GenerationSink {
    let left = this.faults.resetAfterTokens;
    if (left < 0) return sink;
    return {
      token: (sequence, text, last) => {
        if (left-- > 0) sink.token(sequence, text, last);
        else exchange.reset();
      },
      done: (job) => sink.done(job),
      failed: (error) => sink.failed(error),
    };
  }

  // Undefined = the base model, also when no model is named.
  private resolveModel(model: string | undefined): string | undefined {
    const isBase = model === undefined || model === "" || model === this.config.modelName;
    const isServed = isBase || this.config.loraModules.includes(model);
    const counted = isServed ? (model ?? "") : UNKNOWN_MODEL;
    const { callsByModel } = this.parts;
    callsByModel.set(counted, (callsByModel.get(counted) ?? 0) + 1);
    if (!isServed) throw modelNotFound(model, this.config.modelName);
    return isBase ? undefined : model;
  }

  private answerId(prefix: string, exchange: Exchange): string {
    return prefix + (exchange.header("x-request-id") ?? randomBytes(8).toString("hex"));
  }

  private async serveOther(path: string, exchange: Exchange): Promise<void> {
    const { textModel } = this.config;
    switch (path) {
      case "/health":
      case "/ping":
        return exchange.send(this.service.alive ? 200 : 503, "", null);
      case "/load":
        return exchange.json(200, { server_load: this.service.inFlight });
      case "/version":
        return exchange.json(200, { version: VLLM_VERSION });
      case "/kv_event_sources":
        return exchange.json(200, kvEventSources(this.config.kvEvents, this.parts.events?.sources ?? []));
      case "/v1/models":
        return exchange.json(200, modelList(this.config));
      case "/metrics":
        return exchange.send(200, this.metricsText(), "text/plain; version=0.0.4; charset=utf-8");
      case "/tokenize":
        return exchange.json(
          200,
          tokenize(await this.readJson(exchange), this.config.modelTokensMax, textModel),
        );
      case "/detokenize":
        return exchange.json(200, detokenize(await this.readJson(exchange), textModel));
      case "/v1/messages/count_tokens": {
        const count = readCountTokens(await this.readJson(exchange), textModel).length;
        return exchange.json(200, {
          input_tokens: count,
          context_management: { original_input_tokens: count },
        });
      }
      default: {
        exchange.request.resume();
        const done = this.service.engines.map(({ engine }) => engine.cache.reset());
        return exchange.json(200, { success: done.every((each) => each) });
      }
    }
  }

  private metricsText(): string {
    const now = this.clock();
    for (const { engine } of this.service.engines) engine.advance(now);
    const source = {
      modelName: this.config.modelName,
      engines: this.service.engines,
      http: this.http,
      rejections: this.service.rejections,
      lorasMax: this.config.engine.lorasMax,
      loraEnabled: this.config.loraModules.length > 0,
      startSeconds: this.startSeconds,
      connector: this.connector,
    };
    return this.page.render(source, Date.now() / 1000);
  }

  private record(exchange: Exchange, handler: string): void {
    this.http.record({
      handler,
      method: exchange.request.method ?? "GET",
      status: exchange.status,
      requestBytes: Number(exchange.header("content-length") ?? 0),
      responseBytes: exchange.responseBytes,
      seconds: (this.clock() - exchange.startedMs) / 1000,
    });
  }
}

// The route for metrics; paths that do not exist share one name, which bounds the label sets.
function handlerOf(path: string): string {
  return GENERATION_APIS.has(path) || POOLING_APIS.has(path) || OTHER_ROUTES.has(path) ? path : "none";
}

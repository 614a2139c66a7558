// The router of one stream: chooses a host, replays the request on retries, and feeds the response back.
import type { IncomingMessage } from "node:http";
import { ResponseFlag, type HeaderMap, type Stream, type UpstreamSink } from "../host/index.ts";
import { Attempt } from "./attempt.ts";
import { OverrideList, type Cluster, type UpstreamHost } from "./cluster.ts";
import { responseHeaders, trailers as messageTrailers } from "./headers.ts";
import { RetryBudget, type AttemptFailure, type RouteRetry } from "./retry-policy.ts";

/** Settings of the route and cluster that a router follows. */
export interface RouterSettings {
  readonly cluster: Cluster;
  /** Header with the list of hosts; undefined = the policy alone chooses. */
  readonly overrideHeader: string | undefined;
  readonly retry: RouteRetry | undefined;
  readonly connectTimeoutMs: number;
  /** Request bytes kept for a retry; beyond them the first answer stands (`retry_or_shadow_abandoned`). */
  readonly replayBytesMax: number;
  /** Headers the replica does not get to see. */
  readonly upstreamHeadersToRemove: readonly string[];
  /** Route timeout in ms, 0 = none; the header x-envoy-upstream-rq-timeout-ms replaces it. */
  readonly timeoutMs: number;
  readonly random: () => number;
}

const TIMEOUT_HEADER = "x-envoy-upstream-rq-timeout-ms";

/** Takes what the filter lets through and answers the stream. One for each stream. */
export class Router implements UpstreamSink {
  private stream!: Stream;
  private headerMap!: HeaderMap;
  private list!: OverrideList;
  private budget!: RetryBudget;
  private attempt: Attempt | null = null;
  private response: IncomingMessage | null = null;
  private readonly tried = new Set<UpstreamHost>();
  private attempts = 0;
  /** Body so far, for replay; null once it outgrew the limit. */
  private replay: Uint8Array[] | null = [];
  private replayBytes = 0;
  private trailerMap: HeaderMap | null = null;
  private requestEnded = false;
  private headersOnly = false;
  private over = false;
  private timers: NodeJS.Timeout[] = [];

  /** @param pauseClient stops (true) or resumes reading the client's request body */
  constructor(
    private readonly settings: RouterSettings,
    private readonly pauseClient: (paused: boolean) => void,
  ) {}

  /** Names the stream this router answers; called before its first frame. */
  serve(stream: Stream): void {
    this.stream = stream;
  }

  headers(headers: HeaderMap, end: boolean): void {
    this.headerMap = headers;
    this.headersOnly = end;
    this.requestEnded = end;
    this.list = new OverrideList(
      this.settings.overrideHeader === undefined ? undefined : headers.get(this.settings.overrideHeader),
    );
    this.budget = new RetryBudget(this.settings.retry, headers);
    const asked = headers.get(TIMEOUT_HEADER);
    headers.remove(TIMEOUT_HEADER);
    const timeoutMs = asked !== undefined && /^\d+$/.test(asked) ? Number(asked) : this.settings.timeoutMs;
    if (timeoutMs > 0) this.timers.push(setTimeout(() => this.timedOut(), timeoutMs));
    this.start();
  }

  data(bytes: Uint8Array, end: boolean): void {
    if (bytes.length > 0) {
      this.keepForReplay(bytes);
      if (this.attempt !== null && !this.attempt.write(bytes)) this.pauseClient(true);
    }
    if (end) this.endRequest();
  }

  trailers(trailers: HeaderMap): void {
    this.trailerMap = trailers;
    this.endRequest();
  }

  pauseReading(paused: boolean): void {
    if (paused) this.response?.pause();
    else this.response?.resume();
  }

  /** The stream is over: whatever is still in flight is of no use. */
  end(): void {
    if (this.over) return;
    this.over = true;
    for (const timer of this.timers) clearTimeout(timer);
    this.attempt?.cancel();
    this.replay = null;
  }

  private start(): void {
    const host = this.list.take(this.settings.cluster, this.tried);
    const { info } = this.stream;
    if (host === undefined) {
      info.responseFlags |= ResponseFlag.NO_HEALTHY_UPSTREAM;
      this.stream.routerReply(503, "no_healthy_upstream", "no healthy upstream");
      return;
    }
    this.tried.add(host);
    this.attempts++;
    info.upstreamAddress = host.address;
    info.attemptCount = this.attempts;
    const what = {
      headers: this.headerMap,
      removeHeaders: this.settings.upstreamHeadersToRemove,
      hasBody: !this.headersOnly,
      connectTimeoutMs: this.settings.connectTimeoutMs,
    };
    const attempt = new Attempt(host, what, {
      response: (message) => this.onResponse(attempt, message),
      failed: (connected) => this.onFailure(connected ? "reset" : "connect-failure"),
      broken: () => this.stream.upstreamReset(),
      drained: () => this.pauseClient(false),
    });
    this.attempt = attempt;
    if (!this.headersOnly) this.sendSoFar(attempt);
  }

  /** Gives a new attempt everything the request has brought so far. */
  private sendSoFar(attempt: Attempt): void {
    let flowing = true;
    for (const bytes of this.replay ?? []) flowing = attempt.write(bytes);
    this.pauseClient(!flowing);
    if (this.requestEnded) attempt.end(this.trailerMap);
  }

  private endRequest(): void {
    this.requestEnded = true;
    this.attempt?.end(this.trailerMap);
  }

  private keepForReplay(bytes: Uint8Array): void {
    if (this.replay === null) return;
    this.replayBytes += bytes.length;
    if (this.replayBytes <= this.settings.replayBytesMax) this.replay.push(bytes);
    else this.replay = null;
    // Between two attempts the body is nowhere but here: without it there is nothing to send.
    if (this.replay === null && this.attempt === null) this.stream.upstreamReset();
  }

  /** @returns whether another attempt takes over */
  private retry(failure: AttemptFailure): boolean {
    if (this.replay === null || this.over) return false;
    const waitMs = this.budget.take(failure, this.settings.random);
    if (waitMs === null) {
      if (this.attempts > 1 && this.budget.covers(failure)) {
        this.stream.info.responseFlags |= ResponseFlag.UPSTREAM_RETRY_LIMIT_EXCEEDED;
      }
      return false;
    }
    this.attempt = null;
    this.pauseClient(true);
    this.timers.push(
      setTimeout(() => {
        if (!this.over) this.start();
      }, waitMs),
    );
    return true;
  }

  private onFailure(failure: "connect-failure" | "reset"): void {
    if (this.over || this.retry(failure)) return;
    if (failure === "reset") {
      this.stream.upstreamReset();
      return;
    }
    this.stream.info.responseFlags |= ResponseFlag.UPSTREAM_CONNECTION_FAILURE;
    const again = this.attempts > 1 ? "retried and the latest reset reason" : "reset reason";
    const body = `upstream connect error or disconnect/reset before headers. ${again}: remote connection failure`;
    this.stream.routerReply(503, "upstream_reset_before_response_started{remote_connection_failure}", body);
  }

  private onResponse(attempt: Attempt, message: IncomingMessage): void {
    if (this.over) return;
    const status = message.statusCode ?? 0;
    if (status >= 500 && this.retry({ status })) {
      attempt.cancel();
      return;
    }
    this.response = message;
    // Once an answer has begun there is no other attempt.
    this.replay = null;
    const bodiless = status === 204 || status === 304 || message.headers["content-length"] === "0";
    const only = bodiless || this.headerMap.get(":method") === "HEAD";
    message.on("data", (bytes: Buffer) => this.stream.responseBody(bytes));
    message.on("end", () => {
      attempt.finish();
      if (only) return;
      if (message.rawTrailers.length > 0) this.stream.responseTrailers(messageTrailers(message).pairs());
      else this.stream.responseBody("", true);
    });
    this.stream.responseHeaders(responseHeaders(message).pairs(), only);
  }

  private timedOut(): void {
    if (this.over) return;
    this.attempt?.cancel();
    this.stream.info.responseFlags |= ResponseFlag.UPSTREAM_REQUEST_TIMEOUT;
    this.stream.routerReply(504, "upstream_response_timeout", "upstream request timeout");
  }
}

// proxy_http_call: clusters the filter may call, replies on the root context, timeouts, lost and late replies.
import { Result } from "./abi.ts";
import type { Timer } from "./clock.ts";
import type { RootContext } from "./context.ts";
import { HeaderMap, type HeaderInput } from "./header-map.ts";
import type { Pair } from "./pairs.ts";

/** A call as its cluster receives it. */
export interface HttpCall {
  readonly cluster: string;
  readonly headers: HeaderMap;
  readonly body: Buffer;
  readonly trailers: HeaderMap;
  /** 0 = none. */
  readonly timeoutMs: number;
  /** Worker index of the caller; −1 on the main thread. */
  readonly worker: number;
  /** Answers the call; later answers are ignored. */
  respond(status: number, headers?: HeaderInput, body?: string | Uint8Array, trailers?: HeaderInput): void;
  /** The host refused the connection: Envoy's router answers 503. */
  refuse(): void;
  /** The upstream reset the stream after it was sent: the guest sees no headers. */
  reset(): void;
}

/** Answers calls to one cluster. `null` in the host's table is a cluster without hosts. */
export type ClusterHandler = (call: HttpCall) => void;

/** A reply while on_http_call_response runs. */
export interface HttpCallReply {
  readonly headers: HeaderMap;
  readonly body: Buffer;
  readonly trailers: HeaderMap | null;
}

/** Body Envoy's router gives a call whose host refuses the connection. */
const REFUSED_BODY =
  "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
const TIMEOUT_BODY = "upstream request timeout";

/** One call in flight. Nothing but the end of its VM cancels it. */
class PendingCall implements HttpCall {
  private settled = false;
  private timer: Timer | null = null;
  readonly worker: number;

  constructor(
    private readonly root: RootContext,
    private readonly token: number,
    readonly cluster: string,
    readonly headers: HeaderMap,
    readonly body: Buffer,
    readonly trailers: HeaderMap,
    readonly timeoutMs: number,
  ) {
    this.worker = root.vm.thread.index;
  }

  armTimeout(): void {
    if (this.timeoutMs === 0) return;
    this.timer = this.root.vm.thread.clock.after(this.timeoutMs, () => this.respond(504, [], TIMEOUT_BODY));
  }

  respond(
    status: number,
    headers: HeaderInput = [],
    body: string | Uint8Array = "",
    trailers?: HeaderInput,
  ): void {
    const map = new HeaderMap();
    map.add(":status", String(status));
    const given = HeaderMap.from(headers);
    for (const [name, value] of given.pairs()) map.add(name, value);
    const bytes = Buffer.from(body);
    this.settle({
      headers: map,
      body: bytes,
      trailers: trailers === undefined ? null : HeaderMap.from(trailers),
    });
  }

  refuse(): void {
    const length = String(REFUSED_BODY.length);
    this.respond(503, { "content-length": length, "content-type": "text/plain" }, REFUSED_BODY);
  }

  reset(): void {
    this.settle(null);
  }

  /** Delivers once, through the thread's event loop, so that the guest is never re-entered. */
  private settle(reply: HttpCallReply | null): void {
    if (this.settled) return;
    this.settled = true;
    this.timer?.cancel();
    this.root.vm.thread.clock.post(() => deliver(this.root, this.token, reply));
  }
}

function deliver(root: RootContext, token: number, reply: HttpCallReply | null): void {
  const { vm } = root;
  if (vm.failed || !vm.contexts.has(root.id) || !vm.has("proxy_on_http_call_response")) return;
  root.httpCallReply = reply;
  if (reply === null) root.status = { code: Result.BROKEN_CONNECTION, message: "reset" };
  const headers = reply?.headers.size ?? 0;
  const trailers = reply?.trailers?.size ?? 0;
  vm.call(root, "proxy_on_http_call_response", root.id, token, headers, reply?.body.length ?? 0, trailers);
  vm.finishCall();
  root.httpCallReply = null;
  root.status.message = "";
}

/**
 * Starts a call.
 * @returns the token, or BadArgument (unknown cluster, negative timeout, :method, :path or :authority missing) or
 *   InternalFailure (cluster without hosts: Envoy's client fails at once).
 */
export function startHttpCall(
  root: RootContext,
  cluster: string,
  headers: readonly Pair[],
  body: Buffer,
  trailers: readonly Pair[],
  timeoutMs: number,
): { result: Result; token: number } {
  const { host, clock } = root.vm.thread;
  const handler = host.clusters.get(cluster);
  if (handler === undefined || timeoutMs < 0) return { result: Result.BAD_ARGUMENT, token: 0 };
  const map = HeaderMap.from(headers);
  for (const needed of [":path", ":method", ":authority"]) {
    if (map.get(needed) === undefined) return { result: Result.BAD_ARGUMENT, token: 0 };
  }
  if (handler === null) return { result: Result.INTERNAL_FAILURE, token: 0 };
  if (body.length > 0) map.set("content-length", String(body.length));
  const token = ++root.vm.nextHttpCallToken;
  const call = new PendingCall(root, token, cluster, map, body, HeaderMap.from(trailers), timeoutMs);
  call.armTimeout();
  const fault = host.faults.takeReplyFault();
  if (fault?.kind === "drop") return { result: Result.OK, token };
  if (fault?.kind === "delay") clock.after(fault.ms, () => handler(call));
  else clock.post(() => handler(call));
  return { result: Result.OK, token };
}

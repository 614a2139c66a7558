// What a recorded scenario is: steps of clients and replies of the upstream, as data.

/** What the upstream answers once it has the whole request (or its headers, with `early`). */
export interface UpstreamReply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Each piece is one write; the end is a frame of its own. Absent = no body. */
  readonly body?: readonly string[];
  readonly trailers?: Readonly<Record<string, string>>;
  /** Answer as soon as the headers are there. */
  readonly early?: boolean;
  /** Cut the connection: instead of an answer, or after the first piece of the body. */
  readonly reset?: "before" | "after-first-piece";
  /** Never answer. */
  readonly silent?: boolean;
}

/** One step. Streams are named; the name is the probe's tag. */
export type Step =
  /** Sends request headers; `end` = no body follows. */
  | {
      readonly open: string;
      readonly script: string;
      readonly headers?: Readonly<Record<string, string>>;
      readonly end?: boolean;
      readonly reply?: UpstreamReply;
      /** Over HTTP/2, where the last piece of a body can carry the end. */
      readonly http2?: boolean;
      /** HTTP/2 must know at the start that trailers will come. */
      readonly trailing?: boolean;
      /** Listener of this stream when it is not the scenario's. */
      readonly on?: string;
    }
  /** Sends one piece of the body; over HTTP/2 `last` ends the request with it. */
  | { readonly data: string; readonly text: string; readonly last?: boolean }
  /** Ends the request, with trailers if given. */
  | { readonly end: string; readonly trailers?: Readonly<Record<string, string>> }
  /** The client goes away. */
  | { readonly abort: string }
  /** Waits until the client has its whole answer. */
  | { readonly await: string }
  | { readonly sleepMs: number }
  /** A request that a filter before the probe answers with this status. */
  | { readonly answeredEarlier: string; readonly status: number; readonly script: string };

/** A named sequence of steps on one listener. */
export interface Scenario {
  /** States what is observed. */
  readonly name: string;
  readonly listener: string;
  readonly steps: readonly Step[];
  /** Also record the lines of this root context, as a stream of this name. */
  readonly watch?: string;
}

/** What one stream came to. */
export interface StreamOutcome {
  /** The probe's lines of this stream, without its tag. */
  readonly log: string[];
  /** What the upstream received: the probe's own headers, the body, own trailers; null = nothing. */
  readonly upstream: {
    headers: Record<string, string>;
    body: string;
    trailers: Record<string, string>;
  } | null;
  /** What the client received; status 0 = the connection ended without an answer. */
  readonly client: {
    status: number;
    headers: Record<string, string>;
    body: string;
    trailers: Record<string, string>;
    complete: boolean;
  };
}

/** The outcome of a tag that is a root context, not a stream: it has lines only. */
export const NO_STREAM: Omit<StreamOutcome, "log"> = {
  upstream: null,
  client: { status: 0, headers: {}, body: "", trailers: {}, complete: false },
};

/** Outcomes by stream name. */
export type ScenarioOutcome = Record<string, StreamOutcome>;

/** Headers that the probe's scripts set: the only ones compared, since Envoy adds its own. */
export function ownHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Record<string, string> {
  const own: Record<string, string> = {};
  for (const name of Object.keys(headers).sort()) {
    if (name.startsWith("x-t-")) own[name] = String(headers[name]);
  }
  return own;
}

/** Long bodies as length and first bytes. */
export function shortBody(body: string): string {
  return body.length > 120 ? `${body.length} bytes ${body.slice(0, 20)}` : body;
}

/** A piece of text of `count` bytes. */
export function bytes(letter: string, count: number): string {
  return letter.repeat(count);
}

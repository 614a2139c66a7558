// What the fleet simulator is made of: requests, replicas, gateways that choose, and what is recorded.
import type { EngineConfig } from "../model-server/engine-types.ts";
import type { Engine } from "../model-server/engine.ts";

/** Who speaks a stretch of a prompt. */
export type SpanRole = "system" | "user" | "assistant" | "tool";

/**
 * A stretch of prompt that other prompts may share. Prompts with equal leading spans (id and tokens) have an
 * equal prefix. Consecutive spans of one role are one message.
 */
export interface Span {
  /** Identity of the content, an integer ≥ 0, unique over a workload. */
  readonly id: number;
  /** Tokens, ≥ 1. */
  readonly tokens: number;
  readonly role: SpanRole;
}

/** One request of a workload; equal for every policy that is compared. */
export interface FleetRequest {
  /** Position in the workload, from 0. */
  readonly index: number;
  /** Milliseconds from the start; does not decrease over a workload. */
  readonly arrivalMs: number;
  /** Requests of one conversation, task or document share it. */
  readonly session: string;
  readonly spans: readonly Span[];
  /** Sum over the spans. */
  readonly promptTokens: number;
  /** Tokens that will be generated, ≥ 1. */
  readonly outputTokens: number;
  /** Id of the span that the answer becomes in a later prompt of the session; absent: nobody repeats it. */
  readonly answerSpan?: number;
  readonly model: string;
  /** LoRA adapter, absent for the base model. */
  readonly lora?: string;
  /** The client's own wishes, ms; absent: none were sent. */
  readonly sloTtftMs?: number;
  readonly sloTpotMs?: number;
}

/** A workload: where it comes from, and its requests in order of arrival. */
export interface Workload {
  readonly name: string;
  readonly requests: readonly FleetRequest[];
  /** What happens to replicas meanwhile, in order of time; absent: nothing. */
  readonly events?: readonly FleetEvent[];
}

/** Something that happens to the fleet in the middle of a run. */
export type FleetEvent =
  /** Steps take `factor` times as long from now on; 1 = as configured. */
  | { readonly atMs: number; readonly kind: "slow"; readonly replica: number; readonly factor: number }
  /** The process dies with all it serves; connects are refused until "join". */
  | { readonly atMs: number; readonly kind: "fail"; readonly replica: number }
  /**
   * The replica starts, empty. One whose first event is "join" is absent before it. `takenMs`: its GPUs have been
   * taken since then; with the start when absent.
   */
  | { readonly atMs: number; readonly kind: "join"; readonly replica: number; readonly takenMs?: number }
  /** It takes no new requests and ends what it has. */
  | { readonly atMs: number; readonly kind: "drain"; readonly replica: number };

/** What a replica does in a fleet of prefill and decode pods. */
export type ReplicaRole = "both" | "prefill" | "decode";

/** One replica as configured. */
export interface ReplicaSpec {
  readonly engine: EngineConfig;
  readonly role: ReplicaRole;
}

/** One scrape of one replica, as a sidecar would have read it from /metrics. */
export interface Scrape {
  /** False: the replica does not answer, or drains; it gets no new requests. */
  readonly ready: boolean;
  readonly waiting: number;
  readonly running: number;
  /** KV cache in use, 0–1. */
  readonly kvUsage: number;
  readonly kvCapacityTokens: number;
  readonly blockTokens: number;
  /** Totals since the process started. */
  readonly promptTokens: number;
  readonly generationTokens: number;
  readonly preemptions: number;
  /** Changes whenever the process behind the replica is another one, ≥ 1. */
  readonly generation: number;
  /** Adapters of the running requests, and of those that wait. */
  readonly loras: readonly string[];
  readonly lorasWaiting?: readonly string[];
  /** Adapters that fit into one batch. */
  readonly loraMax?: number;
  readonly role: ReplicaRole;
}

/** Where a request goes. */
export interface Choice {
  /**
   * Index of the replica that answers (decodes); −1 = refused, or, with `prefill` by the gateway, said when that has
   * ended.
   */
  readonly endpoint: number;
  /** Replicas to try next when that one refuses the connection. */
  readonly fallbacks?: readonly number[];
  /** Index of the replica that computes the prompt first; absent: the answering one does. */
  readonly prefill?: number;
  /** Who asks that replica; "decoder" when absent. */
  readonly prefillBy?: PrefillCaller;
}

/**
 * Who sends the prefill leg. "decoder": a sidecar of the answering replica, which has the request by then; when the
 * leg fails so does the request (llm-d's routing sidecar). "gateway": the gateway, before it connects to the
 * answering replica; it hears of the leg's end and chooses again.
 */
export type PrefillCaller = "decoder" | "gateway";

/** How a prefill leg ended that the gateway sent. */
export interface PrefillOutcome {
  /** "" = the prompt is computed and its blocks are held for one decoder. */
  readonly failure: "" | "connect" | "died" | "too-long";
  readonly promptTokens: number;
  /** Of those the ones that the replica had cached, as its usage tells; 0 for a failure. */
  readonly cachedTokens: number;
}

/**
 * What happened in a replica's KV cache. "stored": the blocks `from … to − 1` of a request's prompt and answer can be
 * found, by `hashes` of all of its blocks; the same content may be stored several times, and is then "evicted" as often.
 * "emptied": another process has started.
 */
export type CacheChange =
  | {
      readonly kind: "stored";
      readonly request: FleetRequest;
      readonly hashes: ArrayLike<number>;
      readonly from: number;
      readonly to: number;
    }
  | { readonly kind: "evicted"; readonly hash: number }
  | { readonly kind: "emptied" };

/** What is known of a request when it has ended. */
export interface Ending {
  /**
   * 200; 400: longer than the engine's cache; 500: the KV blocks of its prompt were not to be had any more; 503: no
   * replica took it, the replica died, or its prefill leg failed.
   */
  readonly status: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly cachedTokens: number;
}

/**
 * One gateway: it sees only its own requests and what was scraped. All times are the simulation's, ms.
 * Calls for one request come in the order route, (prefillEnded, …), (connectFailed, …), connected, firstToken,
 * finished; a request that no replica takes has no connected, one that fails before its first token no firstToken.
 */
export interface Gateway {
  /** What a sidecar delivers: one scrape a replica, by index. */
  scraped(scrapes: readonly Scrape[], nowMs: number): void;
  route(request: FleetRequest, nowMs: number): Choice;
  /**
   * The prefill leg that this gateway sent to `replica` has ended. The choice that it returns takes the place of the
   * one before: with the same `prefill` after a success the blocks there are pulled, with another one the prompt is
   * computed there, without one the answering replica computes it. Needed where `prefillBy` is "gateway".
   */
  prefillEnded?(request: FleetRequest, replica: number, outcome: PrefillOutcome, nowMs: number): Choice;
  /** The connection to `endpoint` was refused; the request goes to the next fallback, if there is one. */
  connectFailed?(request: FleetRequest, endpoint: number, nowMs: number): void;
  /** `endpoint` took the request and sent its response headers, as vLLM does before it computes. */
  connected?(request: FleetRequest, endpoint: number, nowMs: number): void;
  firstToken?(request: FleetRequest, endpoint: number, nowMs: number): void;
  /** `tokens` is called after every so many tokens of an answer; absent: never. */
  readonly tokensEvery?: number;
  /** The answer has `generatedTokens` tokens by now. */
  tokens?(request: FleetRequest, endpoint: number, generatedTokens: number, nowMs: number): void;
  finished?(request: FleetRequest, endpoint: number, ending: Ending, nowMs: number): void;
  /** What a replica's KV events tell, when it happens. Absent: this gateway does not listen. */
  cacheChanged?(replica: number, change: CacheChange): void;
  /** Timers that are due are run; `nextTimerMs` says when the next one is (Infinity: none). */
  advance?(nowMs: number): void;
  nextTimerMs?(): number;
  close?(): void;
}

/** What a policy may know when its gateways are made. */
export interface GatewayContext {
  readonly replicas: readonly ReplicaSpec[];
  /** Position of this gateway among `gateways`. */
  readonly gateway: number;
  readonly gateways: number;
  readonly seed: number;
  /** Models and adapters that the workload asks for. */
  readonly models?: readonly string[];
  /** For policies that see true caches: the engine behind a replica now; undefined while it is absent. */
  readonly truth: (replica: number) => Engine | undefined;
  /** Chained hashes of the full KV blocks of a request's prompt at a block size, for policies that see true caches. */
  readonly blockHashes: (request: FleetRequest, blockTokens: number) => ArrayLike<number>;
  /**
   * Gives up a prefill leg that this gateway sent and that still runs: it is aborted, and the request goes on by
   * `choice`. Absent where nothing is run.
   */
  readonly giveUpPrefill?: (request: FleetRequest, choice: Choice, nowMs: number) => void;
}

/** A way to choose replicas. */
export interface Policy {
  /** As written on the command line, e.g. "round-robin". */
  readonly name: string;
  /** One sentence and the source: paper, or repository, file and commit. */
  readonly source: string;
  create(context: GatewayContext): Gateway | Promise<Gateway>;
}

/**
 * What happened to one request. Times are ms from the start of the run; NaN = it did not come to that. The end of
 * a request that failed is when that was known.
 */
export interface RequestRecord {
  readonly index: number;
  readonly arrivalMs: number;
  readonly endpoint: number;
  /** Replica that computed the prompt for the answering one; −1: none. */
  readonly prefill: number;
  readonly firstTokenMs: number;
  readonly endMs: number;
  readonly promptTokens: number;
  readonly outputTokens: number;
  /** Prompt tokens that nobody computed: found in a cache where the prompt was computed. */
  readonly cachedTokens: number;
  /** "" = answered; "prefill": its prefill leg failed; "transfer": the blocks of its prompt were gone. */
  readonly failure: "" | "refused" | "connect" | "died" | "too-long" | "prefill" | "transfer";
  /** How the prompt got to the answering replica; absent unless `prefill` says from where. */
  readonly handover?: Handover;
  /** Prefill legs that failed or were given up; absent: none. */
  readonly failedPrefills?: number;
}

/** A prompt's way from the replica that computed it to the one that answers. */
export interface Handover {
  /** The prompt was computed, ms. */
  readonly prefilledMs: number;
  /** Its blocks were on the answering replica, ms; NaN: it did not come to that. */
  readonly pulledMs: number;
  /** Prompt tokens that crossed over: those that the answering replica had not cached. */
  readonly pulledTokens: number;
}

/** Load of one replica, sampled regularly. */
export interface LoadSample {
  readonly atMs: number;
  readonly replica: number;
  readonly waiting: number;
  readonly running: number;
  readonly kvUsage: number;
}

/** Who changes the size of the fleet by what its replicas report. */
export interface Scaler {
  /** Time between two decisions, ms; the first is after the first period. */
  readonly everyMs: number;
  /** Whether a replica is absent when the run begins. */
  absent(replica: number): boolean;
  /** @returns "join" and "drain" events from `nowMs` on, in order of time */
  decide(view: ScalerView, nowMs: number): readonly FleetEvent[];
}

/** What a scaler sees of the fleet. */
export interface ScalerView {
  /** Of this moment, by index. */
  readonly scrapes: readonly Scrape[];
  /** The engine behind a replica, for figures that gateways would report; undefined while it is absent. */
  readonly truth: (replica: number) => Engine | undefined;
}

/** How a run is set up. */
export interface RunOptions {
  readonly replicas: readonly ReplicaSpec[];
  readonly policy: Policy;
  readonly workload: Workload;
  readonly seed: number;
  /** Gateways in front of the fleet; each request arrives at one of them, drawn by the seed. */
  readonly gateways: number;
  /** Age of what a gateway knows of the replicas at most: time between two scrapes, ms. */
  readonly scrapeMs: number;
  /** Time between two load samples, ms. */
  readonly sampleMs: number;
  /** Starts and stops replicas while the run goes on; absent: only the workload's events do. */
  readonly scaler?: Scaler;
  /** Hears of every so many requests that ended. */
  readonly onProgress?: (ended: number, requests: number) => void;
}

/** All that is recorded of a run. */
export interface RunRecord {
  readonly policy: string;
  readonly workload: string;
  readonly requests: readonly RequestRecord[];
  readonly samples: readonly LoadSample[];
  readonly replicas: number;
  /** Work of each replica, by index; prefill legs generate a token each. */
  readonly totals: readonly {
    readonly steps: number;
    readonly generatedTokens: number;
    readonly prefillTokens: number;
    readonly preemptions: number;
    readonly busyMs: number;
    /** Time with a process or with GPUs that wait for one, ms. */
    readonly upMs: number;
  }[];
  /** End of the last answer, ms. */
  readonly endMs: number;
  /** What the run itself took, ms of real time. */
  readonly wallMs: number;
}

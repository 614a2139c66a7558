// One leg of a disaggregated call, and the connector that a replica has for it.
import { answerSeed } from "../answer.ts";
import type { JsonObject } from "../body.ts";
import type { GenerationCall } from "../calls.ts";
import type { EngineRequest, FinishReason } from "../engine-types.ts";
import type { ApiError } from "../errors.ts";
import type { Exposition } from "../exposition.ts";
import type { GenerationJob, GenerationSink, Sequence } from "../generation-types.ts";
import type { ConnectorKind, DisaggregationRole } from "./config.ts";

/** A request as a connector looks at it. */
export interface LegRequest {
  readonly body: JsonObject;
  /** The body as it came, for numbers that JSON.parse rounds. */
  readonly text: string;
  readonly call: GenerationCall;
  readonly lora: string | undefined;
  /** Id of the answer. */
  readonly id: string;
  /** Separates the answer's id from the sequence's number in ids of the engine; undefined: no number. */
  readonly indexSeparator: string | undefined;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}

/** One half of a disaggregated call, as its connector handles it. */
export interface KvLeg {
  /** The call to run, where the connector changes it. */
  readonly call: GenerationCall;
  readonly holdBlocks: boolean;
  readonly remotePrefill: boolean;
  /** Wraps what receives the answer. */
  wrap(sink: GenerationSink): GenerationSink;
  /** The engine or the server refuses the call before it began. */
  refused(): void;
  /** Blocks wait for the remote KV: begin the pull, or fail it. */
  allocated(sequence: Sequence): void;
  /** The remote KV is here; also told when the request was aborted meanwhile. */
  pulled(sequence: Sequence): void;
  /** The request has ended; if its blocks are held they are held under `sequence.id`. */
  ended(sequence: Sequence, reason: FinishReason, job: GenerationJob): void;
  /** Held blocks were given up. */
  expired(sequence: Sequence): void;
  /** `cached_tokens` of the usage. */
  cachedTokens(request: EngineRequest): number;
}

/** What a replica's connector did, for tests and the control port. */
export interface DisaggregationStatus {
  readonly connector: ConnectorKind;
  readonly role: DisaggregationRole;
  readonly strict: boolean;
  /** "host:port" on which peers ask for blocks. */
  readonly sideChannel: string;
  /** NIXL's engine id; "" with SGLang. */
  readonly engineId: string;
  /** Blocks held for other replicas. */
  readonly heldBlocks: number;
  /** What was promised to decoders, oldest first. */
  readonly issued: readonly IssuedStatus[];
  /** SGLang's rooms that are open. */
  readonly rooms: readonly RoomStatus[];
  /** Messages of the latest legs that were refused, oldest first. */
  readonly refusals: readonly string[];
  /** Reads of blocks that were no longer, or never, those of the prompt; a real server does not notice. */
  readonly staleReads: number;
}

/** One prefill whose blocks a decoder may fetch. */
export interface IssuedStatus {
  readonly requestId: string;
  readonly state: "held" | "claimed" | "fetched" | "expired";
  readonly tokens: number;
  /** Answer id of the decode that fetched or claimed it, null = none. */
  readonly usedBy: string | null;
}

/** A meeting place of two legs. */
export interface RoomStatus {
  /** Decimal text: rooms exceed 2^53. */
  readonly room: string;
  readonly state: "prefill-waits" | "decode-waits" | "prefilling" | "transferring";
}

/** The side of a replica that speaks with other replicas. */
export interface KvConnector {
  /** Opens the side channel. @throws the listen error */
  start(host: string): Promise<void>;
  /** Closes it; what peers ask from now on fails. */
  stop(): Promise<void>;
  /**
   * Looks whether a request is one leg of a disaggregated call; undefined: it is an ordinary one.
   * @throws ApiError for a leg that must not be served
   */
  legOf(request: LegRequest): Promise<KvLeg | undefined>;
  status(): DisaggregationStatus;
  /** Metrics of its own. */
  writeMetrics(page: Exposition, modelName: string): void;
}

/** Keeps the latest refusals for `DisaggregationStatus`. */
export class Refusals {
  private static readonly KEPT_MAX = 100;
  readonly messages: string[] = [];

  /** Remembers an error and returns it; beyond KEPT_MAX the oldest goes. */
  note(error: ApiError): ApiError {
    this.messages.push(error.message);
    if (this.messages.length > Refusals.KEPT_MAX) this.messages.shift();
    return error;
  }
}

/** Identity of a prompt's KV content. */
export function promptIdentity(prompt: readonly number[], lora: string | undefined): string {
  const seed = answerSeed(prompt, 0).toString(16).padStart(8, "0");
  return `${prompt.length} tokens ${seed}${lora === undefined ? "" : ` ${lora}`}`;
}

/** A leg to which nothing special happens. */
export const ORDINARY_LEG = {
  holdBlocks: false,
  remotePrefill: false,
  wrap: (sink: GenerationSink): GenerationSink => sink,
  refused: (): void => undefined,
  allocated: (): void => undefined,
  pulled: (): void => undefined,
  ended: (): void => undefined,
  expired: (): void => undefined,
  cachedTokens: ({ cachedTokens }: EngineRequest): number => Math.max(0, cachedTokens),
};

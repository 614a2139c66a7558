// Brings one document of a pool (its policy, its prompt programs) to the gateway: when it changes, and when the gateway
// does not have it.
import { codeOf, ControlRefusedError, PolicyTooLargeError, StandbyError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { EncodedDocument } from "../wire-document.ts";

/** Answers that say nothing of the document: the listener cannot read bodies, or has too many requests at once. */
const BUSY: ReadonlySet<number> = new Set([500, 503]);

/** How a kind of document is encoded and sent. */
export interface DocumentKind<T> {
  /** For the log. */
  readonly name: string;
  /** @throws PolicyTooLargeError */
  encode(source: T): EncodedDocument;
  /** @returns id of the document that the gateway has, 0 = none; null = it does not say. Throws like `bring`. */
  send(bytes: Buffer): Promise<number | null>;
  /** What the log says of one that was taken. */
  figures(source: T): Readonly<Record<string, number>>;
}

/** Push counts since start, for metrics. */
export interface DocumentCounts {
  accepted: number;
  /** Read and answered with an error, or too large to be sent: the gateway keeps the last good one. */
  refused: number;
  /** Not read: no connection, no answer. */
  failed: number;
}

/** What is known of a pool's document in the gateway. */
export class DocumentPush<T extends object> {
  readonly counts: DocumentCounts = { accepted: 0, refused: 0, failed: 0 };
  /** Why the present one is not in force; null = it is, or there is none. */
  lastError: Error | null = null;
  /** When one was last taken, monotonic ms; -Infinity = never. */
  acceptedAtMs = Number.NEGATIVE_INFINITY;
  private source: T | null = null;
  private encoded: EncodedDocument | null = null;
  /** Id of the one that the gateway has; null = not known. */
  private heldId: number | null = null;
  /** One that was refused is not sent again until it or the gateway changed. */
  private refusedId: number | null = null;

  constructor(
    private readonly kind: DocumentKind<T>,
    private readonly now: () => number,
    private readonly log: Logger,
  ) {}

  /** Whether the gateway is to be sent this one. */
  isDue(source: T | null): boolean {
    if (source === null) return false;
    if (source !== this.source) return true;
    return this.encoded !== null && ![this.heldId, this.refusedId].includes(this.encoded.id);
  }

  /**
   * Sends the document if that is due. A refusal is noted and logged, and snapshots go on.
   * @throws ConnectionError, TimeoutError, ControlRefusedError when it was not read; StandbyError
   */
  async bring(source: T | null): Promise<void> {
    if (source === null || !this.isDue(source)) return;
    if (source !== this.source && !this.encode(source)) return;
    const { encoded } = this;
    if (encoded === null || encoded.id === this.heldId) {
      this.lastError = null;
      return;
    }
    try {
      this.heldId = await this.kind.send(encoded.bytes);
    } catch (error) {
      if (error instanceof ControlRefusedError && !BUSY.has(error.status))
        return this.refuse(error, encoded.id);
      if (!(error instanceof StandbyError)) this.counts.failed += 1;
      throw error;
    }
    this.counts.accepted += 1;
    this.acceptedAtMs = this.now();
    this.heldId ??= encoded.id;
    this.lastError = null;
    const figures = { id: encoded.id, ...this.kind.figures(source) };
    this.log.info(figures, `gateway took the ${this.kind.name}`);
  }

  /**
   * The gateway's word, given with each snapshot that it takes.
   * @param heldId id of the document that it has, 0 = none; null = it does not say
   */
  noteHeld(heldId: number | null): void {
    if (heldId === null || heldId === this.heldId) return;
    this.heldId = heldId;
    this.refusedId = null;
  }

  /** The gateway could not be reached: it may have restarted and lost what it had. */
  forget(): void {
    this.heldId = null;
    this.refusedId = null;
  }

  private encode(source: T): boolean {
    this.source = source;
    this.refusedId = null;
    try {
      this.encoded = this.kind.encode(source);
      return true;
    } catch (error) {
      if (!(error instanceof PolicyTooLargeError)) throw error;
      this.encoded = null;
      this.refuse(error, null);
      return false;
    }
  }

  private refuse(error: Error, id: number | null): void {
    this.counts.refused += 1;
    this.refusedId = id;
    if (this.lastError?.message !== error.message) {
      this.log.error(
        { code: codeOf(error) },
        `${this.kind.name} refused, the last one stays: ${error.message}`,
      );
    }
    this.lastError = error;
  }
}

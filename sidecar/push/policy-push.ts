// Brings one pool's policy to the gateway: when it changes, and when the gateway does not have it.
import { codeOf, ControlRefusedError, PolicyTooLargeError } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { PoolPolicy } from "../policy.ts";
import { type EncodedPolicy, encodePolicy } from "../policy-encoder.ts";
import type { ControlListener } from "./control-client.ts";

/** Answers that say nothing of the policy: the listener cannot read bodies, or has too many requests at once. */
const BUSY: ReadonlySet<number> = new Set([500, 503]);

/** Policy push counts since start, for metrics. */
export interface PolicyCounts {
  accepted: number;
  /** Read and answered with an error, or too large to be sent: the gateway keeps the last good one. */
  refused: number;
  /** Not read: no connection, no answer. */
  failed: number;
}

/** What is known of a pool's policy in the gateway. */
export class PolicyPush {
  readonly counts: PolicyCounts = { accepted: 0, refused: 0, failed: 0 };
  /** Why the present policy is not in force; null = it is, or there is none. */
  lastError: Error | null = null;
  /** When a policy was last taken, monotonic ms; -Infinity = never. */
  acceptedAtMs = Number.NEGATIVE_INFINITY;
  private source: PoolPolicy | null = null;
  private encoded: EncodedPolicy | null = null;
  /** Id of the policy that the gateway has; null = not known. */
  private heldId: number | null = null;
  /** A policy that was refused is not sent again until it or the gateway changed. */
  private refusedId: number | null = null;

  constructor(
    private readonly pool: string,
    private readonly control: ControlListener,
    private readonly now: () => number,
    private readonly log: Logger,
  ) {}

  /** Whether the gateway is to be sent this policy. */
  isDue(policy: PoolPolicy | null): boolean {
    if (policy === null) return false;
    if (policy !== this.source) return true;
    return this.encoded !== null && ![this.heldId, this.refusedId].includes(this.encoded.id);
  }

  /**
   * Sends the policy if that is due. A refusal is noted and logged, and snapshots go on.
   * @throws ConnectionError, TimeoutError, ControlRefusedError when it was not read
   */
  async bring(policy: PoolPolicy | null): Promise<void> {
    if (policy === null || !this.isDue(policy)) return;
    if (policy !== this.source && !this.encode(policy)) return;
    const { encoded } = this;
    if (encoded === null || encoded.id === this.heldId) {
      this.lastError = null;
      return;
    }
    try {
      this.heldId = await this.control.pushPolicy(this.pool, encoded.bytes);
    } catch (error) {
      if (error instanceof ControlRefusedError && !BUSY.has(error.status))
        return this.refuse(error, encoded.id);
      this.counts.failed += 1;
      throw error;
    }
    this.counts.accepted += 1;
    this.acceptedAtMs = this.now();
    this.heldId ??= encoded.id;
    this.lastError = null;
    const { objectives, rewrites } = policy;
    const figures = { id: encoded.id, objectives: objectives.length, rewrites: rewrites.length };
    this.log.info(figures, "gateway took the policy");
  }

  /**
   * The gateway's word, given with each snapshot that it takes.
   * @param heldId id of the policy that it has, 0 = none; null = it does not say
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

  private encode(policy: PoolPolicy): boolean {
    this.source = policy;
    this.refusedId = null;
    try {
      this.encoded = encodePolicy(policy);
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
      this.log.error({ code: codeOf(error) }, `policy refused, the last one stays: ${error.message}`);
    }
    this.lastError = error;
  }
}

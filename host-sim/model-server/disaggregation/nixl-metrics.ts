// What vLLM's NixlConnector measures, one engine each.
import type { SequenceEngine } from "../generation-types.ts";
import type { Exposition, Labels } from "../exposition.ts";
import { Histogram } from "../metrics.ts";

const TRANSFER_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 5];
const POST_SECONDS = [0.001, ...TRANSFER_SECONDS];
/** 2 KiB to 8 GiB, by factors of 4. */
const BYTES = Array.from({ length: 12 }, (_, i) => 2 ** (11 + 2 * i));
const DESCRIPTORS = [10, 20, 30, 50, 75, 100, 200, 400, 1000, 2000, 4000, 10_000, 20_000, 50_000];

/** Metrics of one engine; names as in nixl/stats.py of vLLM 0.32.0. */
export class NixlMetrics {
  readonly transferSeconds = new Histogram(TRANSFER_SECONDS);
  readonly postSeconds = new Histogram(POST_SECONDS);
  readonly bytes = new Histogram(BYTES);
  readonly descriptors = new Histogram(DESCRIPTORS);
  failedTransfers = 0;
  failedNotifications = 0;
  expired = 0;
  notificationsAfterExpiry = 0;

  /** A pull has ended. Posting it takes no time here, and a block is one descriptor: there are no layers. */
  transferred(durationMs: number, blocks: number, bytes: number): void {
    this.transferSeconds.observe(durationMs / 1000);
    this.postSeconds.observe(0);
    this.bytes.observe(bytes);
    this.descriptors.observe(blocks);
  }

  /** A prefiller could not be told that its blocks were read; vLLM counts that as a failed transfer, too. */
  notificationFailed(): void {
    this.failedNotifications++;
    this.failedTransfers++;
  }
}

/** Writes the families, one sample an engine. */
export function writeNixlMetrics(
  page: Exposition,
  modelName: string,
  engines: readonly SequenceEngine[],
  of: (engine: SequenceEngine) => NixlMetrics,
): void {
  const labelled = <T>(value: (metrics: NixlMetrics) => T): (readonly [Labels, T])[] => {
    return engines.map((engine, rank) => {
      return [{ engine: String(rank), model_name: modelName }, value(of(engine))] as const;
    });
  };
  page.histogram(
    "vllm:nixl_xfer_time_seconds",
    "Time of a pull.",
    labelled((m) => m.transferSeconds),
  );
  page.histogram(
    "vllm:nixl_post_time_seconds",
    "Time to post a pull.",
    labelled((m) => m.postSeconds),
  );
  page.histogram(
    "vllm:nixl_bytes_transferred",
    "Bytes of a pull.",
    labelled((m) => m.bytes),
  );
  page.histogram(
    "vllm:nixl_num_descriptors",
    "Pieces of a pull.",
    labelled((m) => m.descriptors),
  );
  page.gauge(
    "vllm:num_requests_kv_fetch_by_stage",
    "Waiting requests by stage of their pull.",
    fetchStages(modelName, engines),
  );
  const count = (name: string, help: string, value: (metrics: NixlMetrics) => number): void => {
    page.counter(`vllm:nixl_${name}`, help, labelled(value));
  };
  count("num_failed_transfers", "Failed pulls, handshakes and notifications.", (m) => m.failedTransfers);
  count("num_failed_notifications", "Prefillers that could not be told.", (m) => m.failedNotifications);
  count("num_kv_expired_reqs", "Held prefills that nobody fetched in time.", (m) => m.expired);
  count(
    "num_notifications_after_expiry",
    "Decoders that read blocks which were no longer held.",
    (m) => m.notificationsAfterExpiry,
  );
}

function fetchStages(modelName: string, engines: readonly SequenceEngine[]): (readonly [Labels, number])[] {
  return engines.flatMap(({ engine }, rank) => {
    return Object.entries(engine.pullStages()).map(([stage, count]) => {
      return [{ engine: String(rank), model_name: modelName, stage }, count] as const;
    });
  });
}

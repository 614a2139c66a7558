// Limits of the exact index's half in the sidecar; what happens beyond stands beside each.

/** Entries of one endpoint's table, those among them that are gone and not told yet. Beyond: DEGRADED(index-full). */
export const TABLE_ENTRIES_MAX = 1_048_576;
/** Changes of an endpoint that wait, if it has fewer entries than these; more than both are sent as a copy instead. */
export const PENDING_CHANGES_MIN = 1_024;
/**
 * Blocks of engines that lost their cache beside other engines of their endpoint are taken out of its table so many
 * with each batch: all at once would hold everything else up.
 */
export const TAKEN_OUT_MAX = 4_096;
/** Of them as many wait in one endpoint; more are taken out at once. */
export const LEAVING_BLOCKS_MAX = 1_048_576;
/**
 * Entries that are looked at with each batch to make copies ready, some 7 ms of work: a million at once held everything
 * else up for 200 ms.
 */
export const LOOKED_AT_MAX = 32_768;
/** Share of KV_ENTRIES_MAX up to which an endpoint that was left out is taken in again. */
export const READMIT_SHARE = 0.95;
/** Shortest time between two batches while changes do not fill one. */
export const BATCH_INTERVAL_MS = 20;
/** Pause before a batch is offered again to workers that are behind. */
export const BUSY_PAUSE_MS = 10;
/** Pauses after a listener that could not be reached: the first, doubled until the last. */
export const RETRY_FIRST_MS = 50;
export const RETRY_LAST_MS = 250;
/** Pause after a batch that was refused for another reason; then everything is told anew. */
export const REFUSED_PAUSE_MS = 1_000;
/**
 * A copy that was taken is not sent again for this long, though a worker wants it: that may be from before it read the
 * copy. Workers tell how far they are every 500 ms.
 */
export const COPY_AGAIN_AFTER_MS = 1_000;

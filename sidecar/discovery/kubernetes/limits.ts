// Limits and times of Kubernetes discovery; what happens beyond stands beside each.

/** Objects asked for in one page of a list. */
export const LIST_PAGE_OBJECTS = 500;
/** Objects kept of one kind; those beyond are not kept and counted as refused. */
export const OBJECTS_MAX = 16_384;
/** Pages of one list. A list with more is cut there like one with more than OBJECTS_MAX objects. */
export const LIST_PAGES_MAX = 1_024;
/** Bytes of one page. A larger one is not read: the list fails and is tried again by back-off. */
export const LIST_PAGE_BYTES_MAX = 67_108_864;
/** Bytes of one watch event (etcd's largest object is 1.5 MiB). A longer one ends the watch; a new list follows. */
export const WATCH_LINE_BYTES_MAX = 4_194_304;
/** Bytes of an error's body that are read; the rest is dropped. */
export const ERROR_BODY_BYTES_MAX = 65_536;
/** Target ports of a pool (InferencePool's own limit). A pool with more is refused. */
export const TARGET_PORTS_MAX = 8;
/** Addresses that are remembered as having been ready. Beyond, an address that is not ready is left out. */
export const KNOWN_ADDRESSES_MAX = 16_384;

/** The timing, to be replaced in tests. All in milliseconds. */
export interface KubernetesTiming {
  /** First pause after a failure; each further one in a row doubles it, up to the longest (client-go's). */
  readonly backoffMinMs: number;
  readonly backoffMaxMs: number;
  /** Time for one page of a list, from request to last byte. */
  readonly listTimeoutMs: number;
  /** What the API server is asked to end a watch after: a random time from one to two times this. */
  readonly watchMs: number;
  /** How much longer than asked for a watch may stand before its connection counts as dead. */
  readonly watchGraceMs: number;
  /** A watch that ends sooner, and without an event, counts as a failure, so that it is not begun in a loop. */
  readonly watchShortMs: number;
  /** Changes within this time are reported together. */
  readonly settleMs: number;
}

export const KUBERNETES_TIMING: KubernetesTiming = {
  backoffMinMs: 800,
  backoffMaxMs: 30_000,
  listTimeoutMs: 60_000,
  watchMs: 300_000,
  watchGraceMs: 15_000,
  watchShortMs: 1_000,
  settleMs: 50,
};

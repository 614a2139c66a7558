// State that both directions of a stream share.

/** Which of the filter's callbacks runs now; decides whether a local reply waits and what it aborts. */
export type Phase = "none" | "decode" | "encode";

/** Mutable state of one stream (Envoy `FilterManager::State`). */
export class StreamState {
  phase: Phase = "none";
  /** A local reply was made while a request callback ran. */
  decodeAborted = false;
  /** A local reply was made while a response callback ran. */
  encodeAborted = false;
  /** The response is complete as the proxy sees it: request data is dropped from now on. */
  localComplete = false;
  /** The filter has been told of the end. */
  ended = false;
}

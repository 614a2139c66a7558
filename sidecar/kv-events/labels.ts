// Labels of an endpoint whose engines publish at other ports than its pool's.

export const PORT_LABEL = "epp-wasm/kv-events-port";
export const REPLAY_PORT_LABEL = "epp-wasm/kv-events-replay-port";

// Limits of the sidecar's inputs that are not part of the wire format; what happens beyond stands beside
// each.

/** Bytes of an endpoints file. A larger file is refused like a malformed one. */
export const ENDPOINTS_FILE_BYTES_MAX = 1_048_576;
/** Bytes of a configuration file. A larger one is refused. */
export const CONFIG_FILE_BYTES_MAX = 1_048_576;
/** Bytes of one endpoint name. A longer one is refused. */
export const ENDPOINT_NAME_BYTES_MAX = 253;
/**
 * Bytes of a label's key and of its value (Kubernetes: 317 and 63). A longer label is dropped and counted.
 */
export const LABEL_BYTES_MAX = 320;
/** Bytes of a model or adapter name. A longer name is dropped and counted. */
export const MODEL_NAME_BYTES_MAX = 256;
/** Default bytes of one metrics page (a vLLM page is about 52 KB). A larger response is not read. */
export const METRICS_PAGE_BYTES_MAX = 2_097_152;
/** Bytes of a /v1/models answer. A larger response is not read. */
export const MODELS_PAGE_BYTES_MAX = 1_048_576;
/** Lines of one metric on a page. Lines beyond are not read. */
export const SERIES_MAX = 512;
/** GPUs on one DCGM page. Lines of further GPUs are not read. */
export const GPUS_MAX = 256;
/** Bytes of a control listener's answer. A larger one is an error. */
export const CONTROL_ANSWER_BYTES_MAX = 4_194_304;
/** Counters of the gateway's status that are re-exported. The rest are dropped and counted. */
export const STATUS_COUNTERS_MAX = 512;
/** Bytes of a bearer token file. A larger one is refused. */
export const TOKEN_BYTES_MAX = 16_384;

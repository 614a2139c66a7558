// Every fixed name the filter says to the host: headers, properties, shared-data keys, response details.
import { ascii } from "../text/text";
import { LEASE_HEADER } from "../wire/lease";
import { POLICY_ID_HEADER } from "../wire/policy";
import { PROMPTS_ID_HEADER } from "../wire/prompt-programs";

// Headers. Names and meanings: llm-d-router pkg/epp/metadata/consts.go, gateway-api-inference-extension
// docs/proposals/004-endpoint-picker-protocol; Envoy's docs/root/configuration/http/http_filters/router_filter.rst.
export const H_DESTINATION = ascii("x-gateway-destination-endpoint");
export const H_RETRY_ON = ascii("x-envoy-retry-on");
export const H_MAX_RETRIES = ascii("x-envoy-max-retries");
export const H_DROPPED_REASON = ascii("x-llm-d-request-dropped-reason");
export const H_CONTENT_TYPE = ascii("content-type");
export const H_CONTENT_LENGTH = ascii("content-length");
export const H_AUTHORIZATION = ascii("authorization");
export const H_METHOD = ascii(":method");
export const H_PATH = ascii(":path");
/** RFC 7240; "if-available": only where part of the prompt is cached (llm-d-router pkg/epp/handlers, conditional decode). */
export const H_PREFER = ascii("prefer");
export const H_REQUEST_ID = ascii("x-request-id");
export const H_STATUS = ascii(":status");
export const H_PREFILLER = ascii("x-prefiller-host-port");
export const H_ENCODERS = ascii("x-encoder-hosts-ports");
export const H_DATA_PARALLEL = ascii("x-data-parallel-host-port");
export const H_KV_SOURCE = ascii("x-kv-cache-source-host-port");
export const H_MODEL_REWRITE = ascii("x-llm-d-model-name-rewrite");
export const H_MODEL_REWRITE_ALIAS = ascii("x-gateway-model-name-rewrite");
export const H_OBJECTIVE = ascii("x-llm-d-inference-objective");
export const H_OBJECTIVE_ALIAS = ascii("x-gateway-inference-objective");
export const H_FAIRNESS = ascii("x-llm-d-inference-fairness-id");
export const H_FAIRNESS_ALIAS = ascii("x-gateway-inference-fairness-id");
export const H_TTFT_SLO = ascii("x-llm-d-slo-ttft-ms");
export const H_TTFT_SLO_ALIAS = ascii("x-slo-ttft-ms");
export const H_TPOT_SLO = ascii("x-llm-d-slo-tpot-ms");
export const H_TPOT_SLO_ALIAS = ascii("x-slo-tpot-ms");
/** Ours, of request and response: asks for, and tells, why an endpoint was chosen. */
export const H_EXPLAIN = ascii("x-epp-explain");
export const H_CONTENT_ENCODING = ascii("content-encoding");
export const H_RETRY_GRPC_ON = ascii("x-envoy-retry-grpc-on");
export const H_RETRY_STATUS_CODES = ascii("x-envoy-retriable-status-codes");
export const H_HEDGE = ascii("x-envoy-hedge-on-per-try-timeout");
export const H_RETRY_HEADER_NAMES = ascii("x-envoy-retriable-header-names");

// A session's own id: llm-d's, and what coding agents send (its agent-identity plugin knows these).
export const H_SESSION_1 = ascii("x-session-id");
export const H_SESSION_2 = ascii("x-claude-code-session-id");
export const H_SESSION_3 = ascii("x-session-affinity");
export const H_SESSION_4 = ascii("session-id");
export const H_SESSION_5 = ascii("session_id");

/** Answer header of an accepted snapshot (wire/policy.ts, POLICY_ID_HEADER). */
export const H_POLICY_ID = ascii(POLICY_ID_HEADER);
export const H_PROMPTS_ID = ascii(PROMPTS_ID_HEADER);

/** Of a push: the sidecar that it comes from. */
export const H_SIDECAR = ascii(LEASE_HEADER);

// Values.
/** The next host on the list is tried when this one does not answer at all, never after it began to. */
export const V_RETRY_ON = ascii("connect-failure,refused-stream,reset");
export const V_RETRIES = ascii("2");
/** Of a body with KV parameters: only a host that never had it in hand is followed by the next. */
export const V_RETRY_UNSENT = ascii("connect-failure");
export const V_ONE_RETRY = ascii("1");
export const V_NO_RETRIES = ascii("0");
export const V_FALSE = ascii("false");
export const V_JSON = ascii("application/json");
export const V_IDENTITY = ascii("identity");
export const V_EVENT_STREAM = ascii("text/event-stream");
export const V_GET = ascii("GET");
export const V_POST = ascii("POST");
export const V_DELETE = ascii("DELETE");

// Properties: NUL-separated paths (Envoy docs/root/intro/arch_overview/advanced/attributes.rst).
export const P_ROOT_ID = ascii("plugin_root_id");
export const P_CLUSTER = ascii("xds\0cluster_name");
export const P_ROUTE_POOL = ascii("xds\0route_metadata\0filter_metadata\0epp\0pool");
export const P_SUBSET = ascii(
  "metadata\0filter_metadata\0envoy.lb.subset_hint\0x-gateway-destination-endpoint-subset",
);
export const P_UPSTREAM_ADDRESS = ascii("upstream\0address");
export const P_ATTEMPTS = ascii("upstream\0request_attempt_count");
export const P_RESPONSE_FLAGS = ascii("response\0flags");

// Shared data of one vm_id. All keys begin with the wire generation, so that an empty vm_id, which all
// modules of the process share, cannot make them collide with somebody else's.
export const K_POOLS = ascii("epp1/pools");
export const K_SNAPSHOT = ascii("epp1/pool/");
export const K_EPOCH = ascii("epp1/epoch/");
export const K_POLICY = ascii("epp1/policy/");
export const K_POLICY_EPOCH = ascii("epp1/policy-epoch/");
export const K_PROMPTS = ascii("epp1/prompts/");
export const K_PROMPTS_EPOCH = ascii("epp1/prompts-epoch/");
export const K_LEASE = ascii("epp1/lease/");
export const K_CELL = ascii("epp1/cell/");
export const K_RATES = ascii("epp1/rates/");
export const K_JOURNAL = ascii("epp1/journal/");
export const K_KV_HEAD = ascii("epp1/kvhead/");
export const K_KV_BATCH = ascii("epp1/kv/");
export const K_KV_AT = ascii("epp1/kvat/");

/** Filter state for access logs: %FILTER_STATE(wasm.epp_decision:PLAIN)%. */
export const S_DECISION = ascii("epp_decision");
/** The same of a prefill that the filter called: %FILTER_STATE(wasm.epp_prefill:PLAIN)%. */
export const S_PREFILL = ascii("epp_prefill");

export const ROLE_NAME_PICKER = ascii("picker");
export const ROLE_NAME_INGEST = ascii("ingest");

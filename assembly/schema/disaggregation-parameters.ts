// Parameters of epp-wasm-disaggregation (ours): how a prompt that another endpoint computes gets there and back.
//
// | parameter | default | range | meaning |
// |---|---|---|---|
// | mode | headers | headers, inline | name the prefill endpoint to the decode pod's sidecar, or call it from the filter |
// | protocol | nixl | nixl, sglang | inline: what engines say to each other |
// | bodyBytesMax | 983040 | 1024 … 1048576 | inline: body bytes held; a longer body is decoded where it is, and counted |
// | prefillCluster | the route's | ≤ 253 bytes | inline: Envoy cluster through which prefill endpoints are called |
// | prefillTimeoutMs | 30000 | 10 … 3600000 | inline: a prefill is given up after this; with a TTFT wish after four times that, if sooner |
// | decodeRetry | none | none, connect-failure | inline: whether a body with KV parameters may go to the next host |
// | bootstrapPort | 8998 | 1 … 65535 | sglang: port of the prefill endpoints' bootstrap servers |
// | transferBytesPerMs | 10000000 | 1 … 1e12 | speed at which KV goes from endpoint to endpoint, while none is learnt |
// | kvBytesPerToken | 131072 | 1 … 1e9 | KV bytes of one token |
// | minGainMs | 0 | 0 … 3600000 | how much sooner the first token must be predicted for a prefill elsewhere |
import { treeTextLen, treeTextPtr } from "../json/tree";
import { POOL_NAME_BYTES_MAX } from "../wire/limits";
import { isRefused } from "./errors";
import {
  choiceField,
  numberField,
  objectBegin,
  objectEnd,
  refuseField,
  textField,
  wholeField,
} from "./fields";
import { slotStages, slotText } from "./slots";
import {
  STAGES_BOOTSTRAP_PORT,
  STAGES_BODY_BYTES,
  STAGES_CLUSTER,
  STAGES_DECODE_RETRY,
  STAGES_KV_BYTES,
  STAGES_MIN_GAIN_MS,
  STAGES_MODE,
  STAGES_PROTOCOL,
  STAGES_TIMEOUT_MS,
  STAGES_TRANSFER_RATE,
} from "./stages-layout";

/** Below Envoy's default buffer limit of 1 MiB, so that a chunk more does not end in its 413. */
const BODY_BYTES_DEFAULT: f64 = 983040;
const TIMEOUT_MS_DEFAULT: f64 = 30000;
/** SGLang's --disaggregation-bootstrap-port. */
const BOOTSTRAP_PORT_DEFAULT: f64 = 8998;
/** 10 GB/s: what one 100 Gbit/s link carries, less its overhead. */
const TRANSFER_RATE_DEFAULT: f64 = 10000000;
/** A model of 8 billion parameters: 32 layers × 8 heads × 128 × 2 (K, V) × 2 bytes. */
const KV_BYTES_DEFAULT: f64 = 131072;

/** Fills in the defaults. */
export function disaggregationDefaults(slot: usize): void {
  const stages = slotStages(slot);
  store<u32>(stages, <u32>BODY_BYTES_DEFAULT, STAGES_BODY_BYTES);
  store<u32>(stages, <u32>TIMEOUT_MS_DEFAULT, STAGES_TIMEOUT_MS);
  store<u32>(stages, <u32>BOOTSTRAP_PORT_DEFAULT, STAGES_BOOTSTRAP_PORT);
  store<f64>(stages, TRANSFER_RATE_DEFAULT, STAGES_TRANSFER_RATE);
  store<f64>(stages, KV_BYTES_DEFAULT, STAGES_KV_BYTES);
}

/** Reads the parameters into the slot. False: refused. */
export function disaggregationParameters(node: i32, slot: usize): bool {
  const stages = slotStages(slot);
  objectBegin(node);
  store<u8>(stages, <u8>choiceField("mode", "headers", "inline", '"headers" or "inline"'), STAGES_MODE);
  store<u8>(stages, <u8>choiceField("protocol", "nixl", "sglang", '"nixl" or "sglang"'), STAGES_PROTOCOL);
  const retry = choiceField("decodeRetry", "none", "connect-failure", '"none" or "connect-failure"');
  store<u8>(stages, <u8>retry, STAGES_DECODE_RETRY);
  readCluster(slot, stages);
  const body = wholeField(
    "bodyBytesMax",
    BODY_BYTES_DEFAULT,
    1024,
    1048576,
    "a whole number of bytes, 1024 to 1048576",
  );
  store<u32>(stages, <u32>body, STAGES_BODY_BYTES);
  const timeout = wholeField(
    "prefillTimeoutMs",
    TIMEOUT_MS_DEFAULT,
    10,
    3600000,
    "a whole number of ms, 10 to 3600000",
  );
  store<u32>(stages, <u32>timeout, STAGES_TIMEOUT_MS);
  const port = wholeField("bootstrapPort", BOOTSTRAP_PORT_DEFAULT, 1, 65535, "a port, 1 to 65535");
  store<u32>(stages, <u32>port, STAGES_BOOTSTRAP_PORT);
  readCosts(stages);
  return objectEnd();
}

function readCosts(stages: usize): void {
  const rate = numberField(
    "transferBytesPerMs",
    TRANSFER_RATE_DEFAULT,
    1,
    1000000000000,
    "a number of bytes a ms, 1 to 1000000000000",
  );
  store<f64>(stages, rate, STAGES_TRANSFER_RATE);
  const bytes = numberField(
    "kvBytesPerToken",
    KV_BYTES_DEFAULT,
    1,
    1000000000,
    "a number of bytes, 1 to 1000000000",
  );
  store<f64>(stages, bytes, STAGES_KV_BYTES);
  store<f64>(
    stages,
    numberField("minGainMs", 0, 0, 3600000, "a number of ms, 0 to 3600000"),
    STAGES_MIN_GAIN_MS,
  );
}

function readCluster(slot: usize, stages: usize): void {
  const cluster = textField("prefillCluster");
  if (cluster < 0 || isRefused()) return;
  const bytes = treeTextLen(cluster);
  let text: usize = 0;
  if (bytes <= <u32>POOL_NAME_BYTES_MAX) text = slotText(slot, treeTextPtr(cluster), bytes);
  if (text == 0) refuseField("prefillCluster", cluster, "a cluster's name of at most 253 bytes");
  store<u32>(stages, <u32>text, STAGES_CLUSTER);
}

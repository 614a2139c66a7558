// Settings of the filter itself: parameters of the plugin type epp-wasm-gateway, their defaults and ranges.
//
// | parameter | default | range | meaning |
// |---|---|---|---|
// | pool | "" | ≤ 253 bytes | pool of requests whose route and cluster name none |
// | fail | open | open, closed | without a snapshot: let Envoy balance, or answer 503 |
// | decisionBytesMax | 28672 | 1024 … 16777216 | body bytes waited for before deciding |
// | modelWaitBytesMax | decisionBytesMax | 0 … 16777216 | the same where several models are served |
// | rewriteBytesMax | 983040 | 1024 … 1048576 | body bytes held where the model may have to be rewritten |
// | trustModelRewriteHeader | false | true, false | x-llm-d-model-name-rewrite names the model where no rule does |
// | bodyBytesMax | 16777216 | 1024 … 1073741824 | a longer content-length is answered 413 |
// | snapshotAgeMaxMs | 3000 | 100 … 600000 | older load figures are ignored |
// | destinations | 3 | 1 … 3 | endpoints in the destination header: the pick and its fallbacks |
// | retryBackoffMinMs | 1000 | 10 … 3600000 | a host that fails is set aside for this long at first |
// | retryBackoffMaxMs | 60000 | retryBackoffMinMs … 3600000 | and for this long at most |
// | responseSampleEvery | 16 | 0 … 65535 | every n-th stream's response is read for usage; 0 = none |
// | tickMs | 5 | 1 … 1000 | how often other workers' cells and journals are read |
// | exposeDecision | false | true, false | set each decision as filter state, for access logs |
// | debug.explain | false | true, false | tell a client that sends x-epp-explain: 1 why its endpoint was chosen |
// | unknownLoad | idle | idle, mean | unpublished load: llm-d's reading, or the others' mean |
import { treeTextLen, treeTextPtr } from "../json/tree";
import { DESTINATIONS_MAX, POOL_NAME_BYTES_MAX } from "../wire/limits";
import { pathBack, pathMark, pathMember } from "./errors";
import {
  boolField,
  choiceField,
  objectBegin,
  objectEnd,
  objectField,
  refuseField,
  textField,
  wholeField,
} from "./fields";
import { slotSettings, slotText } from "./slots";

const BODY_BYTES_DEFAULT: f64 = 16777216;
const DECISION_BYTES_DEFAULT: f64 = 28672;
/** Below Envoy's default buffer limit of 1 MiB, so that a chunk more does not end in its 413. */
const REWRITE_BYTES_DEFAULT: f64 = 983040;
const SNAPSHOT_AGE_MS_DEFAULT: f64 = 3000;
const BACKOFF_MIN_MS_DEFAULT: f64 = 1000;
const BACKOFF_MAX_MS_DEFAULT: f64 = 60000;
const SAMPLE_EVERY_DEFAULT: f64 = 16;
const TICK_MS_DEFAULT: f64 = 5;

//   ┌ settings, 128 bytes ────────────────────────────────────────────────────────────────┐
//   │ 0 u32 decision bytes  4 u32 model wait bytes  8 u32 body bytes  12 u32 pool (Text)   │
//   │ 16 f64 snapshot age ms  24 f64 back-off min ms  32 f64 back-off max ms               │
//   │ 40 u32 sample every  44 u32 tick ms  48 u32 destinations                             │
//   │ 52 u8 fail closed  53 u8 expose decision  54 u8 unknown load is the mean             │
//   │ 55 u8 trust the model rewrite header   56 u32 rewrite bytes   60 u8 explain          │
//   └──────────────────────────────────────────────────────────────────────────────────────┘
export const SETTING_DECISION_BYTES: usize = 0;
export const SETTING_MODEL_WAIT_BYTES: usize = 4;
export const SETTING_BODY_BYTES: usize = 8;
export const SETTING_POOL: usize = 12;
export const SETTING_SNAPSHOT_AGE_MS: usize = 16;
export const SETTING_BACKOFF_MIN_MS: usize = 24;
export const SETTING_BACKOFF_MAX_MS: usize = 32;
export const SETTING_SAMPLE_EVERY: usize = 40;
export const SETTING_TICK_MS: usize = 44;
export const SETTING_DESTINATIONS: usize = 48;
export const SETTING_FAIL_CLOSED: usize = 52;
export const SETTING_EXPOSE_DECISION: usize = 53;
export const SETTING_UNKNOWN_MEAN: usize = 54;
export const SETTING_TRUST_MODEL: usize = 55;
export const SETTING_REWRITE_BYTES: usize = 56;
export const SETTING_EXPLAIN: usize = 60;

/** Fills a slot's settings with their defaults. */
export function gatewayDefaults(slot: usize): void {
  const settings = slotSettings(slot);
  store<u32>(settings, <u32>DECISION_BYTES_DEFAULT, SETTING_DECISION_BYTES);
  store<u32>(settings, <u32>DECISION_BYTES_DEFAULT, SETTING_MODEL_WAIT_BYTES);
  store<u32>(settings, <u32>BODY_BYTES_DEFAULT, SETTING_BODY_BYTES);
  store<u32>(settings, <u32>REWRITE_BYTES_DEFAULT, SETTING_REWRITE_BYTES);
  store<f64>(settings, SNAPSHOT_AGE_MS_DEFAULT, SETTING_SNAPSHOT_AGE_MS);
  store<f64>(settings, BACKOFF_MIN_MS_DEFAULT, SETTING_BACKOFF_MIN_MS);
  store<f64>(settings, BACKOFF_MAX_MS_DEFAULT, SETTING_BACKOFF_MAX_MS);
  store<u32>(settings, <u32>SAMPLE_EVERY_DEFAULT, SETTING_SAMPLE_EVERY);
  store<u32>(settings, <u32>TICK_MS_DEFAULT, SETTING_TICK_MS);
  store<u32>(settings, DESTINATIONS_MAX, SETTING_DESTINATIONS);
}

/** Reads the parameters into the slot. False: refused. */
export function gatewayParameters(node: i32, slot: usize): bool {
  const settings = slotSettings(slot);
  objectBegin(node);
  readPool(slot, settings);
  store<u8>(settings, <u8>choiceField("fail", "open", "closed", '"open" or "closed"'), SETTING_FAIL_CLOSED);
  readBytes(settings);
  readTimes(settings);
  const destinations = wholeField(
    "destinations",
    DESTINATIONS_MAX,
    1,
    DESTINATIONS_MAX,
    "a whole number, 1 to 3",
  );
  store<u32>(settings, <u32>destinations, SETTING_DESTINATIONS);
  const every = wholeField(
    "responseSampleEvery",
    SAMPLE_EVERY_DEFAULT,
    0,
    65535,
    "a whole number, 0 to 65535",
  );
  store<u32>(settings, <u32>every, SETTING_SAMPLE_EVERY);
  store<u8>(settings, boolField("exposeDecision", false) ? 1 : 0, SETTING_EXPOSE_DECISION);
  readDebug(settings);
  store<u8>(settings, boolField("trustModelRewriteHeader", false) ? 1 : 0, SETTING_TRUST_MODEL);
  store<u8>(
    settings,
    <u8>choiceField("unknownLoad", "idle", "mean", '"idle" or "mean"'),
    SETTING_UNKNOWN_MEAN,
  );
  return objectEnd();
}

function readDebug(settings: usize): void {
  const debug = objectField("debug");
  const mark = pathMark();
  pathMember("debug");
  objectBegin(debug);
  store<u8>(settings, boolField("explain", false) ? 1 : 0, SETTING_EXPLAIN);
  objectEnd();
  pathBack(mark);
}

function readPool(slot: usize, settings: usize): void {
  const pool = textField("pool");
  if (pool < 0) return;
  const bytes = treeTextLen(pool);
  let text: usize = 0;
  if (bytes <= <u32>POOL_NAME_BYTES_MAX) text = slotText(slot, treeTextPtr(pool), bytes);
  if (text == 0) refuseField("pool", pool, "a name of at most 253 bytes");
  store<u32>(settings, <u32>text, SETTING_POOL);
}

function readBytes(settings: usize): void {
  const decision = wholeField(
    "decisionBytesMax",
    DECISION_BYTES_DEFAULT,
    1024,
    16777216,
    "a whole number of bytes, 1024 to 16777216",
  );
  store<u32>(settings, <u32>decision, SETTING_DECISION_BYTES);
  const wait = wholeField(
    "modelWaitBytesMax",
    decision,
    0,
    16777216,
    "a whole number of bytes, 0 to 16777216",
  );
  store<u32>(settings, <u32>wait, SETTING_MODEL_WAIT_BYTES);
  const rewrite = wholeField(
    "rewriteBytesMax",
    REWRITE_BYTES_DEFAULT,
    1024,
    1048576,
    "a whole number of bytes, 1024 to 1048576",
  );
  store<u32>(settings, <u32>rewrite, SETTING_REWRITE_BYTES);
  const body = wholeField(
    "bodyBytesMax",
    BODY_BYTES_DEFAULT,
    1024,
    1073741824,
    "a whole number of bytes, 1024 to 1073741824",
  );
  store<u32>(settings, <u32>body, SETTING_BODY_BYTES);
}

function readTimes(settings: usize): void {
  const age = wholeField(
    "snapshotAgeMaxMs",
    SNAPSHOT_AGE_MS_DEFAULT,
    100,
    600000,
    "a whole number of ms, 100 to 600000",
  );
  store<f64>(settings, age, SETTING_SNAPSHOT_AGE_MS);
  const least = wholeField(
    "retryBackoffMinMs",
    BACKOFF_MIN_MS_DEFAULT,
    10,
    3600000,
    "a whole number of ms, 10 to 3600000",
  );
  store<f64>(settings, least, SETTING_BACKOFF_MIN_MS);
  const most = wholeField(
    "retryBackoffMaxMs",
    Math.max(BACKOFF_MAX_MS_DEFAULT, least),
    least,
    3600000,
    "a whole number of ms, retryBackoffMinMs to 3600000",
  );
  store<f64>(settings, most, SETTING_BACKOFF_MAX_MS);
  const tick = wholeField("tickMs", TICK_MS_DEFAULT, 1, 1000, "a whole number of ms, 1 to 1000");
  store<u32>(settings, <u32>tick, SETTING_TICK_MS);
}
